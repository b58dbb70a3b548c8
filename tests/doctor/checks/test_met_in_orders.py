"""Orders of tags, of triplets and of steps, and what is far larger than it should be: faults that were met in scripts,
and their healthy twins."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from test_met_in_galleries import Embedding
from test_met_in_second_heads import asked_or_silent, stepped
from test_met_in_triplets import Triplets, step_of_triplets
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.script.training_loop import find_loop


class Asked(BaseException):
    """Ends a step as soon as the network is called."""


def test_what_is_asked_only_makes_no_step(tmp_path: Path) -> None:
    """Else an evaluation at each so many steps comes between questions, with batches of its own."""
    file = tmp_path / "script.py"
    file.write_text(
        "def run(model):\n"
        "    for number in range(99):\n"
        "        numbers.append(number)\n"
        "        xb, yb = draw()\n"
        "        loss = model(xb) + yb\n"
        "        found.append(inspect.currentframe())\n"
        "        return\n"
    )
    found: list[Any] = []
    numbers: list[int] = []
    network = nn.Linear(2, 1)
    names = {"found": found, "inspect": inspect, "numbers": numbers, "draw": lambda: (torch.ones(4, 2), torch.ones(4))}
    names["__name__"] = "__main__"
    exec(compile(file.read_text(), str(file), "exec"), names)
    names["run"](network)
    loop = find_loop(found)
    assert loop is not None
    numbers.clear()

    def ask(*_: Any) -> None:
        raise Asked

    hook = network.register_forward_pre_hook(ask)
    for _ in range(3):
        with pytest.raises(Asked):
            loop.step(network, next(iter(loop.batches)), None, None)
    hook.remove()
    for _ in range(2):
        loop.step(network, next(iter(loop.batches)), None, None)
    assert numbers == [1, 1, 1, 1, 2]


class Wave(nn.Module):
    """An embedding of waves (1, 64), by their spectra."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(33, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.fft.rfft(x[:, 0]).abs().log1p())


@pytest.mark.parametrize("swapped", [True, False])
def test_short_waves_that_begin_at_any_time(swapped: bool) -> None:
    torch.manual_seed(0)
    kinds = torch.arange(160) % 2
    parts = [((kinds + k) % 2, 6.28 * torch.rand(160, 1)) for k in (0, 0, 1)]
    waves = [torch.sin(6.28 * (3 + 5 * kind[:, None]) * torch.arange(64) / 64 + phase) for kind, phase in parts]
    anchor, near, far = (wave[:, None] + 0.2 * torch.randn(160, 1, 64) for wave in waves)
    data = TensorDataset(anchor, far, near) if swapped else TensorDataset(anchor, near, far)
    model = Wave()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets}
    said = asked_or_silent(PAIRS_SWAPPED, model, DataLoader(data, 32), **options)
    assert [one.code for one in said] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("labeled", [True, False])
def test_pairs_of_which_the_loss_asks_no_label_are_of_one_kind(labeled: bool) -> None:
    """As views of which those that are near already are pushed a little."""
    torch.manual_seed(0)
    equal = torch.arange(320) % 2
    kinds = torch.randint(0, 2, (320,))
    one, other = (
        torch.sin(6.28 * (3 + 5 * kind[:, None]) * torch.arange(64) / 64 + 6.28 * torch.rand(320, 1))[:, None]
        for kind in (kinds, torch.where(equal == 1, kinds, 1 - kinds))
    )

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        apart = (model(batch[0]) - model(batch[1])).square().mean(1)
        near = batch[2] == 1 if labeled else apart < apart.median()
        return stepped(model, torch.where(near, -apart.clamp(max=9), apart).mean(), optimizer)

    model = Wave()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = asked_or_silent(PAIRS_SWAPPED, model, DataLoader(TensorDataset(one, other, equal), 32), **options)
    assert [one.code for one in said] == ["loss.pairs-swapped"] * labeled


@pytest.mark.parametrize("size", [1000.0, 1.0])
def test_quantiles_of_a_target_with_an_axis_of_its_own(size: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(320, 8)
    wanted = torch.tensor([0.1, 0.5, 0.9])

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        error = batch[1] - model(batch[0])
        return stepped(model, torch.maximum(wanted * error, (wanted - 1) * error).mean(), optimizer)

    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 3e-3), "step": step}
    train = DataLoader(TensorDataset(x, size * (x[:, :1] + 4 * (size > 1))), 32)
    said = asked_or_silent(TARGET_SCALE, model, train, **options)
    assert [one.code for one in said] == ["data.target-scale"] * (size > 1)


@pytest.mark.parametrize(("order", "wrong"), [("kinds", True), ("chance", False), ("lengths", False)])
def test_tagged_sentences_in_the_order_of_their_kinds(order: str, wrong: bool) -> None:
    """Not in that of their lengths, though long ones have more tags."""
    torch.manual_seed(0)
    length, kind = torch.randint(3, 13, (480,)), torch.arange(480) // 120
    words = torch.randint(1, 9, (480, 12))
    tags = torch.where(words < 4, kind[:, None] % 4, 4)
    by = {"kinds": torch.arange(480), "chance": torch.randperm(480), "lengths": length.argsort()}[order]
    batches = []
    for rows in by.split(32):
        width = int(length[rows].max())
        beyond = torch.arange(width) >= length[rows, None]
        batches.append((words[rows, :width].masked_fill(beyond, 0), tags[rows, :width].masked_fill(beyond, -100)))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())
        return stepped(model, loss, optimizer)

    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 5))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = asked_or_silent(NOT_SHUFFLED, model, batches, **options)
    assert [one.code for one in said] == ["data.not-shuffled"] * wrong


class Noisy(Triplets):
    """With noise before the numbers are clamped."""

    def __init__(self, images: Tensor, labels: Any, size: float) -> None:
        super().__init__(images, labels)
        self.size = size

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        given = super().__getitem__(number)
        return tuple((part + self.size * torch.randn_like(part)).clamp(0, 1) for part in given)


@pytest.mark.parametrize(("size", "wrong"), [(12.0, True), (0.05, False)])
def test_noise_that_is_clamped_is_no_larger_than_images(size: float, wrong: bool) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(240, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3), torch.arange(240) % 3
    train = DataLoader(Noisy(images[:160], labels[:160], size), 40)
    val = DataLoader(TensorDataset(images[160:], labels[160:]), 40)
    model = Embedding()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets, "val": val}
    said = asked_or_silent(AUGMENTATION, model, train, **options)
    assert ["two draws of the same training sample" in one.measured for one in said] == [True] * wrong
