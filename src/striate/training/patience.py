"""Early ends: when validation has not improved for long enough, or is as good as was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from striate.tasks.task import Task
from striate.training.config import BudgetConfig
from striate.training.events import EpochRow
from striate.training.target import reaches


def best_epoch(history: Sequence[EpochRow], task: Task) -> int:
    """The number of the best epoch on validation, the later one of equals; epochs count from 1."""
    return max(history, key=lambda row: (task.score(row.val), row.epoch)).epoch


def out_of_patience(history: Sequence[EpochRow], task: Task, patience: int | None) -> bool:
    """Whether the last `patience` epochs were all worse than an earlier one; never where patience is 0 or None."""
    if not patience or len(history) <= patience:
        return False
    return history[-1].epoch - best_epoch(history, task) >= patience


def training_is_over(history: Sequence[EpochRow], task: Task, budget: BudgetConfig) -> bool:
    """Whether the last epoch was one too many without a better one, or reached the target."""
    reached = bool(history) and reaches(history[-1].val, budget.target, task)
    return reached or out_of_patience(history, task, budget.patience)


def early_end(history: Sequence[EpochRow], task: Task, epochs: int, target: float | None = None) -> str | None:
    """One sentence on a finished training that ended before its `epochs`; None where it did not."""
    done = history[-1].epoch
    if done >= epochs:
        return None
    if reaches(history[-1].val, target, task):
        return f"training ended after epoch {done} of {epochs}: it had reached its target (budget.target)"
    best = best_epoch(history, task)
    return f"training ended after epoch {done} of {epochs}: epoch {best} was the best on validation (budget.patience)"
