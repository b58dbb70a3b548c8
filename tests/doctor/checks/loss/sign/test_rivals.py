"""`loss.sign`, `data.step-labels` and `model.graph-detached` of networks that train against each other: in which
direction do the losses push the discriminator's outputs?"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import digits
from striate.doctor.checks.loss.sign.rivals import RIVALS
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

Term = Callable[[Tensor], Tensor]


def _asked_for(value: float) -> Term:
    return lambda said: functional.binary_cross_entropy_with_logits(said, torch.full_like(said, value))


def _up(said: Tensor) -> Tensor:
    return -said.mean()


def _down(said: Tensor) -> Tensor:
    return said.mean()


def _said(
    real: Term,
    apart: Term,
    fooled: Term,
    *,
    reversed_order: bool = False,
    detached: bool = False,
    names: Callable[[nn.Module, Any], dict[str, Any]] = lambda draws, optimizer: {},  # noqa: ARG005
) -> list[tuple[str, str]]:
    torch.manual_seed(0)
    draws = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    judge = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    of_draws = torch.optim.Adam(draws.parameters(), 1e-3)

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        images = draws(torch.randn(len(batch[0]), 8))

        def judges() -> Tensor:
            optimizer.zero_grad()
            value = real(model(batch[0])) + apart(model(images.detach()))
            value.backward()
            optimizer.step()
            return value.detach()

        if not reversed_order:
            judges()
        of_draws.zero_grad()
        value = fooled(model(images.detach() if detached else images))
        value.backward()
        of_draws.step()
        return judges() if reversed_order else value.detach()

    source = ScriptSource({"t.py": ast.parse("pass")}, names(draws, of_draws), ("t.py", 1, 1), 1)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)
    setup = make_setup(judge, digits(), None, optimizer=optimizer, step=step, source=source)
    return [
        (finding.code, finding.measured) for finding in RIVALS.run(Evidence(replace(setup, rivals=True), Clock(120.0)))
    ]


@pytest.mark.parametrize("reversed_order", [False, True])
@pytest.mark.parametrize(
    "terms",
    [
        (_asked_for(1.0), _asked_for(0.0), _asked_for(1.0)),
        (_asked_for(0.9), _asked_for(0.1), _asked_for(1.0)),
        (_asked_for(0.0), _asked_for(1.0), _asked_for(0.0)),
        (_asked_for(1.0), _asked_for(0.0), lambda said: -_asked_for(0.0)(said)),
        (_up, _down, _up),
        (lambda x: functional.relu(1 - x).mean(), lambda x: functional.relu(1 + x).mean(), _up),
        (lambda x: (x - 1).square().mean(), lambda x: x.square().mean(), lambda x: (x - 1).square().mean()),
    ],
)
def test_losses_of_rivals_are_right(terms: tuple[Term, Term, Term], reversed_order: bool) -> None:
    assert _said(*terms, reversed_order=reversed_order) == []


@pytest.mark.parametrize(
    ("terms", "code", "part"),
    [
        ((_asked_for(1.0), _asked_for(1.0), _asked_for(1.0)), "data.step-labels", "too"),
        ((_asked_for(1.0), _asked_for(0.0), _asked_for(0.0)), "loss.sign", "for the images that it generates"),
        ((_up, _down, _down), "loss.sign", "for the images that it generates"),
        ((_up, _up, _up), "loss.sign", "too"),
    ],
)
def test_losses_of_rivals_are_wrong(terms: tuple[Term, Term, Term], code: str, part: str) -> None:
    ((found, measured),) = _said(*terms)
    assert found == code
    assert part in measured


@pytest.mark.parametrize("reversed_order", [False, True])
def test_who_draws_gets_a_gradient(reversed_order: bool) -> None:
    terms = _asked_for(1.0), _asked_for(0.0), _asked_for(1.0)
    ((found, _),) = _said(*terms, reversed_order=reversed_order, detached=True)
    assert found == "model.graph-detached"


@pytest.mark.parametrize("held", [True, False])
def test_who_draws_is_in_an_optimizer(held: bool) -> None:
    """Beside an average of it, which need not be."""
    terms = _asked_for(1.0), _asked_for(0.0), _asked_for(1.0)

    def names(draws: nn.Module, optimizer: Any) -> dict[str, Any]:
        return {"average": copy.deepcopy(draws), "draws": draws} | ({"optimizer": optimizer} if held else {})

    assert [code for code, _ in _said(*terms, names=names)] == ["optim.parameters-missing"] * (not held)


def test_one_network_has_no_rival() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert list(RIVALS.run(Evidence(make_setup(model, digits(), None), Clock(120.0)))) == []
