"""Who tells how much of validation is predicted right: the trial's network, a simple model, the nearest sample."""

from __future__ import annotations

import pytest
import torch

from striate.doctor.checks.data.shift.judges import Judge
from striate.doctor.checks.data.shift.shift import _best
from striate.doctor.evidence.corrections import corrections


@pytest.mark.parametrize(("gained", "told"), [(-0.1, True), (0.1, False)])
def test_what_helps_training_inputs_too_undoes_nothing(gained: float, told: bool) -> None:
    """A network that is better at enlarged inputs, of training and of validation, was not shown other ones."""
    ways = [way for way in corrections(torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16)) if "cropped" in way.what]
    plain = torch.zeros(300)
    plain[:100] = 1
    judge = Judge("the network", 0.6, lambda _: plain + 0.3 * (plain == 0), lambda _: gained)
    assert (_best(judge, plain, ways) is not None) is told


@pytest.mark.parametrize(("beside", "told"), [(False, True), (True, False)])
def test_frames_of_a_film_are_hardly_more_evidence_than_one_of_them(beside: bool, told: bool) -> None:
    """The same gains of 256 samples, in any order, or as those of 16 films."""
    ways = [way for way in corrections(torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16)) if "cropped" in way.what]
    gains = torch.tensor([1.0, 0, 0, 1, 0, -1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0]).repeat_interleave(16)
    if not beside:
        gains = gains[torch.randperm(len(gains), generator=torch.Generator().manual_seed(0))]
    judge = Judge("the network", 0.9, lambda change: 0.5 + gains / 2 if change else torch.full((256,), 0.5))
    assert (_best(judge, judge.right(None), ways) is not None) is told
