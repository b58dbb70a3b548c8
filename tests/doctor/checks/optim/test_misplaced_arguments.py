"""Positional arguments of an optimizer that go to another parameter than intended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.optim.misplaced_arguments import MISPLACED

LOW, DECAY = ["optim.lr-too-low"], ["optim.weight-decay-too-high"]
WEIGHT_DECAY, MOMENTUM = 1e-8, 0.9


@pytest.mark.parametrize(
    ("call", "codes"),
    [
        ("RMSprop(parameters, lr, weight_decay, momentum)", LOW),
        ("RMSprop(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum)", []),
        ("RMSprop(parameters, lr, 0.99, 1e-8, weight_decay, momentum)", []),
        ("RMSprop(parameters, 1e-3, 1e-8, 0.9)", LOW),
        ("RMSprop(parameters, 1e-3, 0.99, 0.1)", []),  # as some learn from rewards
        ("RMSprop(parameters, lr, momentum)", []),  # as usual for alpha
        ("AdamW(parameters, lr, (0.9, 0.98), args.wd)", LOW),
        ("AdamW(parameters, lr, (0.9, 0.98), 1e-8, args.wd)", []),
        ("AdamW(parameters, lr, (0.9, 0.98), 0.01)", LOW),
        ("AdamW(parameters, lr, (0.9, 0.98), 0.01, 0.1)", []),
        ("AdamW(parameters, lr, (0.9, 0.98), adam_eps)", []),
        ("AdamW(parameters, lr, eps=0.01)", []),
        ("SGD(parameters, lr, momentum)", []),
        ("SGD(parameters, lr, weight_decay)", LOW),
        ("SGD(parameters, lr, weight_decay=weight_decay)", []),
        ("SGD(parameters, lr, no.weight_decay)", []),  # 0, as by default
        ("SGD(parameters, lr, 5e-4)", LOW),
        ("SGD(parameters, lr, 0.5)", []),
        ("SGD(parameters, lr, 5e-4, weight_decay=1e-4)", []),
        ("SGD(parameters, lr, weight_decay, momentum)", LOW),
        ("SGD(parameters, lr, 0.0, 0.0, momentum)", DECAY),
        ("SGD(*given)", []),
        ("Adagrad(parameters, lr, weight_decay)", LOW),
    ],
)
def test_arguments_by_place_are_those_of_their_parameters(call: str, codes: list[str]) -> None:
    torch.manual_seed(0)
    kind = getattr(torch.optim, call.partition("(")[0])
    names: dict[str, Any] = {
        "torch": torch, "lr": 1e-3, "weight_decay": WEIGHT_DECAY, "momentum": MOMENTUM, "adam_eps": 0.01,
        "no": SimpleNamespace(weight_decay=0.0),
    }  # fmt: skip
    text = f"optimizer = torch.optim.{call}\nfor x, y in loader:\n    pass\n"
    found = read(text, MISPLACED, perceptron(), digits(), names=names, optimizer=lambda p: kind(p, 1e-3))
    assert [one.code for one in found] == codes


def test_an_optimizer_that_does_not_train_is_ignored() -> None:
    text = "optimizer = torch.optim.RMSprop(parameters, lr, weight_decay, momentum)\nfor x, y in loader:\n    pass\n"
    names = {"torch": torch}
    assert not read(text, MISPLACED, perceptron(), digits(), names=names, optimizer=torch.optim.Adam)


@pytest.mark.parametrize(("betas", "codes"), [((0.999, 0.9), LOW), ((0.9, 0.999), []), ((0.0, 0.9), [])])
def test_betas_are_not_exchanged(betas: tuple[float, float], codes: list[str]) -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=betas)
    text = f"optimizer = torch.optim.AdamW(parameters, 1e-3, betas={betas})\nfor x, y in loader:\n    pass\n"
    names = {"torch": torch, "optimizer": optimizer}
    found = read(text, MISPLACED, model, digits(), names=names, optimizer=optimizer)
    assert [one.code for one in found] == codes
