"""Weights beside a network, rates of a millionth, and faults of stages, clips and cohorts that were met in scripts; and
their healthy twins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_second_heads import asked_or_silent, stepped
from test_met_in_survival import patients, sorted_cox
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.eval.metric_functions import untrue_metrics
from striate.doctor.checks.model.idle_parameters import FROZEN_PARAMETERS, UNUSED_PARAMETERS
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW
from striate.doctor.checks.optim.steps import PARAMETERS_MISSING
from striate.doctor.script.functional_weights import holding, weights_beside

CONCORDANCE = """
def concordance(risk, times, died):
    first = (times[:, None] < times[None, :]) & (died[:, None] == 1)
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return (higher * first).sum() / COUNT
for x, y in loader:
    pass
"""


@pytest.mark.parametrize("count", ["first.size", "first.sum()", "max(first.sum(), 1)"])
def test_a_concordance_is_one_where_all_risks_are_in_order(count: str) -> None:
    names: dict[str, Any] = {"np": np}
    text = CONCORDANCE.replace("COUNT", count)
    exec(text[: text.index("for x")], names)
    said = read(text, SimpleNamespace(run=untrue_metrics), perceptron(), digits(), names=names)
    assert ["0.4286 at most" in one.measured for one in said] == [True] * (count == "first.size")


def test_a_network_with_gradients_of_its_own_is_not_trained_elsewhere() -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    inner = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    x, y = next(iter(digits()))
    for weights in ({}, inner):
        functional.cross_entropy(functional_call(model, weights, x), y).backward()
    assert not weights_beside(model, optimizer, {"inner": inner})


@pytest.mark.parametrize("of_network", [True, False])
def test_an_optimizer_of_the_network_s_own_weights_beside_those_that_are_trained(of_network: bool) -> None:
    model = perceptron()
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    names = {"rates": dict.fromkeys(params, 0.1), "average": {k: p.detach() for k, p in params.items()}, "own": params}
    optimizer = torch.optim.Adam(model.parameters() if of_network else params.values(), 1e-3)

    def step(_: Any, batch: Any, optimizer: Any, __: Any) -> Tensor:
        return stepped(model, functional.cross_entropy(functional_call(model, params, batch[0]), batch[1]), optimizer)

    step(model, next(iter(digits())), optimizer, None)
    weights = weights_beside(model, optimizer, names)
    assert weights is params
    with holding(model, weights):
        unused = asked(UNUSED_PARAMETERS, model, digits(most=128), optimizer=optimizer, step=step)
        found = asked(PARAMETERS_MISSING, model, digits(most=128), optimizer=optimizer, step=step)
    assert not unused
    assert ["none of the 4 parameters" in one.measured for one in found] == [True] * of_network


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-6, 1e-2])
def test_a_rate_of_a_millionth_for_a_loss_without_a_known_chance(rate: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(model, sorted_cox(model(batch[0]).squeeze(1), *batch[1:]), optimizer)

    options: Any = {"loss": functional.mse_loss, "optimizer": torch.optim.AdamW(model.parameters(), rate), "step": step}
    found = asked(LR_TOO_LOW, model, patients(), **options)
    assert [one.severity for one in found] == ["error"] * (rate < 1e-3)


class Stages(nn.Sequential):
    """A small frozen stage, its batch norm in evaluation mode, or in that of the rest."""

    def __init__(self, evaluates: bool) -> None:
        super().__init__(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 32), nn.Linear(32, 10))
        self.evaluates = evaluates
        for part in (self[0], self[1]):
            part.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self[1].train(mode and not self.evaluates)
        return self


@pytest.mark.slow
@pytest.mark.parametrize("evaluates", [True, False])
def test_a_small_stage_frozen_with_its_batch_norm(evaluates: bool) -> None:
    torch.manual_seed(0)
    model = Stages(evaluates)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    found = asked(FROZEN_PARAMETERS, model, digits(), optimizer=optimizer)
    assert [(one.severity, "20%" in one.threshold) for one in found] == [("error", False)] * evaluates


def clips(count: int, seed: int) -> TensorDataset:
    """Four frames of a bar that moves to the right, to the left, or stays."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (count,), generator=generator)
    places = 3.5 + torch.arange(-1.5, 2)[None] * torch.tensor([1.0, -1.0, 0.0])[y][:, None]
    x = torch.exp(-((torch.arange(8)[None, None] - places[..., None]) ** 2) / 2)[:, :, None, None].repeat(1, 1, 1, 8, 1)
    return TensorDataset(x + 0.1 * torch.randn(x.shape, generator=generator), y)


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["kept", "exchanged"])
def test_clips_that_the_step_mirrors(labels: str) -> None:
    mirrored = torch.tensor([1, 0, 2] if labels == "exchanged" else [0, 1, 2])

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        flip = torch.rand(len(x)) < 0.5
        x, y = torch.where(flip[:, None, None, None, None], x.flip(-1), x), torch.where(flip, mirrored[y], y)
        return stepped(model, functional.cross_entropy(model(x), y), optimizer)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loaders = DataLoader(clips(320, 0), 40, shuffle=True), DataLoader(clips(160, 1), 40)
    found = asked_or_silent(AUGMENTATION, model, loaders[0], val=loaders[1], step=step, optimizer=optimizer)
    assert ["look like class 1" in one.measured for one in found] == [True] * (labels == "kept")
