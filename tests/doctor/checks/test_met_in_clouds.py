"""Clouds of points and counts of claims, drawn by functions of the script's own: faults that were met in scripts, and
their healthy twins."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from striate.doctor.script.drawn_batches import drawing
from striate.doctor.script.iterated_loop import number_batches, numbers_like

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
