"""Late fusion: the outputs of several streams combined, with weights that are fitted after the streams are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def stacked_scores(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """(N, streams · K): the softmax of each stream's outputs (N, K), scaled to length 1 (Simonyan and Zisserman,
    "Two-stream convolutional networks for action recognition in videos", NIPS 2014, section 5)."""
    return torch.cat([functional.normalize(one.float().softmax(1), dim=1) for one in outputs], 1)


class LateFusion(nn.Module):
    """Outputs (N, K) of each stream to (N, K): their sum by `share`, plus a linear function of `stacked_scores`.

    `kind` says what is fitted: `svm`, or `best`. Before that, it computes the mean of the outputs. All weights are
    buffers: training does not change them, and checkpoints and exported files contain them.
    """

    def __init__(self, outputs: int, kind: str, streams: int = 2) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("share", torch.full((streams,), 1 / streams))
        self.register_buffer("weight", torch.zeros(outputs, streams * outputs))
        self.register_buffer("bias", torch.zeros(outputs))
        self.share: torch.Tensor
        self.weight: torch.Tensor
        self.bias: torch.Tensor

    def forward(self, *outputs: torch.Tensor) -> torch.Tensor:
        mixed = sum(share * one for share, one in zip(self.share, outputs, strict=True))
        fused: torch.Tensor = mixed + functional.linear(stacked_scores(outputs), self.weight, self.bias)
        return fused

    def take(
        self, share: Sequence[float], weight: torch.Tensor | None = None, bias: torch.Tensor | None = None
    ) -> None:
        """Set the fitted weights; 0 for those that are not fitted."""
        self.share.copy_(torch.tensor(share, dtype=torch.float32))
        self.weight.copy_(torch.zeros_like(self.weight) if weight is None else weight)
        self.bias.copy_(torch.zeros_like(self.bias) if bias is None else bias)

    def extra_repr(self) -> str:
        return self.kind
