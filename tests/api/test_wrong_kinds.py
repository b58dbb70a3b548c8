"""What is given in Python and is of the wrong kind is answered in our form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import striate
from striate.errors import StriateError

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a path for a module": (lambda: striate.explain(nn.Linear(4, 2), "rose.jpg"), "a str, for an nn.Module"),
    "not finite": (lambda: striate.explain(nn.Linear(4, 2), torch.full((4,), torch.nan)), "not a number"),
    "a module to evaluate": (lambda: striate.evaluate(nn.Linear(4, 2), "iris"), "a Linear"),  # type: ignore[arg-type]
    "a class to explain": (lambda: striate.explain(nn.Linear, "a.png"), "a type"),  # type: ignore[arg-type]
    "a class to evaluate": (lambda: striate.evaluate(nn.Linear, "iris"), "a type"),  # type: ignore[arg-type]
    "a loss by torch's name": (lambda: striate.train("iris", loss="cross_entropy"), "--task.loss cross-entropy"),
    "one run to compare": (lambda: striate.compare("runs/none"), "runs/none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_wrong_kind(case: str) -> None:
    call, said = WRONG[case]
    with pytest.raises(StriateError) as raised:
        call()
    assert said in str(raised.value)
