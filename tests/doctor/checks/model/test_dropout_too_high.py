"""`model.dropout-too-high`: does dropout leave too little to learn from?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from for_checks.asked import adam, asked, digits, quick_adam, read
from for_checks.networks import Middle
from striate.doctor.checks.model.dropout_too_high import DROPOUT_TOO_HIGH


class IdleBranch(nn.Module):
    """Much of it may be dropped without harm."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.side, self.dropout, self.head = nn.Linear(64, 64), nn.Dropout(p), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> Any:
        x = x.flatten(1)
        return self.head(x + 0.01 * self.dropout(self.side(x)))


@pytest.mark.parametrize(
    ("given", "p", "wrong"),
    [("1 - dropout", 0.9, True), ("p=keep_prob", 0.8, True), ("dropout", 0.9, False), ("1 - keep_prob", 0.9, False)],
)
def test_names_tell_the_share_to_keep(given: str, p: float, wrong: bool) -> None:
    text = f"dropout = nn.Dropout({given})\nfor x, y in loader:\n    pass\n"
    assert len(read(text, DROPOUT_TOO_HIGH, IdleBranch(p), digits(), optimizer=adam)) == wrong


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("p", [0.9, 0.97])
@pytest.mark.parametrize("how", ["module", "function"])
def test_too_much_dropped(how: str, p: float) -> None:
    model = Middle(nn.Dropout(p) if how == "module" else lambda x: functional.dropout(x, p, training=True))
    (found,) = asked(DROPOUT_TOO_HIGH, model, digits(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.dropout-too-high", "error")
    judged = " in evaluation mode" if how == "module" else ""
    assert f"with 0.2 instead, the loss{judged} after" in found.measured


@pytest.mark.parametrize("part", [nn.Dropout(0.5), nn.Dropout(0.2), nn.ReLU()])
def test_as_much_dropped_as_is_usual(part: nn.Module) -> None:
    assert not asked(DROPOUT_TOO_HIGH, Middle(part), digits(), optimizer=quick_adam)


class DropsOutputs(nn.Module):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.first, self.last, self.where = nn.Linear(64, 24), nn.Linear(24, 10), where

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x.flatten(1)).relu()
        drop = functional.dropout
        if self.where == "hidden":
            return self.last(drop(hidden, 0.3, self.training))
        return drop(self.last(hidden), 0.3, self.training).reshape(-1, 10)


@pytest.mark.parametrize(("where", "wrong"), [("outputs", True), ("hidden", False)])
def test_outputs_that_are_dropped(where: str, wrong: bool) -> None:
    found = asked(DROPOUT_TOO_HIGH, DropsOutputs(where), digits(), optimizer=quick_adam)
    assert ["30 % of the outputs that `cross_entropy` gets" in one.measured for one in found] == [True] * wrong
