"""What is measured over many samples, batch by batch: sums, or whatever a metric has to remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import torch

from striate.data.targets import Targets
from striate.tasks.outputs import Outputs


class Accumulator(Protocol):
    """Takes in batches, adds up with others of its kind (those of other parts, batches and processes), lies in a
    checkpoint, and becomes metrics at the end."""

    def update(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> None:
        """Take in a batch. `loss_sum` is the loss of these outputs and targets where it is known already."""
        ...

    def merge(self, other: Self) -> None:
        """Take in what another one has; it stays as it is."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, as a checkpoint holds them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` gave."""
        ...

    def compute(self) -> dict[str, float]:
        """`loss`, and the metrics that are followed epoch by epoch."""
        ...


def with_sums(total: torch.Tensor | None, more: torch.Tensor) -> torch.Tensor:
    """`total` and `more`, on the device of `more`: what a checkpoint held comes from memory."""
    return more if total is None else total.to(more.device) + more


class RowAccumulator:
    """The loss of all batches; and, of those that are measured without learning from them, what each sample adds to the
    headline metric, for one that is not a sum. `figures` makes metrics of all rows.

    In training steps rows are not kept: images are varied, and weights change.
    """

    def __init__(self, task: Any, figures: Callable[[Any], dict[str, float]]) -> None:
        self._task, self._figures = task, figures
        self.sums: torch.Tensor | None = None
        self.rows: list[torch.Tensor] = []

    def update(self, outputs: Outputs, targets: Targets, loss_sum: torch.Tensor | None = None) -> None:
        """Take in a batch."""
        total = self._task.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        weight = torch.as_tensor(self._task.weight(targets)).to(total.device)
        sums = torch.stack([total.double(), weight.double()]).detach()
        self.sums = with_sums(self.sums, sums)
        if not torch.is_grad_enabled():
            self.rows.append(torch.from_numpy(self._task.rows_for(self._task.decode(outputs), targets)))

    def merge(self, other: Self) -> None:
        """Take in what another one has."""
        if other.sums is not None:
            self.sums = with_sums(self.sums, other.sums)
        self.rows += other.rows

    def state_dict(self) -> dict[str, Any]:
        """Sums, and rows of samples."""
        return {"sums": self.sums, "rows": torch.cat(self.rows) if self.rows else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` gave."""
        self.sums, self.rows = state["sums"], [] if state["rows"] is None else [state["rows"]]

    def compute(self) -> dict[str, float]:
        """`loss`; and the figures of what was not learned from."""
        assert self.sums is not None, "nothing was measured"
        total, weight = self.sums.tolist()
        found = {"loss": total / max(weight, 1e-12)}
        return {**found, **self._figures(torch.cat(self.rows).numpy())} if self.rows else found


class Sums:
    """An accumulator whose memory is one vector of sums, (M,) float64 on the device of the outputs.

    `count(outputs, targets, loss_sum)` gives the vector of a batch; `compute` of the whole one becomes metrics.
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
        """Add sums that were counted elsewhere."""
        if sums is not None:
            self.total = with_sums(self.total, sums)

    def merge(self, other: Sums) -> None:
        """Add the sums of another one."""
        self.add(other.total)

    def state_dict(self) -> dict[str, Any]:
        """The vector, None before the first batch."""
        return {"total": self.total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the vector over."""
        self.total = state["total"]

    def compute(self) -> dict[str, float]:
        """The metrics of everything added. At least one batch must have been."""
        assert self.total is not None, "nothing was measured"
        return self._summarize(self.total)
