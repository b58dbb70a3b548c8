"""Accumulators of metrics over many samples, batch by batch: sums, or whatever a metric has to store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import torch

from striate.data.targets import Targets
from striate.tasks.outputs import Outputs


class Accumulator(Protocol):
    """Accumulates batches, merges with accumulators of other parts and processes, is saved in a checkpoint, and
    computes metrics at the end."""

    def update(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> None:
        """Add a batch. `loss_sum` is the loss of these outputs and targets, if it is known already."""
        ...

    def merge(self, other: Self) -> None:
        """Add the content of `other`, which does not change."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, as a checkpoint holds them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...

    def compute(self) -> dict[str, float]:
        """`loss`, and the metrics of each epoch."""
        ...


def with_sums(total: torch.Tensor | None, more: torch.Tensor) -> torch.Tensor:
    """`total` plus `more`, on the device of `more`: a total from a checkpoint is on the CPU."""
    return more if total is None else total.to(more.device) + more


class RowAccumulator:
    """Accumulates the loss and, for a headline metric that is not a sum, the row of each sample. `figures` computes
    metrics from all rows.

    Training steps add no rows, since images are augmented and weights change.
    """

    def __init__(self, task: Any, figures: Callable[[Any], dict[str, float]]) -> None:
        self._task, self._figures = task, figures
        self.sums: torch.Tensor | None = None
        self.rows: list[torch.Tensor] = []

    def update(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> None:
        """Add a batch."""
        total = self._task.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        weight = torch.as_tensor(self._task.weight(targets)).to(total.device)
        sums = torch.stack([total.double(), weight.double()]).detach()
        self.sums = with_sums(self.sums, sums)
        if not torch.is_grad_enabled():
            self.rows.append(torch.from_numpy(self._task.rows_for(self._task.decode(outputs), targets)))

    def merge(self, other: Self) -> None:
        """Add the content of `other`."""
        if other.sums is not None:
            self.sums = with_sums(self.sums, other.sums)
        self.rows += other.rows

    def state_dict(self) -> dict[str, Any]:
        """Sums, and rows of samples."""
        return {"sums": self.sums, "rows": torch.cat(self.rows) if self.rows else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.sums, self.rows = state["sums"], [] if state["rows"] is None else [state["rows"]]

    def compute(self) -> dict[str, float]:
        """`loss`, and the metrics of the samples that were not trained on."""
        assert self.sums is not None, "nothing was measured"
        total, weight = self.sums.tolist()
        found = {"loss": total / max(weight, 1e-12)}
        return {**found, **self._figures(torch.cat(self.rows).numpy())} if self.rows else found


class Sums:
    """An accumulator of one vector of sums, (M,) float64 on the device of the outputs.

    `count(outputs, targets, loss_sum)` returns the vector of a batch; `summarize` computes metrics from the sum of all.
    """

    def __init__(
        self,
        count: Callable[[Outputs, Targets, torch.Tensor | None], torch.Tensor],
        summarize: Callable[[torch.Tensor], dict[str, float]],
    ) -> None:
        self._count, self._summarize = count, summarize
        self.total: torch.Tensor | None = None

    def update(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> None:
        """Add the sums of a batch."""
        self.add(self._count(outputs, targets, loss_sum))

    def add(self, sums: torch.Tensor | None) -> None:
        """Add sums of other batches."""
        if sums is not None:
            self.total = with_sums(self.total, sums)

    def merge(self, other: Sums) -> None:
        """Add the sums of `other`."""
        self.add(other.total)

    def state_dict(self) -> dict[str, Any]:
        """The vector; None before the first batch."""
        return {"total": self.total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the vector."""
        self.total = state["total"]

    def compute(self) -> dict[str, float]:
        """The metrics of all batches; there must be at least one."""
        assert self.total is not None, "nothing was measured"
        return self._summarize(self.total)
