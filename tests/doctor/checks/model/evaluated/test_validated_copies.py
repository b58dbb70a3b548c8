"""Weights that a library's validation uses in place of the trained ones, and that no line of the script changes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from for_checks.asked import perceptron
from for_checks.scripts import found_in_library
from striate.doctor.checks.model.evaluated.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.setup.library_training import LibraryTraining

SCRIPT = """
class Averaged(Module):
    def validation_step(self, batch):
        return self.ema(batch[0])
    def HOOK:
        self.ema.update_parameters(self.net)
trainer.fit(model)
"""


class Module(nn.Module):
    """A library's class, whose trainer calls one method behind each epoch."""

    def on_train_epoch_end(self) -> None:
        """Of the user's to extend."""


class Averaged(Module):
    """A network that trains one part, beside an average of it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = perceptron()
        self.ema = copy.deepcopy(self.net).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is trained."""
        given: torch.Tensor = self.net(x)
        return given


@pytest.mark.parametrize(
    ("hook", "parts", "wrong"),
    [
        ("on_batch_end(self)", ("ema",), True),
        ("on_train_epoch_end(self)", ("ema",), False),  # the library calls it
        ("on_batch_end(self)", ("net",), False),
        ("on_batch_end(self)", ("net", "ema"), False),  # both are validated
    ],
)
def test_validation_of_an_average_that_is_never_updated_is_named(
    hook: str, parts: tuple[str, ...], wrong: bool
) -> None:
    model = Averaged()

    def evaluate(model: Any, batches: Iterable[Any]) -> dict[str, Any]:
        for x, _ in batches:
            for part in parts:
                getattr(model, part)(x)
        return {}

    library = LibraryTraining("Lightning's Trainer", 5, evaluate=evaluate)
    said = found_in_library(model, EVALUATES_UNTRAINED, SCRIPT.replace("HOOK", hook), {"Module": Module}, library)
    assert [finding.code for finding in said] == ["model.evaluates-untrained"] * wrong
    assert not wrong or "validation uses" in said[0].measured
