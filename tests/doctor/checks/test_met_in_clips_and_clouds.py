"""Clips, clouds of points and spectrograms: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_second_heads import stepped
from test_source_checks import found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.augmentation.erased import erased_by_step
from striate.doctor.checks.data.augmentation.given import given_to_network
from striate.doctor.checks.data.inputs.axes_dealt import AXES_DEALT
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup

VALIDATED = """
def validate(network, batches):
    classifier = network{mode}
    for x, y in batches:
        with torch.no_grad():
            outputs = classifier(x)
for epoch in range(5):
    model.train()
    for x, y in loader:
        criterion(model(x), y).backward()
    validate(model, val_loader)
"""


@pytest.mark.parametrize("mode", ["", ".eval()"])
def test_a_network_may_be_called_by_another_name(mode: str) -> None:
    assert list(found(VALIDATED.format(mode=mode), values(), [MODE])) == ["eval.mode"] * (not mode)


class Points(nn.Module):
    """Points (N, 16, 3), turned by drawn numbers, or by weights, to a convolution that wants channels first."""

    def __init__(self, read: str, learned: bool) -> None:
        super().__init__()
        self.read, self.learned, self.turns = read, learned, nn.Parameter(torch.randn(3, 3))
        self.first, self.last = nn.Conv1d(3, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        turns = self.turns.expand(len(x), 3, 3) if self.learned else torch.randn(len(x), 3, 3)
        x = torch.bmm(x, turns)
        x = x.transpose(1, 2) if self.read == "transpose" else x.reshape(len(x), 3, -1)
        return self.last(self.first(x).relu().amax(2))


@pytest.mark.parametrize(("read", "learned"), [("reshape", False), ("reshape", True), ("transpose", False)])
def test_what_is_turned_by_drawn_numbers_is_not_learned(read: str, learned: bool) -> None:
    model, train = Points(read, learned), DataLoader(TensorDataset(torch.randn(64, 16, 3), torch.arange(64) % 2), 32)
    said = asked(AXES_DEALT, model, train, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    assert [one.code for one in said] == ["data.scrambled"] * (read == "reshape" and not learned)


class Clips(nn.Module):
    """Frames (N, T, D) to the last state of a recurrence; `mixing`: (N·T, D) is viewed as (T, N, D)."""

    def __init__(self, mixing: bool) -> None:
        super().__init__()
        self.mixing, self.embed, self.score = mixing, nn.Linear(16, 8), nn.Linear(8, 3)
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, clips: Tensor) -> Tensor:
        (n, t), frames = clips.shape[:2], self.embed(clips.flatten(0, 1))
        out, _ = self.rnn(frames.view(t, n, -1).transpose(0, 1) if self.mixing else frames.view(n, t, -1))
        return self.score(out[:, -1])


def clips() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(64, 5, 16), torch.arange(64) % 3), 16)


@pytest.mark.parametrize("mixing", [False, True])
def test_a_layer_with_batch_first_may_be_given_frames_of_others(mixing: bool) -> None:
    remedies = [str(one.remedy) for one in asked(BATCH_MIXING, Clips(mixing), clips(), loss=nn.CrossEntropyLoss())]
    assert ["x.view(n, t, -1)" in remedy and "batch_first" not in remedy for remedy in remedies] == [True] * mixing


@pytest.mark.slow
@pytest.mark.parametrize("blends", [False, True])
def test_blends_of_clips_are_not_asked_for_the_label_of_one(blends: bool) -> None:
    """Though the step gives the loss the labels as they come, and then those of the other clips."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        (x, y), order = batch, torch.randperm(len(batch[0]))
        outputs = model(0.7 * x + 0.3 * x[order] if blends else x + 0.1 * torch.randn_like(x))
        loss = functional.cross_entropy(outputs, y)
        return stepped(model, 0.7 * loss + 0.3 * functional.cross_entropy(outputs, y[order]), optimizer)

    model = Clips(mixing=False)
    setup = make_setup(model, clips(), optimizer=torch.optim.SGD(model.parameters(), 0.1), step=step)
    try:
        place = given_to_network(Evidence(setup, Clock(20.0))).place
    except NoEvidence:
        place = None
    assert place == (None if blends else "step")


@pytest.mark.parametrize(("kept", "anew", "wrong"), [(2, True, True), (6, True, False), (2, False, False)])
def test_a_step_masks_less_than_nearly_all(kept: int, anew: bool, wrong: bool) -> None:
    """What lies at the same places in each step is no augmentation."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        top, left = (torch.randint(0, 9 - kept, (2,)) if anew else torch.tensor([0, 6])).tolist()
        shown = torch.zeros_like(batch[0])
        shown[..., top : top + kept, left : left + kept] = batch[0][..., top : top + kept, left : left + kept]
        return stepped(model, functional.cross_entropy(model(shown), batch[1]), optimizer)

    model = perceptron()
    setup = make_setup(model, digits(most=256), optimizer=torch.optim.SGD(model.parameters(), 1e-3), step=step)
    said = erased_by_step(Evidence(setup, Clock(20.0)))
    assert (said is not None) == wrong
