"""Batch normalization over the whole batch, when several processes compute its parts.

torch's SyncBatchNorm does the same, but only on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def whole_batch_statistics(module: nn.Module, together: bool) -> Iterator[None]:
    """While open, if `together`: batch normalization in training mode takes mean and variance over the samples of all
    processes. All processes have to call these layers equally often."""
    layers = [part for part in module.modules() if isinstance(part, _BatchNorm)] if together else []
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: _BatchNorm, x: torch.Tensor) -> torch.Tensor:
    """`_BatchNorm.forward` over the samples of all processes; (N, C, …)."""
    if not layer.training:
        return type(layer).forward(layer, x)
    layer._check_input_dim(x)
    scale = torch.ones(x.shape[1], device=x.device) if layer.weight is None else layer.weight
    shift = torch.zeros(x.shape[1], device=x.device) if layer.bias is None else layer.bias
    y: torch.Tensor
    y, mean, var, count = _Normalized.apply(x, scale, shift, layer.eps)
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            momentum = layer.momentum
            weight = 1.0 / float(layer.num_batches_tracked) if momentum is None else momentum
            layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), weight)
            unbiased = var * (count / (count - 1).clamp(min=1))
            layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), weight)
    return y


class _Normalized(torch.autograd.Function):
    """(x − mean) / √(var + eps) · scale + shift, with mean and variance over all axes but the second and over all
    processes (Ioffe and Szegedy 2015). Also returns mean, variance, and the number of values."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float) -> tuple[Any, ...]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(x.float(), axes, correction=0)
        count, mean, var = _joined(x.numel() // x.shape[1], mean, var)
        ctx.save_for_backward(x, scale, mean, torch.rsqrt(var + eps), count)
        y = functional.batch_norm(x, mean.to(x.dtype), var.to(x.dtype), scale.to(x.dtype), shift.to(x.dtype), eps=eps)
        ctx.mark_non_differentiable(mean, var, count)
        return y, mean, var, count

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, mean, inverse, count = ctx.saved_tensors
        grad, axes = gradients[0].float(), [axis for axis in range(x.ndim) if axis != 1]
        view = (1, -1, *[1] * (x.ndim - 2))
        normal = (x.float() - mean.view(view)) * inverse.view(view)
        of_shift, of_scale = grad.sum(axes), (grad * normal).sum(axes)
        sums = torch.stack([of_shift, of_scale])  # gradients of the parameters are summed later, with all others
        distributed.all_reduce(sums)
        means = (sums / count).float()
        factor = (scale.float() * inverse).view(view)
        of_x = factor * (grad - means[0].view(view) - normal * means[1].view(view))
        return of_x.to(x.dtype), of_scale.to(scale.dtype), of_shift.to(scale.dtype), None


def _joined(count: int, mean: torch.Tensor, var: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Number (scalar), mean and variance (C) float32 of the values of all processes, from those of this one.

    In float64, so that nothing is lost where means are far from 0."""
    mean, var = mean.double(), var.double()
    sums = torch.cat([mean.new_full((1,), count), count * mean, count * (var + mean.square())])
    distributed.all_reduce(sums)
    total, first, second = sums[0], sums[1 : 1 + len(mean)], sums[1 + len(mean) :]
    mean = first / total
    return total, mean.float(), (second / total - mean.square()).clamp(min=0).float()
