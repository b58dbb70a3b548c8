"""One class out of K for each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from striate.data.warp import Warp

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
        total, weight = self._loss_sums(outputs, targets)
        return total / weight.clamp(min=1e-12)

    def _loss_sums(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        truth = targets.long()
        weights = None
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, device=outputs.device)
        total = functional.cross_entropy(outputs.float(), truth, weight=weights, ignore_index=IGNORED, reduction="sum")
        labeled = truth[truth != IGNORED]
        if weights is None:
            return total, torch.tensor(float(len(labeled)), device=outputs.device)
        return total, weights[labeled].sum()

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """The mask moves with its image; what comes in from outside is ignored."""
        return warp.apply(targets.unsqueeze(1), nearest=True, fill=IGNORED).squeeze(1)

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(3 + K²,) samples, summed loss, summed weight, and the confusion matrix of pixels (truth, answer)."""
        total, weight = self._loss_sums(outputs, targets)
        count = torch.tensor(float(len(targets)), device=outputs.device)
        confusion = self._confusion(outputs.argmax(1), targets)
        return torch.cat([torch.stack([count, total, weight]).double(), confusion.double()])

    def _confusion(self, predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        labeled = targets != IGNORED
        pairs = targets[labeled].long() * self.outputs + predicted[labeled].long()
        return torch.bincount(pairs, minlength=self.outputs**2)

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
