"""One class out of K for each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from striate.data.resize import resize_batch
from striate.data.warp import Warp
from striate.tasks.constants import constants

IGNORED = 255  # pixels that nobody labeled, or that came in from outside the image


@dataclass(frozen=True)
class Segment:
    """Segmentation over `classes`; logits (N, K, H, W), targets and answers (N, H, W) uint8 class numbers.

    Per-pixel softmax cross-entropy; pixels of value 255 count for nothing.
    """

    classes: tuple[str, ...]
    class_weights: tuple[float, ...] | None = None

    name = "segment"
    headline = "iou"
    higher_is_better = True
    loss_name = "cross-entropy"

    @property
    def outputs(self) -> int:
        """One output channel a class."""
        return len(self.classes)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar mean over the labeled pixels of the batch; 0 where there are none."""
        return self.loss_sum(outputs, targets) / self.weight(targets)

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """The number of labeled pixels, or the sum of the weights of their classes; a little above 0 where there are
        none."""
        labeled = targets != IGNORED
        if self.class_weights is None:
            return labeled.sum().float().clamp(min=1e-12)
        # Not by picking the labeled ones: how many there are would have to be waited for on an accelerator.
        weights = constants(self.class_weights, targets.device)[torch.where(labeled, targets, 0).long()]
        return (weights * labeled).sum().clamp(min=1e-12)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over labeled pixels, times the weights of their classes."""
        weights = None if self.class_weights is None else constants(self.class_weights, outputs.device)
        return functional.cross_entropy(
            outputs.float(), targets.long(), weight=weights, ignore_index=IGNORED, reduction="sum"
        )

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """The mask moves with its image; what comes in from outside is ignored."""
        return warp.apply(targets.unsqueeze(1), nearest=True, fill=IGNORED).squeeze(1)

    def resize_targets(self, targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The mask is resized with its image; a pixel takes the class at its center."""
        return resize_batch(targets.unsqueeze(1), size, nearest=True).squeeze(1)

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(3 + K²,) samples, summed loss, summed weight, and the confusion matrix of pixels (truth, answer)."""
        sums = torch.full((3,), float(len(targets)), dtype=torch.float64, device=outputs.device)
        sums[1] = self.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        sums[2] = self.weight(targets)
        return torch.cat([sums, self._confusion(outputs.argmax(1), targets).double()])

    def _confusion(self, predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        pairs = torch.where(targets == IGNORED, self.outputs**2, targets.long() * self.outputs + predicted.long())
        # All that is not labeled has a last count of its own: nothing is picked, so nothing is waited for.
        counts = torch.zeros(self.outputs**2 + 1, dtype=torch.int64, device=targets.device)
        return counts.index_add_(0, pairs.flatten(), counts.new_ones(1).expand(pairs.numel()))[:-1]

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss`, `iou` and `pixel_accuracy`."""
        _, total, weight = tally[:3].tolist()
        return {"loss": total / max(weight, 1e-12), **self._agreement(tally[3:])}

    def _agreement(self, confusion: torch.Tensor) -> dict[str, float]:
        """Mean intersection over union of the classes that occur in truth or answer; share of right pixels."""
        matrix = confusion.view(self.outputs, self.outputs).double()
        hits = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - hits
        present = union > 0
        return {
            "iou": float((hits[present] / union[present]).mean()),
            "pixel_accuracy": float(hits.sum() / matrix.sum()),
        }

    def score(self, metrics: dict[str, float]) -> tuple[float, ...]:
        """The higher intersection over union; at equal ones the lower loss."""
        return (metrics["iou"], -metrics["loss"])

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, H, W) uint8 class numbers."""
        return outputs.argmax(1).to(torch.uint8)

    def metrics(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`iou` (mean over classes) and `pixel_accuracy`, over all labeled pixels of the split together."""
        return dict(self._agreement(self._confusion(decoded, targets)))

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`shares`: the share of pixels of each class that occurs."""
        counts = torch.bincount(decoded.reshape(-1).long(), minlength=self.outputs) / decoded.numel()
        return {"shares": {c: float(s) for c, s in zip(self.classes, counts.tolist(), strict=True) if s}}

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "class_weights": None if self.class_weights is None else list(self.class_weights),
        }
