"""The accumulator of several targets: that of each target, and losses and errors of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import torch

from striate.tasks.accumulator import with_sums

if TYPE_CHECKING:
    from striate.tasks.several.task import Several


class TargetAccumulators:
    """Accumulates the loss of all batches, the metrics of each target, and, in evaluation, what each sample adds to the
    error."""

    def __init__(self, task: Several) -> None:
        self._task = task
        self.sums: torch.Tensor | None = None
        self.errors: torch.Tensor | None = None
        self.parts = [one.accumulator() for one in task.tasks]
        self.seen = [0] * len(self.parts)

    def update(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> None:
        """Add a batch; samples without a target do not count in its accumulator."""
        task = self._task
        outputs = outputs[:, : task.outputs]
        total = task.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        sums = torch.stack([total.double(), total.new_full((), float(len(targets)), dtype=torch.float64)]).detach()
        self.sums = with_sums(self.sums, sums)
        for number, (known, own, truth) in enumerate(task.parts(outputs, targets)):
            count = int(known.sum())
            if count:
                self.parts[number].update(own[known], truth[known])
                self.seen[number] += count
        if not torch.is_grad_enabled():
            errors = torch.from_numpy(task.rows_for(task.decode(outputs), targets).sum(0))
            self.errors = with_sums(self.errors, errors)

    def merge(self, other: Self) -> None:
        """Add the content of `other`."""
        if other.sums is not None:
            self.sums = with_sums(self.sums, other.sums)
        if other.errors is not None:
            self.errors = with_sums(self.errors, other.errors)
        for number, part in enumerate(other.parts):
            if other.seen[number]:
                self.parts[number].merge(part)
                self.seen[number] += other.seen[number]

    def state_dict(self) -> dict[str, Any]:
        """Sums, and the states of the accumulators."""
        parts = {str(k): part.state_dict() for k, part in enumerate(self.parts) if self.seen[k]}
        return {"sums": self.sums, "errors": self.errors, "seen": list(self.seen), "parts": parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.sums, self.errors, self.seen = state["sums"], state["errors"], list(state["seen"])
        for number, part in state["parts"].items():
            self.parts[int(number)].load_state_dict(part)

    def compute(self) -> dict[str, float]:
        """`loss`; in evaluation `error`; and the metrics of each target, such as `age.rmse`."""
        assert self.sums is not None, "nothing was measured"
        total, weight = self.sums.tolist()
        found = {"loss": total / weight}
        if self.errors is not None:
            found["error"] = self._task.headline_of(self.errors.numpy(), int(weight))
        for column, part, seen in zip(self._task.target_columns, self.parts, self.seen, strict=True):
            if seen:
                found |= {f"{column.name}.{key}": value for key, value in part.compute().items()}
        return found
