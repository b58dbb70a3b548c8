"""How a batch is divided: every sample once, by every number of processes."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.config import DataConfig
from striate.data.dataset import Split
from striate.data.loader import Batch, batches, epoch_order
from striate.errors import ConfigError, UsageError
from striate.training.config import BudgetConfig, Config, ExecutionConfig, OptimizerConfig
from striate.training.processes.decide import among_processes, resumed_among
from striate.training.processes.group import ALONE, Processes, bounds_in_step
from striate.training.processes.launch import Launch, launched

counts = st.integers(1, 9)


@given(counts, st.integers(1, 300))
def test_parts_are_contiguous_and_hold_every_sample_once(count: int, samples: int) -> None:
    parts = [Processes(rank, count).part(samples) for rank in range(count)]
    if samples < count:
        assert parts == [(0, samples)] * count
        assert [Processes(rank, count).counts(samples) for rank in range(count)] == [True] + [False] * (count - 1)
        return
    assert [k for a, b in parts for k in range(a, b)] == list(range(samples))
    assert max(b - a for a, b in parts) - min(b - a for a, b in parts) <= 1
    assert all(Processes(rank, count).counts(samples) for rank in range(count))


@given(counts, st.integers(1, 300), st.none() | st.integers(1, 40), st.booleans())
def test_all_processes_compute_as_many_parts(count: int, samples: int, most: int | None, whole: bool) -> None:
    config = Config(execution=ExecutionConfig(micro_batch=most))
    found = []
    for rank in range(count):
        processes = Processes(rank, count)
        first, end = (0, samples) if whole else processes.part(samples)
        batch = Batch(torch.zeros(end - first), torch.zeros(end - first), torch.arange(first, end), first, samples)
        batch = replace(batch, start=0, samples=None) if whole else batch
        bounds = bounds_in_step(batch, config, processes)
        assert all(stop > start for _, start, stop in bounds)
        assert most is None or max(stop - start for _, start, stop in bounds) <= most + 1
        found.append([k for number, start, stop in bounds for k in range(number, number + stop - start)])
        assert len(bounds) == len(bounds_in_step(batch, config, processes))
    computed = found[:1] if samples < count else found
    assert list(chain(*computed)) == list(range(samples))


@given(counts, st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_processes_read_the_batches_of_one(count: int, samples: int, batch: int, epoch: int) -> None:
    split = Split(torch.arange(samples).view(-1, 1), torch.zeros(samples), torch.arange(samples))
    order = epoch_order(samples, 0, epoch)
    expected = list(batches(split, batch, order=order))
    read = [list(batches(split, batch, order=order, part=Processes(rank, count).part)) for rank in range(count)]
    for whole, *parts in zip(expected, *read, strict=True):
        divided = len(whole.ids) >= count
        ids = [part.ids.tolist() for part in parts]
        assert list(chain(*(ids if divided else ids[:1]))) == whole.ids.tolist()
        assert all(part.full_size == len(whole.ids) for part in parts)
        assert not divided or all(
            part.ids.tolist() == whole.ids.tolist()[part.start :][: len(part.ids)] for part in parts
        )


def test_one_process_sums_nothing() -> None:
    values = torch.ones(3)
    assert ALONE.total(values) is values
    assert ALONE.agreed("SIGINT", due=True) == ("SIGINT", True)
    assert ALONE.part(7) == ALONE.blocks(7) == (0, 7)


def test_the_launcher_is_recognized() -> None:
    assert launched({}) == Launch()
    assert launched({"RANK": "1", "WORLD_SIZE": "4"}) == Launch()  # of another program: nowhere to meet
    known = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    known |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    assert launched(known) == Launch(3, 4, 1, 2)
    for wrong in ({"RANK": "4"}, {"WORLD_SIZE": "many"}, {"LOCAL_RANK": "-1"}, {"RANK": ""}):
        with pytest.raises(UsageError, match="torchrun"):
            launched(known | wrong)


@pytest.mark.parametrize(
    "config",
    [
        Config(budget=BudgetConfig(minutes=1.0)),
        Config(cv="3x2"),
        Config(optim=OptimizerConfig(name="local-rule")),
        Config(execution=ExecutionConfig(compile="default")),
        Config(execution=ExecutionConfig(device="cuda:1")),
    ],
)
def test_what_only_one_process_can_do_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match="2 processes") as caught:
        among_processes(config, Launch(0, 2, 0, 2))
    assert config.cv is None or caught.value.remedy.endswith("striate train mnist5k --cv 3x2")
    assert among_processes(config, Launch()) == config
    with pytest.raises(ConfigError, match="striate train photos --fsdp"):
        among_processes(Config(data=DataConfig(source="photos"), execution=ExecutionConfig(fsdp=True)), Launch())


def test_a_run_goes_on_with_another_number_of_processes() -> None:
    begun = Config(execution=ExecutionConfig(processes=2, threads=3, compile="off"), budget=BudgetConfig(steps=5))
    assert resumed_among(begun, Launch(1, 2, 1, 2)) == (begun, "")
    one, said = resumed_among(begun, Launch())
    assert (one.execution.processes, one.execution.threads) == (None, 6)
    assert "started with 2 processes, continued with 1 process" in said
    three, _ = resumed_among(begun, Launch(0, 3, 0, 3))
    assert (three.execution.processes, three.execution.threads) == (3, 2)
