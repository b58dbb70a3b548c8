"""Early stopping: after too many epochs without a better validation metric, or once the metric reaches a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from striate.errors import ConfigError
from striate.statistics.intervals import wilson_ends
from striate.tasks.task import Task
from striate.training.config import BudgetConfig, Config
from striate.training.events import EpochRow
from striate.wording import number, percent


@dataclass(frozen=True)
class TargetOutcome:
    """Whether and when a metric of the validation split reached its target."""

    metric: str
    """Name of the metric: the headline of the task."""
    value: float
    reached: bool
    """Whether an epoch reached it."""
    best: float
    """The best value of any epoch."""
    epoch: int | None = None
    """The first epoch that reached the target, from 1. None: no epoch did."""
    seconds: float | None = None
    """Wall-clock seconds from the request, reading and planning included, to the end of that epoch. None: no epoch
    reached the target, or the time is not known."""
    n: int | None = None
    """Number of validation samples. None: not known."""

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        wanted, best = _shown(self.metric, self.value), _shown(self.metric, self.best)
        if not self.reached:
            return f"target not reached: validation {self.metric} {best} at best, target {wanted}{self._about()}"
        after = f" after {self.seconds:,.1f} s" if self.seconds is not None else ""
        return (
            f"target reached{after}: validation {self.metric} {best} in epoch {self.epoch}, target {wanted}"
            f"{self._about()}"
        )

    def _about(self) -> str:
        """The number of samples, and for an accuracy its 95 % interval (Wilson 1927)."""
        if self.n is None:
            return ""
        if self.metric != "accuracy":
            return f" (n = {self.n:,})"
        low, high = wilson_ends(self.best, self.n)
        return f" (n = {self.n:,}, 95 % interval {100 * low:.1f} to {percent(high)})"


def refuse_impossible_target(target: float | None, task: Task) -> None:
    """Raise ConfigError for a target above 1 where the metric, such as accuracy or IoU, is a fraction."""
    if target is None or not task.higher_is_better or target <= 1:
        return
    percent = target if 20 <= target <= 100 else 90.0
    raise ConfigError(
        "budget.target",
        f"{target:g} for the {task.headline}, which is at most 1",
        "a fraction above 0, up to 1",
        f"--target {percent / 100:g}, which is {percent:g} %",
    )


def reaches(val: dict[str, float], target: float | None, task: Task) -> bool:
    """Whether the headline metric is at least the target, or at most the target where lower is better; False without a
    target."""
    if target is None:
        return False
    value = val[task.headline]
    return value >= target if task.higher_is_better else value <= target


def target_outcome(
    history: Sequence[EpochRow], target: float | None, task: Task, seconds: float | None, n: int | None = None
) -> TargetOutcome | None:
    """The outcome of a finished training; None without a target. Training ends with the first epoch that reaches the
    target: `seconds` is the time up to the last epoch. `n`: number of validation samples."""
    if target is None:
        return None
    values = [row.val[task.headline] for row in history]
    best = max(values) if task.higher_is_better else min(values)
    first = next((row for row in history if reaches(row.val, target, task)), None)
    if first is None:
        return TargetOutcome(task.headline, target, False, best, n=n)
    return TargetOutcome(task.headline, target, True, best, first.epoch, seconds, n)


def _shown(metric: str, value: float) -> str:
    return percent(value, 2) if metric in ("accuracy", "iou") else number(value)


def best_epoch(history: Sequence[EpochRow], task: Task) -> int:
    """The number, from 1, of the best epoch on validation; the later one of equals."""
    return max(history, key=lambda row: (task.score(row.val), row.epoch)).epoch


def out_of_patience(history: Sequence[EpochRow], task: Task, patience: int | None) -> bool:
    """Whether the last `patience` epochs were all worse than an earlier one; False where patience is 0 or None."""
    if not patience or len(history) <= patience:
        return False
    return history[-1].epoch - best_epoch(history, task) >= patience


def training_is_over(history: Sequence[EpochRow], task: Task, budget: BudgetConfig) -> bool:
    """Whether patience ran out, or the last epoch reached the target."""
    reached = bool(history) and reaches(history[-1].val, budget.target, task)
    return reached or out_of_patience(history, task, budget.patience)


def chooses_by_validation(config: Config) -> bool:
    """Whether validation decides which epoch is the result, or when training ends."""
    return config.keep == "best" or bool(config.budget.patience) or config.budget.target is not None


def early_end(history: Sequence[EpochRow], task: Task, epochs: int, target: float | None = None) -> str | None:
    """One sentence on a training that ended before its `epochs`; None for one that took all."""
    done = history[-1].epoch
    if done >= epochs:
        return None
    if reaches(history[-1].val, target, task):
        return f"training ended after epoch {done} of {epochs}: the target was reached (budget.target)"
    best = best_epoch(history, task)
    return f"training ended after epoch {done} of {epochs}: epoch {best} was the best on validation (budget.patience)"
