"""Models whose accuracy on validation is compared: the trial's network, a simple model, the nearest sample."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron, quick_adam
from striate.doctor.checks.data.shift import shift
from striate.doctor.checks.data.shift.scored_models import ScoredModel, scored_models
from striate.doctor.checks.data.shift.shift import _best_correction
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.corrections import corrections
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("gained", "told"), [(-0.1, True), (0.1, False)])
def test_what_helps_training_inputs_too_undoes_nothing(gained: float, told: bool) -> None:
    """A network that is better at enlarged inputs, of training and of validation, was not shown other ones."""
    ways = [way for way in corrections(torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16)) if "cropped" in way.what]
    plain = torch.zeros(300)
    plain[:100] = 1
    model = ScoredModel("the network", 0.6, lambda _: plain + 0.3 * (plain == 0), lambda _: gained)
    assert (_best_correction(model, plain, ways) is not None) is told


@pytest.mark.parametrize(("beside", "told"), [(False, True), (True, False)])
def test_frames_of_a_film_are_hardly_more_evidence_than_one_of_them(beside: bool, told: bool) -> None:
    """The same gains of 256 samples, in any order, or as those of 16 films."""
    ways = [way for way in corrections(torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16)) if "cropped" in way.what]
    gains = torch.tensor([1.0, 0, 0, 1, 0, -1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0]).repeat_interleave(16)
    if not beside:
        gains = gains[torch.randperm(len(gains), generator=torch.Generator().manual_seed(0))]
    model = ScoredModel("the network", 0.9, lambda change: 0.5 + gains / 2 if change else torch.full((256,), 0.5))
    assert (_best_correction(model, model.right(None), ways) is not None) is told


@pytest.mark.parametrize("shares", [True, False])
def test_a_network_that_learned_shares_of_classes_judges_too(shares: bool) -> None:
    x, y = digits().dataset[:]
    targets = 0.8 * functional.one_hot(y, 10) + 0.2 * functional.one_hot(y.roll(1), 10) if shares else y
    train = DataLoader(TensorDataset(x, targets), 32, shuffle=True)
    setup = make_setup(
        perceptron(), train, DataLoader(TensorDataset(x, y), 32), loss=nn.CrossEntropyLoss(), optimizer=quick_adam
    )
    evidence = Evidence(setup, Clock(60.0))
    first = next(iter(scored_models(evidence, evidence.samples.inputs, evidence.val_samples.inputs)))
    assert first.name == "the trial's network"
    assert first.train > 0.6
    assert float(first.right(None).mean()) > 0.6


@pytest.mark.parametrize(("train", "chance", "told"), [(0.58, 0.1, True), (0.58, 0.5, False), (0.8, 0.5, True)])
def test_who_hardly_learned_more_than_a_guess_is_no_judge(
    train: float, chance: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.58 of ten classes is much, of two it is nothing."""
    right = torch.arange(640) % 10 < 4
    model = ScoredModel(
        "the network", train, lambda change: right.double() if change is None else torch.ones(640), chance=chance
    )
    monkeypatch.setattr(shift, "scored_models", lambda *_: [model])
    found = asked(shift.SHIFT, perceptron(), digits(), val=digits(), loss=nn.CrossEntropyLoss(), optimizer=quick_adam)
    assert [finding.code for finding in found] == ["data.shift"] * told


@pytest.mark.parametrize(("away", "told"), [(0.2, False), (1.0, True)])
def test_a_forecast_of_later_months_is_worse_for_a_level_that_changed(
    away: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Series drift by parts of their standard deviation, also where both parts were prepared in the same way."""
    series = torch.randn(640, 24, 3, generator=torch.Generator().manual_seed(0))
    train, val = (DataLoader(TensorDataset(x, x.sum((1, 2)).unsqueeze(1)), 32) for x in (series, series[:256] + away))
    held = series[:256] + away

    def right(change: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        mended = change is not None and abs(float(change(held).mean() - series.mean())) < 0.01
        return torch.full((256,), 0.9 if mended else 0.4)

    model = ScoredModel("the network", 0.9, right, numbers=True)
    monkeypatch.setattr(shift, "scored_models", lambda *_: [model])
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 1))
    found = asked(shift.SHIFT, network, train, val=val, loss=nn.MSELoss(), optimizer=quick_adam)
    assert [finding.code for finding in found] == ["data.shift"] * told
