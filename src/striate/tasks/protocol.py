"""What `training/` and `evaluation/` know of a task: this, and nothing more."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from striate.data.warp import Warp


class Task(Protocol):
    """What is asked of a network: how targets are read and warped, the head, the loss, metrics and decoding.

    Everything measured over many samples is a *tally*: a float64 vector of sums, so that tallies of batches
    (and of processes) add up, lie in a checkpoint, and become metrics only at the end.
    """

    @property
    def name(self) -> str:
        """`classify`, `regress` or `segment`."""
        ...

    @property
    def headline(self) -> str:
        """The metric of `summarize` and `metrics` that says most: `accuracy`, `rmse` or `iou`."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the headline metric is a better one."""
        ...

    @property
    def loss_name(self) -> str:
        """The loss, as in `task.loss`."""
        ...

    @property
    def outputs(self) -> int:
        """How many logits (channels, for masks) the network must give."""
        ...

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar loss, the mean over the samples of the batch, `loss_sum / weight`; what training minimizes."""
        ...

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum of the losses of all that counts: sums of the parts of a batch add up to that of the whole."""
        ...

    def weight(self, targets: torch.Tensor) -> torch.Tensor | float:
        """What `loss_sum` is divided by for the mean: how many samples or labeled pixels there are, or the sum of
        their class weights. A tensor only where it depends on the values of the targets."""
        ...

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """Targets of images that were moved by `warp`."""
        ...

    def resize_targets(self, targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Targets of images that were made (height, width) `size` pixels large."""
        ...

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(M,) float64 sums over the batch from which `summarize` makes metrics; M does not depend on the batch.
        `loss_sum` is that of these outputs and targets where it is known already."""
        ...

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss` and the one or two metrics that are followed epoch by epoch, from summed tallies."""
        ...

    def score(self, metrics: dict[str, float]) -> tuple[float, ...]:
        """What "best" means: compared as tuples, higher is better."""
        ...

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """Answers from outputs, small enough to keep for a whole split: class probabilities (N, K) float32,
        numbers in the units of the data (N, T) float32, or masks (N, H, W) uint8."""
        ...

    def metrics(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """The final metrics of a split under their public names, without `n` and `loss`."""
        ...

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """One sample's answer as the fields of a `predict --json` line."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything needed to make the same task again: plain values only."""
        ...
