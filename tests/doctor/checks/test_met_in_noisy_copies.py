"""Denoisers, clips and records: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from test_met_in_second_heads import TwoHeads, asked_or_silent, stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.setup.preserved_state import outside_autocast


@pytest.mark.parametrize("within", [False, True])
def test_weights_that_change_are_cast_anew(within: bool) -> None:
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(1, 4)
    given, made_before = [], torch.autocast("cpu", torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16) if within else nullcontext():
        with outside_autocast():
            for _ in range(2):
                with made_before:
                    given.append(layer(x).detach())
                nn.init.zeros_(layer.weight)
        assert torch.is_autocast_enabled("cpu") == within
    assert bool(given[0].any())
    assert not bool(given[1].any())


class ClipNet(nn.Module):
    """Frames (N, T, D) to the last state of a recurrence; `mixing`: (N·T, D) is viewed as (T, N, D)."""

    def __init__(self, mixing: bool) -> None:
        super().__init__()
        self.mixing, self.embed, self.score = mixing, nn.Linear(4, 8), nn.Linear(8, 3)
        self.rnn = nn.GRU(8, 8, batch_first=not mixing)

    def forward(self, clips: Tensor) -> Tensor:
        samples, times = clips.shape[:2]
        h = self.embed(clips.flatten(0, 1))
        out, _ = self.rnn(h.view(times, samples, -1) if self.mixing else h.view(samples, times, -1))
        return self.score(out[-1] if self.mixing else out[:, -1])


@pytest.mark.parametrize("mixing", [False, True])
def test_what_a_generator_of_the_step_draws_is_no_blend(mixing: bool) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        gain = 0.8 + 0.4 * torch.rand(len(batch[0]), 1, 1, generator=generator)
        return stepped(model, functional.cross_entropy(model(gain * batch[0]), batch[1]), optimizer)

    model, data = ClipNet(mixing), TensorDataset(torch.randn(64, 5, 4), torch.arange(64) % 3)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "step": step}
    said = asked_or_silent(BATCH_MIXING, model, DataLoader(data, 16), **options)
    assert [one.code for one in said] == ["model.batch-mixing"] * mixing


@pytest.mark.parametrize("mean", [0.0, 20.0])
def test_outputs_that_stay_near_a_mean_of_0_are_no_matter_of_scale(mean: float) -> None:
    torch.manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        logits, size = model(batch[0])
        loss = functional.cross_entropy(logits, batch[1]) + functional.mse_loss(size, batch[2])
        return stepped(model, loss, optimizer)

    model = TwoHeads(3)
    nn.init.zeros_(model.second.weight)
    data = TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 3, mean + torch.randn(96))
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 1e-5), "step": step}
    said = asked_or_silent(TARGET_SCALE, model, DataLoader(data, 32), **options)
    assert [one.code for one in said] == ["data.target-scale"] * (mean > 0)


class Denoiser(nn.Module):
    """`wide`: numbers of a sample that it lets pass."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.down, self.up, self.level = nn.Linear(64, wide), nn.Linear(wide, 64), nn.Linear(1, wide)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        hidden = functional.relu(self.down(x.flatten(1)) + self.level(level))
        return self.up(hidden).view_as(x)


@pytest.mark.parametrize(
    ("own", "told", "wide", "wrong"),
    [(True, True, 96, True), (False, True, 96, False), (True, False, 96, False), (True, True, 16, False)],
)
def test_noise_added_in_place_is_asked_for(own: bool, told: bool, wide: int, wrong: bool) -> None:
    """`own`: the target is the noisy picture; `told`: the level is that of its noise."""
    torch.manual_seed(0)
    clean = functional.interpolate(torch.randn(96, 1, 3, 3), size=(8, 8), mode="bilinear")
    sigma = 0.3 + 0.7 * torch.rand(96, 1)
    noisy = clean + sigma[..., None, None] * torch.randn_like(clean)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, level, y = batch
        return stepped(model, functional.mse_loss(model(x, level), y), optimizer)

    model = Denoiser(wide)
    data = TensorDataset(noisy, sigma if told else torch.rand(96, 1), noisy if own else clean)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters()), "step": step}
    said = asked_or_silent(TARGET_IN_INPUT, model, DataLoader(data, 32), **options)
    assert [one.code for one in said] == ["data.target-in-input"] * wrong
