"""The configuration of a step: what a run has decided since its first one holds from there on, and not before."""

from __future__ import annotations

from dataclasses import replace

from striate.training.config import BudgetConfig, Config, ExecutionConfig


def at_step(config: Config, step: int) -> Config:
    """The configuration of `step`, from 0: with the parts in which batches are computed from there on, and the number
    of steps that the schedule has there."""
    execution, budget = _parts_at(config.execution, step), _schedule_at(config.budget, step)
    if execution is config.execution and budget is config.budget:
        return config
    return replace(config, execution=execution, budget=budget)


def _parts_at(execution: ExecutionConfig, step: int) -> ExecutionConfig:
    if not execution.micro_batch_from:
        return execution
    parts = [samples for first, samples in execution.micro_batch_from if first <= step]
    micro_batch = parts[-1] if parts else execution.micro_batch
    return replace(execution, micro_batch=micro_batch, micro_batch_from=())


def _schedule_at(budget: BudgetConfig, step: int) -> BudgetConfig:
    if not budget.steps_before:
        return budget
    return budget.of(next((steps for end, steps in budget.steps_before if step < end), budget.steps))
