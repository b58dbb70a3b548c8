"""Clouds of points, clips in functional style, and splits in dictionaries: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_clouds import Divided
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.axes_dealt import AXES_DEALT
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.model.last_layer import DOUBLE_SOFTMAX
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import Watcher, number_of_weights


@pytest.mark.parametrize("twice", [True, False])
def test_softmax_of_what_comes_out_of_an_array(twice: bool) -> None:
    """Numbers that NumPy varies are of the batch."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x = torch.as_tensor(np.clip(batch[0].numpy(), -1, 1), dtype=torch.float32)
        return stepped(model, functional.cross_entropy(model(x), batch[1]), optimizer)

    model = nn.Sequential(*perceptron(), *[nn.Softmax(1)] * twice)
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    train = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 10), 32)
    found = asked(DOUBLE_SOFTMAX, model, train, **options)
    assert [one.code for one in found] == ["model.double-softmax"] * twice


class Places(nn.Module):
    """Places, times or points (N, …, C) or (N, …, C, H, W) to a convolution that wants channels first."""

    def __init__(self, shape: tuple[int, ...], read: str, learned: bool = False) -> None:
        super().__init__()
        self.learned, self.clips, self.read = learned, len(shape) == 4, read
        channels = shape[1]
        kind = nn.Conv3d if self.clips else nn.Conv1d
        self.before, self.first, self.last = nn.Linear(shape[-1], shape[-1]), kind(channels, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x) if self.learned else x
        x = x.transpose(1, 2) if self.read == "transpose" else x.reshape(len(x), x.shape[2], x.shape[1], *x.shape[3:])
        return self.last(self.first((x - 0.1).contiguous()).relu().flatten(2).amax(2))


@pytest.mark.parametrize("shape", [(6, 3, 4, 4), (16, 3)])
@pytest.mark.parametrize(("read", "learned"), [("reshape", False), ("reshape", True), ("transpose", False)])
def test_another_axis_read_as_channels(read: str, learned: bool, shape: tuple[int, ...]) -> None:
    """What weights have made may be cut into places."""
    model = Places(shape, read, learned)
    train = DataLoader(TensorDataset(torch.randn(64, *shape), torch.arange(64) % 2), 32)
    found = asked(AXES_DEALT, model, train, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    assert [one.code for one in found] == ["data.scrambled"] * (read == "reshape" and not learned)


@pytest.mark.parametrize("order", ["clouds", "points", "both", "back"])
def test_clouds_that_are_shuffled_for_their_points(order: str) -> None:
    """Known again though each is turned, brought into another shape, and like no cloud of the batch."""
    x, y = torch.randn(96, 12, 3), torch.arange(96) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        clouds, labels = batch
        index = torch.as_tensor(np.random.permutation(clouds.shape[order == "points"]))
        clouds = clouds[:, index] if order == "points" else clouds[index]
        labels = labels[index] if order == "both" else labels
        turns = torch.linalg.qr(torch.as_tensor(np.random.randn(len(clouds), 3, 3)).float())[0]
        outputs = model((clouds @ turns).transpose(1, 2))
        outputs = outputs[index.argsort()] if order == "back" else outputs
        return stepped(model, functional.cross_entropy(outputs, labels), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    said = asked_or_silent(STEP_LABELS, model, DataLoader(TensorDataset(x, y), 32), **options)
    assert [one.code for one in said] == ["data.step-labels"] * (order == "clouds")


def test_samples_and_labels_in_one_order_that_numpy_draws() -> None:
    model = perceptron()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        index = np.random.permutation(len(batch[0]))
        return stepped(model, functional.cross_entropy(model(batch[0][index]), batch[1][index]), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    train = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 10), 32)
    assert not asked_or_silent(STEP_LABELS, model, train, **options)


@pytest.mark.parametrize("shared", [True, False])
def test_parts_of_a_split_in_a_dictionary(shared: bool) -> None:
    x = torch.randn(100, 8)
    names = {"data": {"train": x[:80], "val": x[-80:] if shared else x[80:]}}
    said = asked_or_silent(SPLIT_OVERLAP, perceptron(), digits(), names=names)
    assert [one.where for one in said] == ["data['train'] and data['val']"] * shared


@pytest.mark.parametrize("template", [True, False])
def test_weights_that_hardly_move_at_first(template: bool) -> None:
    """As the rate rises."""
    model = nn.Linear(3, 4)
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(params.values(), 1e-9)
    watcher = Watcher(float("inf"), {id(model): "model"})
    watcher.of(model).before = number_of_weights(model)
    model.register_forward_pre_hook(watcher.enter)
    model.register_forward_hook(watcher.leave)
    apply = partial(functional_call, model, params)
    for _ in range(3):
        for _ in range(10):
            (apply(torch.randn(5, 3)) - 3).square().mean().backward()
            watcher.stepping(optimizer)
            optimizer.step()
            optimizer.param_groups[0]["lr"] *= 8 if watcher.run.steps < 10 else 1
        with torch.no_grad():
            (model if template else apply)(torch.randn(5, 3))
    watcher.of(model).after = number_of_weights(model)
    assert [one.code for one in findings_of(watcher.run)] == ["model.evaluates-untrained"] * template


@pytest.mark.parametrize("by_size", [False, True])
def test_numbers_drawn_by_a_generator_are_no_others_in_the_batch(by_size: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        if not by_size:
            x = x * torch.rand(len(x), 1, generator=generator) + torch.rand(len(x), 1, generator=generator)
        return stepped(model, functional.cross_entropy(model(x), y), optimizer)

    model = Divided(by_size)
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    train = DataLoader(TensorDataset(torch.randn(96, 8), torch.arange(96) % 4), 16)
    said = asked_or_silent(BATCH_MIXING, model, train, **options)
    assert [one.code for one in said] == ["model.batch-mixing"] * by_size
