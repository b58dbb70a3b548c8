"""`model.sees-future`: does a network that predicts the next token read it from its input?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import quick_adam, said, stepped
from striate.doctor.checks.model.sees_future import CHECK, outputs_moved
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


class Never(nn.Module):
    """Scores of next words, of which the first is never meant; those of a mean over all positions see what comes."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.words, self.out, self.looks = nn.Embedding(20, 8), nn.Linear(8, 20), looks

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.words(x)
        hidden = hidden + hidden.mean(1, keepdim=True) if self.looks else hidden
        scores: Tensor = self.out(hidden)
        return scores.index_fill(2, torch.tensor([0]), -torch.inf)


@pytest.mark.parametrize("looks", [True, False])
def test_scores_of_minus_infinity_move_by_nothing(looks: bool) -> None:
    torch.manual_seed(0)
    words = torch.randint(1, 20, (64, 9))
    data = DataLoader(TensorDataset(words[:, :-1], words[:, 1:]), 32)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(net(batch[0]).flatten(0, 1), batch[1].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    model = Never(looks)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    evidence = Evidence(make_setup(model, data, None, optimizer=optimizer, step=step), Clock(120.0))

    def change(tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :4], tokens[:, 4:] % 19 + 1], 1)

    moved, deviation = outputs_moved(evidence, evidence.train.raw[0], (0,), change)
    assert (float(moved[:, :4].max()) > 1e-3 * deviation) is looks


class Reader(nn.Module):
    """Scores of words; `both`: reads from both ends; `decodes`: reads at each position the word before."""

    def __init__(self, both: bool, decodes: bool = False) -> None:
        super().__init__()
        self.decodes = decodes
        self.words, self.read = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True, bidirectional=both)
        self.out = nn.Linear(16 if both else 8, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1) if self.decodes else x
        scores: Tensor = self.out(self.read(self.words(x))[0])
        return scores


def test_a_decoder_shifts_its_targets_by_itself() -> None:
    torch.manual_seed(0)
    words = torch.randint(1, 20, (64, 9))
    data = DataLoader(TensorDataset(words, words), 32)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return stepped(functional.cross_entropy(net(batch[0]).flatten(0, 1), batch[1].flatten()), optimizer)

    assert not said(CHECK, Reader(False, decodes=True), data, step=step, optimizer=quick_adam)
    assert said(CHECK, Reader(False), data, step=step, optimizer=quick_adam)


@pytest.mark.each_nth(1)
@pytest.mark.parametrize(
    ("both", "shift", "inner", "found"),
    [
        (False, 0, False, True),
        (False, 0, True, True),
        (False, 1, False, False),
        (False, 1, True, False),
        (True, 0, False, False),  # as to reconstruct the words
    ],
)
def test_targets_that_are_not_shifted(both: bool, shift: int, inner: bool, found: bool) -> None:
    """`inner`: the targets are cut out of the words in the step."""
    torch.manual_seed(0)
    words = torch.randint(1, 20, (64, 9))
    data = DataLoader(TensorDataset(words[:, :8], words[:, shift : 8 + shift]), 32)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        given, wanted = batch
        scores, y = (net(given)[:, :-1], given[:, shift : 7 + shift]) if inner else (net(given), wanted)
        return stepped(functional.cross_entropy(scores.flatten(0, 1), y.flatten()), optimizer)

    told = said(CHECK, Reader(both), data, step=step, optimizer=quick_adam)
    assert ["the same position" in one.measured for one in told] == [True] * found


@pytest.mark.parametrize("both", [True, False])
def test_a_step_that_evaluates_first_is_asked_before_training(both: bool) -> None:
    """As each fiftieth one does: the outputs that come first are those of other words."""
    torch.manual_seed(0)
    words, held = torch.randint(1, 20, (64, 9)), torch.randint(1, 20, (32, 8))
    data = DataLoader(TensorDataset(words[:, :8], words[:, 1:]), 32)
    model = Reader(both)
    model.register_buffer("steps", torch.zeros(()))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        if net.steps:
            net(held)
        net.steps += 1
        return stepped(functional.cross_entropy(net(batch[0]).flatten(0, 1), batch[1].flatten()), optimizer)

    told = said(CHECK, model, data, step=step, optimizer=quick_adam)
    assert ["later tokens" in one.measured for one in told] == [True] * both
