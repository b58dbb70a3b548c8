"""What a run has of its plan: its execution frozen, its table, and the same bits when it goes on or is repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plan_workloads import BUSY, QUIET
from rich.console import Console
from short_runs import asked_for, parameters, trained

from striate.api import resume, train_config
from striate.errors import ConfigError
from striate.machine import allocator
from striate.machine.load import Load
from striate.training.config import Config, ExecutionConfig
from striate.training.config_file import config_from_yaml, get_field
from striate.training.execution import decide_execution
from striate.training.plan import decide
from striate.training.plan.decide import Planned
from striate.training.plan.plan_table import Candidate, PlanRecord, PlanRow, record_from_json
from striate.training.plan.trial import Workload
from striate.training.prepare import prepare, read_data
from striate.training.request import merge_request

PLAIN = Candidate("fp32", "contiguous", 1)
CHOSEN = Candidate("bf16", "channels_last", 1)
RECORD = PlanRecord(
    (
        PlanRow(PLAIN, 0.01, 0.001, "the reference", True),
        PlanRow(CHOSEN, 0.004, 0.0, "gradient off by 1 %", True, chosen=True),
        PlanRow(replace(CHOSEN, compile="default"), None, None, "failed: no compiler", False),
    ),
    32,
    "quiet",
    0.5,
    remarks=("compile would need 9 s to gain 1 %",),
)


@pytest.fixture
def bf16_is_planned(monkeypatch: pytest.MonkeyPatch) -> list[ExecutionConfig]:
    """Every plan chooses bf16 in channels last; the list has what was left open."""
    asked: list[ExecutionConfig] = []

    def plan(work: Workload, given: ExecutionConfig, **_: object) -> Planned:
        asked.append(given)
        chosen = replace(CHOSEN, precision=given.precision or CHOSEN.precision)
        return Planned(chosen.execution(work.config.execution), RECORD)

    monkeypatch.setattr("striate.training.plan.decide.plan_execution", plan)
    return asked


def run(config: Config, out: str) -> dict[str, object]:
    return train_config(config, out=Path(out), console=Console(stderr=True), quiet=True).metrics


def test_everything_chosen_is_frozen_and_told(bf16_is_planned: list[ExecutionConfig]) -> None:
    metrics = run(asked_for(), "a")
    config = config_from_yaml(Path("a/config.yaml"))
    assert (config.execution.precision, config.execution.memory_format, config.execution.compile) == (
        *("bf16", "channels_last", "off"),
    )
    assert {f"execution.{name}" for name in ("precision", "memory_format", "threads")} <= set(config.decided)
    assert record_from_json(json.loads(Path("a/plan.json").read_text()), "measured") == RECORD
    assert metrics["plan"]["speedup"] == pytest.approx(2.5)  # type: ignore[index]
    assert metrics["plan"]["precision"] == "bf16"  # type: ignore[index]
    line = "plan: bf16, channels_last, 1 thread: 2.5× plain fp32; compile would need 9 s to gain 1 %"
    assert line in Path("a/events.jsonl").read_text()


def test_repeated_it_is_not_planned_again_and_the_same_bits_come_out(bf16_is_planned: list[ExecutionConfig]) -> None:
    first = trained(asked_for())
    assert len(bf16_is_planned) == 1
    again = trained(first.config)
    assert len(bf16_is_planned) == 1
    assert again.plan is None
    for name, weights in parameters(first).items():
        assert torch.equal(weights, parameters(again)[name]), name
    plain = trained(asked_for(execution__plan="plain"))
    assert any(not torch.equal(weights, parameters(plain)[name]) for name, weights in parameters(first).items())


@pytest.mark.slow
def test_a_run_without_a_checkpoint_takes_the_same_path(bf16_is_planned: list[ExecutionConfig]) -> None:
    run(asked_for(), "a")
    figures = Path("a/metrics.csv").read_text()
    for file in ("a/checkpoints/last.pt", "a/checkpoints/best.pt", "a/metrics.json"):
        Path(file).unlink()
    resume("a", quiet=True)
    assert len(bf16_is_planned) == 1
    assert [line.split(",")[:5] for line in Path("a/metrics.csv").read_text().splitlines()] == [
        line.split(",")[:5] for line in figures.splitlines()
    ]
    assert json.loads(Path("a/metrics.json").read_text())["plan"]["source"] == "measured"


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "fields",
    [
        {"model.name": "mlp(8)"},
        {"batch": 24},
        {"execution.plan": "plain"},
        {"data.source": "iris"},
        {"task.name": "regress"},
        {"recipe": "quick"},
        {"optim.name": "sgd"},
        {"augment.policy": "trivial"},
        {"regularize.l1": 1e-3},
        {"auxiliary.rotation": 0.5},
    ],
)
def test_what_was_planned_is_open_again_when_it_follows_from_something_else(
    fields: dict[str, object], bf16_is_planned: list[ExecutionConfig]
) -> None:
    config = prepare(asked_for()).config
    assert config.execution.precision == "bf16"
    merged = merge_request(config, fields=fields)
    assert (merged.execution.precision, merged.execution.memory_format, merged.execution.threads) == (None, None, None)


def test_what_looks_into_the_network_is_computed_uncompiled_though_a_plan_compiled_it() -> None:
    config = prepare(asked_for()).config
    config = replace(config, execution=replace(config.execution, compile="default"))
    assert prepare(merge_request(config, fields={"regularize.sparsity": 0.1})).config.execution.compile == "off"


def test_a_wish_stays_when_the_network_is_replaced(bf16_is_planned: list[ExecutionConfig]) -> None:
    config = prepare(asked_for(execution__precision="fp32")).config
    merged = merge_request(config, fields={"model.name": "mlp(8)"})
    assert (merged.execution.precision, merged.execution.memory_format) == ("fp32", None)


@pytest.mark.slow
def test_minutes_are_measured_anew_when_it_is_computed_otherwise() -> None:
    config = prepare(asked_for(epochs=None, budget__minutes=0.01)).config
    assert config.budget.steps is not None
    assert merge_request(config, fields={"execution.plan": "plain"}).budget.steps is None
    epochs = prepare(asked_for()).config
    assert merge_request(epochs, fields={"execution.plan": "plain"}).budget.steps == epochs.budget.steps


@pytest.mark.parametrize("plan", ["auto", "plain"])
def test_a_short_run_is_plain(plan: str) -> None:
    prepared = prepare(asked_for(execution__plan=plan))
    execution = prepared.config.execution
    assert prepared.plan is None
    assert (execution.precision, execution.memory_format, execution.compile) == ("fp32", "contiguous", "off")
    assert execution.allocator == "system"  # as a library


@pytest.mark.slow
def test_the_program_keeps_memory_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    if not allocator.available():
        pytest.skip("the allocator is not glibc's")
    monkeypatch.setattr(allocator, "_state", {"policy": "system", "usual": "system"})
    allocator.keep_by_default()
    assert prepare(asked_for()).config.execution.allocator == "keep"
    assert prepare(asked_for(execution__allocator="system")).config.execution.allocator == "system"
    assert prepare(asked_for(execution__plan="plain")).config.execution.allocator == "system"
    trained(asked_for())
    assert allocator.policy() == "system"  # put back after


def test_a_real_plan_of_a_real_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "budget_seconds", lambda _: 0.5)
    monkeypatch.setattr(decide, "_SHORTEST", 0.0)
    first = prepare(asked_for(batch=32))
    assert first.plan is not None
    assert first.plan.source == "measured"
    assert first.notes[-1] == str(first.plan)
    config, chosen = first.config, first.plan.chosen
    assert chosen.execution(config.execution) == config.execution
    assert None not in [get_field(config, f"execution.{name}") for name in ("precision", "compile", "allocator")]
    layout = torch.channels_last if chosen.memory_format == "channels_last" else torch.contiguous_format
    assert all(p.is_contiguous(memory_format=layout) for p in first.state.module.parameters() if p.ndim == 4)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"execution__precision": "tf32"}, "execution.precision"),
        ({"execution__compile": "cuda-graphs"}, "execution.compile"),
        ({"execution__device": "cuda:7"}, "execution.device"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused(fields: dict[str, str], field: str) -> None:
    config, data = read_data(asked_for(**fields))
    with pytest.raises(ConfigError) as caught:
        decide_execution(config, data)
    assert caught.value.where == field


def test_without_glibc_or_a_compiler_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    config, data = read_data(asked_for(execution__allocator="keep"))
    monkeypatch.setattr("striate.training.execution.available", lambda: False)
    with pytest.raises(ConfigError, match="glibc"):
        decide_execution(config, data)
    config, data = read_data(asked_for(execution__compile="default"))
    monkeypatch.setattr("striate.training.execution.has_compiler", lambda: False)
    with pytest.raises(ConfigError, match="compiler"):
        decide_execution(config, data)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "fields",
    [
        {"execution__compile": "default", "auxiliary__rotation": 0.5},
        {"execution__compile": "default", "regularize__sparsity": 1e-3},
        {"execution__compile": "default", "optim__name": "local-rule", "model__name": "perceptron"},
        {"execution__precision": "bf16", "optim__name": "local-rule", "model__name": "perceptron"},
    ],
)
def test_what_the_rest_of_the_configuration_cannot_be_computed_with_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(asked_for(**fields))
    assert caught.value.where.startswith("execution.")


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("load", "plan", "threads"), [(BUSY, "auto", 1), (QUIET, "auto", 4), (BUSY, "plain", 4), (None, "auto", 4)]
)
def test_busy_cores_get_one_thread_and_that_is_said(
    load: Load | None, plan: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured() -> Load:
        assert load is not None, "nothing to be measured where the last minute was quiet"
        return load

    monkeypatch.setattr("striate.training.execution.maybe_busy", lambda: load is not None)
    monkeypatch.setattr("striate.training.execution.current_load", measured)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    prepared = prepare(asked_for(execution__plan=plan))
    assert prepared.config.execution.threads == threads
    said = "other processes use the cores, so training uses 1 thread instead of 4" in prepared.notes
    assert said == (threads == 1)
    assert prepare(asked_for("iris", model__name="mlp(4)")).config.execution.threads == 1
