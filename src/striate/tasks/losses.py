"""A user's loss in place of the task's, and class weights by frequency."""

from __future__ import annotations

from copy import copy
from functools import cache, cached_property
from typing import Any

import torch
from torch import nn

from striate.data.targets import Targets
from striate.errors import ConfigError, DataError
from striate.models.trusted_code import call_own, trusted_code
from striate.tasks.outputs import Outputs, map_outputs
from striate.tasks.task import Task


class _OwnLoss(Task):
    """A mixin that replaces the loss of a task. The user's code is imported when the first loss is computed, since
    predictions do not need it."""

    @cached_property
    def _function(self) -> Any:
        found = trusted_code(self.own_loss, "a loss", "loss")
        if isinstance(found, type) and issubclass(found, nn.Module):
            found = found()  # torch.nn.CrossEntropyLoss, without its parentheses
        if not callable(found):
            got = f"{self.own_loss}, a {type(found).__name__}"
            raise ConfigError("task.loss", got, "a function loss(outputs, targets)", "leave out the loss")
        return found

    def loss_sum(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """The mean loss that the function returns, times the weight. Targets that are numbers are standardized."""
        own, given = self._function, map_outputs(torch.Tensor.float, outputs)
        mean = call_own("task.loss", self.own_loss, own, given, self.standardized(targets))
        return scalar(mean, self.own_loss) * self.weight(targets)

    def tally(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """The sums of the task, with this loss."""
        return super().tally(outputs, targets, self.loss_sum(outputs, targets) if loss_sum is None else loss_sum)


def with_loss(task: Task, name: str) -> Task:
    """The task with the loss `name`: `file.py:name`, or the name of one that was given in Python."""
    made = copy(task)
    whole: Any = type(task)  # a class is hashable, though an instance may not be
    object.__setattr__(made, "__class__", _class_with_loss(whole, name))
    return made


@cache
def _class_with_loss(task: type[Task], name: str) -> type[Task]:
    parts = {"own_loss": name, "__module__": task.__module__, "__doc__": task.__doc__}
    return type(task.__name__, (_OwnLoss, task), parts)


def scalar(value: object, whose: str) -> torch.Tensor:
    """`value`, if it is a scalar tensor. Raises ConfigError for anything else."""
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        return value
    got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
    remedy = "end it with .mean()" if isinstance(value, torch.Tensor) else "return the tensor itself, without .item()"
    raise ConfigError("task.loss", f"{got} from {whose}", "a scalar tensor", remedy)


def balanced_weights(counts: torch.Tensor, classes: tuple[str, ...]) -> tuple[float, ...]:
    """n / (K · n_k), scikit-learn's "balanced" heuristic (King and Zeng 2001), from (K,) float64 counts.

    Raises DataError where a class has none.
    """
    if (counts == 0).any():
        missing = [c for c, n in zip(classes, counts.tolist(), strict=True) if n == 0]
        raise DataError(
            "task.class_weights",
            f"balanced, with no training sample of {', '.join(missing[:5])}",
            "at least one training sample of each class",
            "--task.class_weights none",
        )
    return tuple((counts.sum() / (len(classes) * counts)).tolist())
