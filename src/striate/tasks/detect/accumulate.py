"""What is measured of detections batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from striate.tasks.detect.assess import best_threshold
from striate.tasks.detect.average_precision import average_precisions, mean_of_known, ranked

if TYPE_CHECKING:
    from striate.tasks.detect.task import Detect


class Detections:
    """The loss of all batches; and, of those that are measured without learning from them, what each image adds to the
    figures. In training steps suppression would take longer than it tells: images are varied, and weights change."""

    def __init__(self, task: Detect) -> None:
        self._task = task
        self.sums: torch.Tensor | None = None
        self.rows: list[torch.Tensor] = []

    def update(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> None:
        """Take in a batch."""
        total = self._task.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        sums = torch.stack([total.double(), torch.as_tensor(self._task.weight(targets)).to(total.device).double()])
        self.sums = sums.detach() if self.sums is None else self.sums + sums.detach()
        if not torch.is_grad_enabled():
            decoded = self._task.decode(outputs).cpu().numpy()
            self.rows.append(torch.from_numpy(self._task.rows(decoded, targets.cpu().numpy(), self._task.outputs)))

    def merge(self, other: Self) -> None:
        """Take in what another one has."""
        if other.sums is not None:
            self.sums = other.sums if self.sums is None else self.sums + other.sums
        self.rows += other.rows

    def state_dict(self) -> dict[str, Any]:
        """Sums, and rows of images."""
        return {"sums": self.sums, "rows": torch.cat(self.rows) if self.rows else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` gave."""
        self.sums, self.rows = state["sums"], [] if state["rows"] is None else [state["rows"]]

    def compute(self) -> dict[str, float]:
        """`loss`; and of what was not learned from `map`, `map50`, and the `threshold` with the best F1."""
        assert self.sums is not None, "nothing was measured"
        total, weight = self.sums.tolist()
        found = {"loss": total / max(weight, 1e-12)}
        if not self.rows:
            return found
        rows = np.concatenate([part.numpy() for part in self.rows])
        each = average_precisions(ranked(rows))
        headline = self._task.headline
        figures = {headline: mean_of_known(each), f"{headline}50": mean_of_known(each[:, :1])}
        return {**found, **figures, "threshold": best_threshold(rows)}
