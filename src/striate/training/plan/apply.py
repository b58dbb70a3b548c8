"""From a training about to start to the same one, computed as its plan says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from striate.data.dataset import Split
from striate.machine.memory import ran_out
from striate.training.config import Config, ExecutionConfig
from striate.training.execution import crowded, make_scaler, place
from striate.training.plan.decide import Planned, plan_execution
from striate.training.plan.record import PlanRecord
from striate.training.plan.trial import Workload
from striate.training.speed import steps_for_epochs


@dataclass(frozen=True)
class Applied:
    """The configuration with all of `execution.*` decided, the `record` of how where it was measured, and what is to be
    said of it."""

    config: Config
    record: PlanRecord | None
    notes: tuple[str, ...]


def apply_plan(work: Workload, asked: ExecutionConfig, seconds: float | None) -> Applied:
    """How it computes, decided where `asked` leaves it open; network and average of `work` are laid out so. `seconds`
    as for `plan_execution`."""
    state, device = work.state, torch.device(work.config.execution.device or "cpu")
    planned = Planned(work.config.execution)
    if None in (asked.precision, asked.memory_format, asked.compile, asked.threads) and asked.plan == "auto":
        planned = _within_memory(work, asked, seconds)
    config = replace(work.config, execution=planned.execution)
    place(state.module, config, device)
    if state.average is not None:
        place(state.answering, _uncompiled(config), device)
    state.scaler = make_scaler(config)
    return Applied(config, planned.record, tuple(_notes(work, asked, planned)))


def _within_memory(work: Workload, asked: ExecutionConfig, seconds: float | None) -> Planned:
    """Copies to try ways on need memory of their own; a training that has none for them is computed plainly."""
    try:
        return plan_execution(work, asked, seconds=seconds)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error) or seconds is not None:
            raise
    return Planned(work.config.execution, None, "plain fp32: there is no memory for copies to compare other ways on")


def _notes(work: Workload, asked: ExecutionConfig, planned: Planned) -> list[str]:
    said = [str(planned.record)] if planned.record else [planned.note] if planned.note else []
    used, table = planned.execution.threads or work.threads, work.train.inputs.ndim == 2
    if planned.record is None and asked.threads is None and used < work.threads and not table:
        threads = f"{used} thread{'s' * (used != 1)}"
        said.append(f"other processes keep the cores busy: {threads} instead of {work.threads}")
    crowd = "" if asked.threads is None else crowded(planned.execution)
    return [*said, crowd] if crowd else said


def expected_length(config: Config, train: Split, spent: Callable[[], float]) -> tuple[int | None, float | None]:
    """Optimizer steps of the run, or its seconds, whichever was asked for; of those, the ones `spent` are over."""
    budget, batch = config.budget, config.batch
    assert batch is not None, "recipes decide it"
    if budget.steps is None and budget.minutes is not None:
        return None, max(1.0, 60 * budget.minutes - spent())
    return budget.steps or steps_for_epochs(budget.epochs or 1, len(train), batch), None


def _uncompiled(config: Config) -> Config:
    return replace(config, execution=replace(config.execution, compile="off"))
