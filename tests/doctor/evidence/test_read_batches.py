"""Batches as the user's loader yields them, read by a copy of it. Which positions of which data set a loader draws
from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, SequentialSampler, TensorDataset

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.read_batches import inputs_vary, repeats_samples, shared_positions


@pytest.mark.parametrize("again", [True, False])
def test_a_loader_draws_as_its_batches_do(again: bool) -> None:
    """As those of Accelerate, whose own sampler is one in order."""
    data = TensorDataset(torch.arange(8.0))
    loader = DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data, replacement=again), 4, False))
    assert isinstance(loader.sampler, SequentialSampler)
    assert repeats_samples(loader) is again


@pytest.mark.parametrize("cut_again", [True, False])
def test_one_list_that_is_cut_in_two_orders(cut_again: bool) -> None:
    pairs = [(f"{number}", ["word"]) for number in range(40)]
    order = pairs[::-1] if cut_again else pairs
    train, val = DataLoader(pairs[10:], 4), DataLoader(order[:10], 4)  # type: ignore[arg-type]
    assert shared_positions(train, val) == (10 * cut_again, 10)
    few = [("cat",), ("dog",), ("fish",)] * 10
    assert shared_positions(DataLoader(few), DataLoader(few[:10])) is None  # type: ignore[arg-type]


class InGroups(Sampler[Any]):
    """Positions by chance, or batches of four."""

    def __init__(self, numbers: range, batches: bool) -> None:
        self.numbers, self.batches = torch.tensor(numbers), batches

    def __iter__(self) -> Any:
        order = self.numbers[torch.randperm(len(self.numbers))]
        yield from (group.tolist() for group in order.split(4)) if self.batches else order.tolist()


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize(("first", "shared"), [(8, 0), (4, 4)])
def test_what_a_sampler_of_ones_own_draws_is_trained_on(batches: bool, first: int, shared: int) -> None:
    data = TensorDataset(torch.arange(32.0))
    sampler = InGroups(range(first, 32), batches)
    before = torch.get_rng_state()
    train = DataLoader(data, batch_sampler=sampler) if batches else DataLoader(data, 4, sampler=sampler)
    val = DataLoader(torch.utils.data.Subset(data, range(8)), 4)
    assert shared_positions(train, val) == (shared, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_without_samples_by_index_says_so() -> None:
    with pytest.raises(NoEvidence, match="samples can be read by index"):
        inputs_vary([(torch.ones(2, 3), torch.zeros(2))])
