"""Heads of several targets on a shared network, and the weighting of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ModelError
from striate.models.features import output_layer


class TargetHeads(nn.Linear):
    """A linear head for each of T targets on the same features, as one layer; `sizes` are their numbers of outputs.

    `uncertain`: in training, T logarithms of variances follow the outputs, the same for every sample (Kendall et al.
    2018). `balanced`: in training, the gradients of all targets with respect to the features are scaled to their mean
    norm.
    """

    def __init__(self, layer: nn.Linear, sizes: Sequence[int], *, uncertain: bool = False, balanced: bool = False):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.sizes, self.balanced = tuple(sizes), balanced
        self.log_variances = (
            nn.Parameter(torch.zeros(len(self.sizes), device=layer.weight.device)) if uncertain else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, ΣK), in training followed by the variances, if there are any."""
        if not self.training:
            return functional.linear(x, self.weight, self.bias)
        if self.balanced and torch.is_grad_enabled():
            copies: tuple[torch.Tensor, ...] = _Balanced.apply(x, len(self.sizes))
            weights = self.weight.split(self.sizes)
            biases = [None] * len(weights) if self.bias is None else self.bias.split(self.sizes)
            heads = zip(copies, weights, biases, strict=True)
            outputs = torch.cat([functional.linear(copy, weight, bias) for copy, weight, bias in heads], dim=1)
        else:
            outputs = functional.linear(x, self.weight, self.bias)
        if self.log_variances is None:
            return outputs
        return torch.cat([outputs, self.log_variances.to(outputs.dtype).expand(len(x), -1)], dim=1)


class _Balanced(torch.autograd.Function):
    """Copies of features whose gradients are scaled to the same norm before they are added."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
        del context
        return tuple(x.view_as(x) for _ in range(count))

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        del context
        stacked = torch.stack(gradients)
        lengths = stacked.float().flatten(1).norm(dim=1)
        pulling = (lengths > 0).sum().clamp(min=1)
        scale = torch.where(lengths > 0, lengths.sum() / pulling / lengths.clamp(min=1e-30), 0)
        return (stacked * scale.to(stacked.dtype).view(-1, *[1] * (stacked.ndim - 1))).sum(0), None


def with_heads(network: nn.Module, sizes: Sequence[int], weighting: str) -> nn.Module:
    """The network with its last layer replaced by heads of the targets. Raises ModelError where that layer is not
    linear."""
    name = output_layer(network)
    layer = None if name is None else network.get_submodule(name)
    if isinstance(layer, TargetHeads):
        return network
    if not isinstance(layer, nn.Linear) or layer.out_features != sum(sizes) or not name:
        raise ModelError(
            "model",
            "a network whose last layer with weights is not linear"
            if layer is not None
            else "a network without layers",
            f"a last layer fc({sum(sizes)}), where --task.weighting {weighting} measures each target",
            "--task.weighting fixed, or a network that ends with fc",
        )
    heads = TargetHeads(layer, sizes, uncertain=weighting == "uncertainty", balanced=weighting == "gradient-norm")
    network.set_submodule(name, heads)
    return network
