"""The parts of a batch with `--deterministic`: fixed by the batch alone, and their sum is that of the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.errors import ConfigError
from striate.training.config import Config, ExecutionConfig
from striate.training.deterministic import without_measuring
from striate.training.execution import execution_settings
from striate.training.loop import training_events
from striate.training.prepare import Prepared, prepare
from striate.training.processes.decide import among_processes, resumed_among
from striate.training.processes.fixed_parts import FixedParts, added
from striate.training.processes.group import ALONE, Processes
from striate.training.processes.launch import Launch
from striate.training.request import merge_request


def config(**execution: object) -> Config:
    return replace(Config(), execution=ExecutionConfig(**execution))  # type: ignore[arg-type]


@given(st.integers(1, 300), st.integers(2, 9), st.data())
def test_the_parts_follow_from_the_batch_alone_and_each_has_one_owner(samples, most, data) -> None:
    processes = data.draw(st.integers(1, most))
    of_each = [FixedParts.of(samples, config(batch_parts=most), Processes(k, processes)) for k in range(processes)]
    alone = FixedParts.of(samples, config(batch_parts=most), ALONE)
    bounds = [alone.bounds(part) for part in range(alone.count)]
    assert [first for first, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
    assert bounds[-1][1] == samples
    assert min(end - first for first, end in bounds) >= min(2, samples)
    assert [part for parts in of_each for part in parts.own] == list(range(alone.count))
    for parts in of_each:
        assert parts.read() == (bounds[parts.computed[0]][0], bounds[parts.computed[-1]][1])


def test_parts_are_added_up_as_a_tree() -> None:
    a, b, c, d, e = (torch.tensor(value) for value in (1e8, 3.0, -1e8, 5.0, 7.0))
    assert added([a, b, c, d]) == (a + b) + (c + d)
    assert added([a, b, c, d, e]) == ((a + b) + (c + d)) + e


class Counting(nn.Module):
    """A network with a constant, statistics, and a count of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))
        self.register_buffer("constant", torch.tensor([0.1, float("-inf"), 1 / 3]))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
        return torch.as_tensor(self.body(x))


def trained(module: nn.Module, **fields: object) -> Prepared:
    torch.manual_seed(0)
    usual = {"execution.plan": "plain", "execution.threads": 1, "budget.steps": 3, "batch": 90, "optim.name": "sgd"}
    asked = merge_request(Config(), data="digits", epochs=None, fields=usual | {"optim.lr": 0.05} | fields)
    prepared = prepare(asked, module)
    with execution_settings(prepared.config):
        list(training_events(prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize))
    return prepared


def test_the_sum_over_the_parts_is_that_of_the_batch() -> None:
    torch.manual_seed(0)
    first, second = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2))
    second.load_state_dict(first.state_dict())
    begun = first[1].weight.detach().clone()
    trained(first), trained(second, **{"execution.deterministic": True, "execution.batch_parts": 3})
    assert (first[1].weight - begun).abs().max() > 1e-3
    torch.testing.assert_close(first[1].weight, second[1].weight, rtol=1e-5, atol=1e-6)


def test_buffers_are_the_mean_over_the_parts_and_what_none_has_changed_stays() -> None:
    network = Counting()
    trained(network, **{"execution.deterministic": True, "execution.batch_parts": 3})
    assert network.calls == 3
    assert network.body[2].num_batches_tracked == 3
    assert torch.equal(network.constant, Counting().constant)
    assert network.body[2].running_mean.abs().max() > 0


def test_the_threads_are_those_of_a_part_in_any_number_of_processes(monkeypatch) -> None:
    monkeypatch.setattr("striate.training.execution.own_cores", lambda: list(range(16)))
    request = {"execution.deterministic": True, "budget.steps": 1, "model.name": "mlp(4)", "execution.device": "cpu"}
    prepared = prepare(merge_request(Config(), data="digits", epochs=None, fields=request))
    assert (prepared.config.execution.batch_parts, prepared.config.execution.threads) == (4, 4)


def test_more_processes_than_parts_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"--execution\.batch_parts 5"):
        among_processes(config(deterministic=True), Launch(0, 5, 0, 5))
    assert among_processes(config(deterministic=True, batch_parts=5), Launch(0, 5, 0, 5)).execution.processes == 5


def test_parts_without_deterministic_are_refused() -> None:
    with pytest.raises(ConfigError, match="--deterministic"):
        without_measuring(config(batch_parts=4))


def test_a_run_goes_on_with_the_same_bits_in_another_number_of_processes() -> None:
    fixed = config(deterministic=True, batch_parts=4, threads=3, device="cpu")
    resumed, said = resumed_among(fixed, Launch(0, 2, 0, 2))
    assert (resumed.execution.threads, resumed.execution.processes) == (3, 2)
    assert "the same bits" in said
