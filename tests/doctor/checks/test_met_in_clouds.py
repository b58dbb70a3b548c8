"""Clouds of points and counts of claims, drawn by functions of the script's own: faults that were met in scripts, and
their healthy twins."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.causes import sort_out
from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.script.drawn_batches import drawing
from striate.doctor.script.iterated_loop import number_batches, numbers_like
from striate.records import Finding

X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))


def numbers(count: int, size: int) -> Iterator[Tensor]:
    yield from torch.randperm(count).split(size)


def without_end(count: int) -> Iterator[Tensor]:
    while True:
        yield torch.randint(count, (16,))


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("numbers(96, 16)", 6),
        ("enumerate(numbers(96, 16))", 6),
        ("DataLoader(torch.arange(96), 32)", 3),
        ("X.split(16)", 0),
        ("made", 0),
        ("(part for part in ())", 0),
    ],
)
def test_numbers_of_samples_may_be_yielded(given: str, count: int) -> None:
    """But a generator that the script itself goes on with is left to it."""
    target = "number, index" if "enumerate" in given else "index"
    (loop,) = ast.parse(f"for {target} in {given}:\n    x, y = X[index], Y[index]\n    loss = model(x) - y").body
    made = numbers(96, 16)
    names = {"numbers": numbers, "made": made, "X": X, "Y": X.sum(1), "model": nn.Linear(8, 1)}
    names |= {"DataLoader": DataLoader, "torch": torch}
    assert isinstance(loop, ast.For)
    assert number_batches(loop, names) == count
    assert len(list(made)) == 6
    if count:
        assert len(numbers_like(loop, names)) == 96
        found = drawing(loop, names)
        assert found is not None
        assert found[1] == ["x", "y"]
        assert len(torch.cat([found[2]()[0] for _ in range(count)]).unique(dim=0)) == 96


def test_numbers_of_samples_may_have_no_end() -> None:
    (loop,) = ast.parse("for index in without_end(96):\n    loss = model(X[index])").body
    assert isinstance(loop, ast.For)
    assert number_batches(loop, {"without_end": without_end}) > 1000


class Divided(nn.Module):
    def __init__(self, by_size: bool) -> None:
        super().__init__()
        self.layer, self.by_size = nn.Linear(8, 4), by_size

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) / (len(x) if self.by_size else 8)


@pytest.mark.parametrize("by_size", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_numbers_drawn_by_numpy_are_no_others_in_the_batch(by_size: bool, drawn: bool) -> None:
    """A step that draws scales and then shifts gives the samples of half a batch other shifts."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        if drawn:
            scales, shifts = np.random.uniform(0.9, 1.1, (len(x), 1)), np.random.uniform(-0.1, 0.1, (len(x), 1))
            x = x * torch.from_numpy(scales).float() + torch.from_numpy(shifts).float()
        return stepped(model, functional.cross_entropy(model(x), y), optimizer)

    model = Divided(by_size)
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    said = asked_or_silent(BATCH_MIXING, model, DataLoader(TensorDataset(X, torch.arange(96) % 4), 16), **options)
    assert [one.code for one in said] == ["model.batch-mixing"] * (by_size and not drawn)


@pytest.mark.parametrize("positive", [False, True])
def test_poisson_of_numbers_below_zero(positive: bool) -> None:
    model = nn.Linear(8, 1)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        rates = model(batch[0])[:, 0]
        rates = functional.softplus(rates) if positive else rates
        return stepped(model, functional.poisson_nll_loss(rates, batch[1], log_input=False), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    train = DataLoader(TensorDataset(X, torch.poisson(X[:, 0].exp())), 16)
    said = asked_or_silent(WRONG_FOR_TASK, model, train, **options)
    assert ["below 0" in one.measured for one in said] == [True] * (not positive)


def test_labels_look_random_to_a_network_whose_numbers_are_dropped() -> None:
    found = [Finding(code, "error", "", "", "", "", "") for code in ("data.labels-random", "model.dropout-too-high")]
    assert [one.code for one in sort_out(found)[0]] == ["model.dropout-too-high"]


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "normalizes"), [(1e-4, False), (1.0, False), (1e-3, True)])
def test_columns_that_hardly_vary_where_a_loss_has_no_end(scale: float, normalizes: bool) -> None:
    """Of counts: what is learned is their mean, as from zeros. A running variance comes from 1 to 1e-6 in 160 steps."""
    torch.manual_seed(0)
    x = torch.randn(480, 8)
    counts = torch.poisson((1.5 + x[:, :4].sum(1) / 2).exp())
    x[:, :7] *= scale
    start = [nn.BatchNorm1d(8, eps=1e-12)] if normalizes else []
    model = nn.Sequential(*start, nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 1), nn.Flatten(0))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "loss": nn.PoissonNLLLoss()}
    said = asked_or_silent(NOT_NORMALIZED, model, DataLoader(TensorDataset(x, counts), 48), **options)
    assert [one.code for one in said] == ["data.not-normalized"] * (scale < 1 and not normalizes)
