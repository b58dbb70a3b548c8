"""Normalizing flows and forecasts by quantiles, with a mistake each; and their twins."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.degenerate.no_density import likelihood_of_noise
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.checks.optim.rate_too_high import LR_TOO_HIGH
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.learning import learning_of
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


class Flow(nn.Module):
    """Affine couplings, whose network is asked by `log_prob` alone."""

    def __init__(self, sign: float = 1.0, depth: int = 5, dim: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sign = sign
        self.masks = [(torch.arange(dim) % 2 == number % 2).float() for number in range(depth)]
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2 * dim))
            for _ in self.masks
        )

    def log_prob(self, x: Tensor) -> Tensor:
        log_det = torch.zeros(len(x))
        for mask, net in zip(self.masks, self.nets, strict=True):
            shift, scale = net(x * mask).chunk(2, 1)
            scale = 2 * torch.tanh(scale / 2) * (1 - mask)
            x, log_det = x * scale.exp() + shift * (1 - mask), log_det + scale.sum(1)
        base = (-0.5 * x**2 - 0.5 * math.log(2 * math.pi)).sum(1)
        return base + self.sign * log_det


def sensors(standard: bool = True) -> DataLoader[Any]:
    """Six columns that two causes drive, in units of their own unless they are standardized."""
    generator = torch.Generator().manual_seed(0)
    causes = torch.rand(1280, 2, generator=generator)
    x = torch.cat([causes, causes**2, (3 * causes).sin()], 1) + 0.05 * torch.randn(1280, 6, generator=generator)
    x = (x - x.mean(0)) / x.std(0)
    units = torch.tensor([300.0, 9e4, 5.0, 1e-3, 20.0, 1.0])
    return DataLoader(TensorDataset(x if standard else (x + 3) * units), 64)


def likelihood(sign: float = -1.0) -> Any:
    """A step that clips gradients as flows' do, and gives back the log likelihood times `sign`."""

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value: Tensor = sign * model.log_prob(batch[0]).mean()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return value.detach()

    return step


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "right"), [(0.1, False), (1e-3, True)])
def test_a_likelihood_that_leaps_has_too_high_a_rate(rate: float, right: bool) -> None:
    flow = Flow()
    options: Any = {"optimizer": torch.optim.Adam(flow.parameters(), rate), "step": likelihood(), "task": "regress"}
    assert [one.code for one in asked(LR_TOO_HIGH, flow, sensors(), **options)] == ["optim.lr-too-high"] * (not right)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_is_maximized_is_learned_as_it_grows(sign: float) -> None:
    flow = Flow()
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3, maximize=sign > 0)
    setup = make_setup(flow, sensors(), optimizer=optimizer, step=likelihood(sign), task="regress")
    assert learning_of(Evidence(setup, Clock(60.0))).shown


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "maximize"), [(1.0, False), (-1.0, False), (1.0, True), (-1.0, True)])
def test_a_density_adds_up_to_one(sign: float, maximize: bool) -> None:
    flow = Flow(sign)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3, maximize=maximize)
    step = likelihood(1.0 if maximize else -1.0)
    setup = make_setup(flow, sensors(), optimizer=optimizer, step=step, task="regress")
    assert (likelihood_of_noise(Evidence(setup, Clock(60.0))) is None) == (sign > 0)
    if sign < 0:
        assert [one.code for one in DEGENERATE.run(Evidence(setup, Clock(60.0)))] == ["loss.degenerate"]


@pytest.mark.slow
@pytest.mark.parametrize("standard", [True, False])
def test_columns_in_units_of_their_own_go_into_no_flow(standard: bool) -> None:
    flow = Flow(depth=3)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    options: Any = {"optimizer": optimizer, "step": likelihood(), "task": "regress"}
    said = asked(NOT_NORMALIZED, flow, sensors(standard), **options)
    assert [one.code for one in said] == ["data.not-normalized"] * (not standard)


def pinball(quantiles: list[float], turned: bool = False) -> Any:
    """A step of forecasts (N, 4, K), whose loss has its sides exchanged where it is `turned`."""
    wanted = torch.tensor(quantiles)

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        error = (batch[1].unsqueeze(-1) - model(batch[0])) * (-1 if turned else 1)
        value = torch.maximum(wanted * error, (wanted - 1) * error).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def forecasts(size: float = 1.0) -> DataLoader[Any]:
    """What follows a few hours, in units of `size`."""
    x = torch.randn(640, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, size * (x[:, :4] + 0.3 * x[:, 4:] + (6 if size > 1 else 0))), 32)


def forecaster(quantiles: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4 * quantiles), nn.Unflatten(1, (4, quantiles)))


@pytest.mark.parametrize(
    ("listed", "turned", "right"),
    [
        ([0.1, 0.5, 0.9], True, False),
        ([0.1, 0.5, 0.9], False, True),
        ([0.9, 0.5, 0.1], False, True),
        ([0.5, 0.8], True, False),
    ],
)
def test_quantiles_are_those_that_the_script_lists(listed: list[float], turned: bool, right: bool) -> None:
    model = forecaster(len(listed))
    source = ScriptSource({}, {"levels": listed}, ("script.py", 1, 2), None)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": pinball(listed, turned)}
    setup = make_setup(model, forecasts(), task="regress", source=source, **options)
    said = list(WRONG_FOR_TASK.run(Evidence(setup, Clock(60.0))))
    assert ["lists the quantiles" in one.measured for one in said] == [True] * (not right)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_quantiles_of_large_numbers_are_out_of_reach(size: float) -> None:
    model = forecaster(3)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": pinball([0.1, 0.5, 0.9])}
    setup = make_setup(model, forecasts(size), task="regress", **options)
    if size > 1:
        assert [one.code for one in TARGET_SCALE.run(Evidence(setup, Clock(60.0)))] == ["data.target-scale"]
    else:
        with pytest.raises(NoEvidence):
            list(TARGET_SCALE.run(Evidence(setup, Clock(60.0))))
