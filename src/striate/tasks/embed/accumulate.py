"""The accumulator of embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from striate.tasks.accumulator import with_sums
from striate.tasks.embed.losses import neighbor_loss
from striate.tasks.embed.retrieval import neighbor_rows, steepness, verify_pairs

if TYPE_CHECKING:
    from striate.tasks.embed.task import Embed


class EmbeddingAccumulator:
    """Accumulates the loss in training steps, and all embeddings in evaluation.

    In training, weights change between batches, so that embeddings of two batches cannot be compared. `whole`: whether
    `compute` also returns the metrics of each epoch.
    """

    def __init__(self, task: Embed, *, whole: bool) -> None:
        self._task, self._whole = task, whole
        self.sums: torch.Tensor | None = None
        self.vectors: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def update(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> None:
        """Add a batch."""
        if not torch.is_grad_enabled():
            self.vectors.append(self._task.decode(outputs).cpu())
            self.labels.append(targets.cpu())
            return
        total = self._task.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        sums = torch.stack([total.double(), torch.as_tensor(self._task.weight(targets)).to(total.device).double()])
        self.sums = with_sums(self.sums, sums.detach())

    def merge(self, other: Self) -> None:
        """Add the content of `other`."""
        if other.sums is not None:
            self.sums = with_sums(self.sums, other.sums)
        self.vectors += other.vectors
        self.labels += other.labels

    def state_dict(self) -> dict[str, Any]:
        """Sums, and embeddings with their classes."""
        vectors = torch.cat(self.vectors) if self.vectors else None
        return {"sums": self.sums, "vectors": vectors, "labels": torch.cat(self.labels) if self.labels else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.sums = state["sums"]
        self.vectors, self.labels = ([] if state[name] is None else [state[name]] for name in ("vectors", "labels"))

    def compute(self) -> dict[str, float]:
        """`loss`, and for embeddings `recall@1`, `auc`, `eer`, the `threshold` at which both kinds of mistakes are
        equally frequent, and the `slope` of the probability around it."""
        if not self.vectors:
            assert self.sums is not None, "nothing was measured"
            total, weight = self.sums.tolist()
            return {"loss": total / max(weight, 1e-12)}
        vectors, labels = torch.cat(self.vectors).float(), torch.cat(self.labels)
        loss = float(neighbor_loss(vectors, labels).nanmean().nan_to_num(nan=0.0))
        if not self._whole:
            return {"loss": loss}
        rows = neighbor_rows(vectors, labels).sum(0)
        found = {"loss": loss, "recall@1": float(rows[0] / max(rows[3], 1))}
        pairs = verify_pairs(vectors, labels)
        if np.isnan(pairs.auc):  # no two samples have one class, or all have
            return found
        return {**found, **vars(pairs), "slope": steepness(vectors, labels, pairs.threshold)}
