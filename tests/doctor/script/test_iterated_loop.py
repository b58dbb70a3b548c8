"""Loops that take their batches from iterators: with `next`, from several at once, or by numbers of samples."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from striate.doctor.script.drawn_batches import find_drawn_batches
from striate.doctor.script.iterated_loop import (
    FirstBatches,
    batches_by_next,
    count_index_batches,
    grouped_batches,
    indices_like,
    same_indices,
    zipped_batches,
    zipped_count,
)

X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))


def numbers(count: int, size: int) -> Iterator[Tensor]:
    yield from torch.randperm(count).split(size)


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
    assert count_index_batches(loop, names) == count
    assert len(list(made)) == 6
    if count:
        assert len(indices_like(loop, names)) == 96
        found = find_drawn_batches(loop, names)
        assert found is not None
        assert found[1] == ["x", "y"]
        assert len(torch.cat([found[2]()[0] for _ in range(count)]).unique(dim=0)) == 96


@pytest.mark.parametrize(("line", "count"), [("other = index[torch.randperm(len(index))]", 6), ("print(index)", 0)])
def test_numbers_of_samples_may_be_reordered(line: str, count: int) -> None:
    """As for the partners of blended samples."""
    (loop,) = ast.parse(f"for index in numbers(96, 16):\n    {line}\n    loss = model(X[index]) - Y[index]").body
    names = {"numbers": numbers, "X": X, "Y": X.sum(1), "model": nn.Linear(8, 1), "torch": torch}
    assert isinstance(loop, ast.For)
    assert count_index_batches(loop, names) == count


def without_end(count: int) -> Iterator[Tensor]:
    while True:
        yield torch.randint(count, (16,))


def test_numbers_of_samples_may_have_no_end() -> None:
    (loop,) = ast.parse("for index in without_end(96):\n    loss = model(X[index])").body
    assert isinstance(loop, ast.For)
    assert count_index_batches(loop, {"without_end": without_end}) > 1000


@pytest.mark.parametrize(
    ("head", "turns"), [("batch in loader", None), ("self.n, batch in zip(range(steps), loader)", 240)]
)
def test_turns_beside_batches_are_counted(head: str, turns: int | None) -> None:
    loop = ast.parse(f"for {head}:\n    pass").body[0]
    assert isinstance(loop, ast.For)
    assert zipped_count(loop, {"steps": 240, "loader": [], "self": None}) == turns


def test_samples_may_be_taken_out_of_a_list() -> None:
    names = {"order": torch.arange(64).split(16), "samples": list(range(64))}
    (loop,) = ast.parse("for i in order:\n    x = pad([samples[k] for k in i.tolist()])\n    len(i)").body
    assert isinstance(loop, ast.For)
    assert count_index_batches(loop, names) == 4


Y = X.sum(1)


@pytest.mark.parametrize("sample", [True, False])
def test_part_of_a_list_of_samples_is_no_group_of_batches(sample: bool) -> None:
    listed = [(x, y) for x, y in zip(X, Y, strict=True)] if sample else [(X, Y)] * 9
    (loop,) = ast.parse("for i in range(0, 96, 32):\n    x, y = zip(*listed[i : i + 32])").body
    assert isinstance(loop, ast.For)
    assert (grouped_batches(loop, {"listed": listed}) is None) == sample


@pytest.mark.parametrize(("stride", "size", "same"), [(0, 8, 4), (8, 8, 0), (0, 32, 0)])
def test_batches_of_a_pass_have_other_samples(stride: int, size: int, same: int) -> None:
    """One batch of all there are is the same in any order."""

    def batches() -> Iterator[Tensor]:
        order = torch.randperm(32)
        yield from (order[stride * number :][:size] for number in range(4))

    loop = ast.parse("for index in batches():\n    model(X[index])").body[0]
    assert isinstance(loop, ast.For)
    assert same_indices(loop, {"batches": batches}) == same


@pytest.mark.each_nth(1)
@pytest.mark.parametrize(
    ("body", "first"),
    [
        ("x = next(iter(in_order))", True),
        ("i = iter(in_order); x = next(i)", True),
        ("x = next(iter(in_order.dataset.split(32)))", False),  # the call makes the list, which may be another one
        ("x = next(iter(shuffled))", False),
        ("x = next(iter(whole))", False),
        ("x = next(made)", False),
    ],
)
def test_an_iterator_of_each_pass_yields_the_first_batch_again(body: str, first: bool) -> None:
    names: dict[str, Any] = {
        "in_order": DataLoader(X, 32),
        "shuffled": DataLoader(X, 32, shuffle=True),
        "whole": DataLoader(X, 96),
    }
    names |= {"made": iter(names["in_order"]), "i": iter(names["in_order"])}
    (loop,) = ast.parse(f"for n in range(9):\n    {body}").body
    assert isinstance(loop, ast.For)
    found = batches_by_next(loop, names)
    batches = None if found is None else found[0]
    assert isinstance(batches, FirstBatches) is first
    if isinstance(batches, FirstBatches):
        assert all(torch.equal(batch, X[:32]) for batch in batches)
        assert len(list(batches)) == 3


@pytest.mark.parametrize("numbered", [True, False])
def test_parts_that_are_zipped_stay_together(numbered: bool) -> None:
    x, y = torch.arange(20.0), torch.arange(20)
    head = (
        "i, (one, two) in enumerate(zip(x.split(8), y.split(8)))"
        if numbered
        else "one, two in zip(x.split(8), y.split(8))"
    )
    (loop,) = ast.parse(f"for {head}:\n    step(one, two)").body
    assert isinstance(loop, ast.For)
    together = zipped_batches(loop, {"x": x, "y": y})
    assert together is not None
    batches, body, iterators = together
    assert [one.tolist() == two.tolist() for one, two in batches] == [True] * 3
    assert iterators == {}
    assert ("__number__" in ast.unparse(ast.fix_missing_locations(body[0]))) is numbered
