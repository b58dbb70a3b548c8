"""One class out of K for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from striate.data.warp import Warp
from striate.tasks.constants import constants


@dataclass(frozen=True)
class Classify:
    """Classification over `classes`; logits (N, K), targets (N,) int64, answers class probabilities (N, K).

    `loss_name`: softmax cross-entropy, or the multi-class hinge loss of Weston and Watkins (1999), summed over
    the wrong classes and averaged over samples. `class_weights`: K factors, or None for equal ones. `temperature`: what
    logits are divided by before they become probabilities, where calibrated ones were asked for; the loss is of the
    logits as they are.
    """

    classes: tuple[str, ...]
    loss_name: str = "cross-entropy"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    margin: float = 1.0
    temperature: float = 1.0

    name = "classify"
    headline = "accuracy"
    higher_is_better = True

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.classes)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar mean loss; with class weights a weighted mean."""
        return self.loss_sum(outputs, targets) / self.weight(targets)

    def weight(self, targets: torch.Tensor) -> torch.Tensor | float:
        """The number of samples, or the sum of the weights of their classes."""
        weights = self._weights(targets.device)
        return float(len(targets)) if weights is None else weights[targets].sum()

    def _weights(self, device: torch.device) -> torch.Tensor | None:
        return None if self.class_weights is None else constants(self.class_weights, device)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples, times the weights of their classes; of smoothed labels where those are asked for."""
        return self._loss_sum(outputs, targets, self.label_smoothing)

    def _loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        outputs, weights = outputs.float(), self._weights(outputs.device)
        if self.loss_name == "hinge":
            # torch divides by K; the definition does not.
            total = outputs.shape[1] * functional.multi_margin_loss(
                outputs, targets, margin=self.margin, weight=weights, reduction="sum"
            )
            return total + 0 * outputs.sum()  # torch's hinge of outputs that are not a number is 0
        return functional.cross_entropy(outputs, targets, weight=weights, label_smoothing=smoothing, reduction="sum")

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """A class does not move with its image."""
        del warp
        return targets

    def resize_targets(self, targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """A class has no size."""
        del size
        return targets

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(4,) samples, summed loss, summed weight, correct answers. The loss is that of the labels as they are, unless
        `loss_sum` is given: smoothing is a means of training, not what answers are measured by."""
        tally = torch.full((4,), float(len(targets)), dtype=torch.float64, device=outputs.device)
        tally[1] = self._loss_sum(outputs, targets, 0.0) if loss_sum is None else loss_sum
        if self.class_weights is not None:
            tally[2] = self.weight(targets)
        tally[3] = (outputs.argmax(1) == targets).sum()
        return tally

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss` and `accuracy`."""
        count, total, weight, correct = tally.tolist()
        return {"loss": total / weight, "accuracy": correct / count}

    def score(self, metrics: dict[str, float]) -> tuple[float, ...]:
        """The higher accuracy; at equal accuracy the lower loss."""
        return (metrics["accuracy"], -metrics["loss"])

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, K) float32 softmax probabilities."""
        return (outputs.float() / self.temperature).softmax(1)

    def metrics(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`accuracy`, `top5` (among the min(5, K) most probable) and `macro_f1`, each from 0 to 1."""
        from sklearn.metrics import accuracy_score, f1_score

        predicted, truth = decoded.argmax(1).cpu().numpy(), targets.cpu().numpy()
        top = decoded.topk(min(5, self.outputs), dim=1).indices
        return {
            "accuracy": float(accuracy_score(truth, predicted)),
            "top5": float((top == targets[:, None]).any(1).float().mean()),
            "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        }

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`label`, its `probability`, and the `top` five as [label, probability]."""
        values, places = decoded.topk(min(5, self.outputs))
        top = [[self.classes[i], float(p)] for p, i in zip(values.tolist(), places.tolist(), strict=True)]
        return {"label": top[0][0], "probability": top[0][1], "top": top}

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "loss_name": self.loss_name,
            "label_smoothing": self.label_smoothing,
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "margin": self.margin,
        }
