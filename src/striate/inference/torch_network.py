"""A network prepared to be computed by torch in another way than plainly; a copy, the network itself stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from striate.data.memory_layout import channels_last, contiguous
from striate.inference.fused_convolution import fuse_convolutions
from striate.inference.plan import Way
from striate.inference.traced import fold_normalization, traced
from striate.machine.precision import dtype_of, fp32_products
from striate.models.untouched import copied, on_trial

Network = Callable[[torch.Tensor], torch.Tensor]
"""From a normalized batch (B, *input_shape) float32 to outputs (B, …) float32."""

# Their statistics and factors need more digits than bf16 has; what they normalize keeps its type.
_NORMALIZATIONS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)


def prepare_torch(way: Way, module: nn.Module, sample: torch.Tensor) -> Network:
    """The network computed as `way` says, made for batches like `sample` (B, *input_shape) and right for others.

    Raises whatever keeps this network from being computed so.
    """
    with on_trial(module):
        network = copied(module).eval().requires_grad_(False)
    layout = memory_format_of(way, sample)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    if not way.fused:
        return _by_autocast(way, network, sample.device, layout)
    with on_trial(network):
        graph = traced(network)
    folded, fused, dtype = fold_normalization(graph), 0, dtype_of(way.precision)
    _convert(graph, dtype)
    if sample.device.type == "cpu":
        fused = fuse_convolutions(graph, _laid_out(sample.to(dtype), layout))
    if not folded and not fused:
        raise ValueError("nothing to fold or fuse")

    def answer(x: torch.Tensor) -> torch.Tensor:
        with fp32_products(tf32=way.precision == "tf32"):
            outputs: torch.Tensor = graph(_laid_out(x.to(dtype), layout))
        return outputs.float()

    return answer


def memory_format_of(way: Way, sample: torch.Tensor) -> torch.memory_format:
    """Torch's name of the way's layout for batches like `sample`: channels last exists for images and volumes."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d} if way.memory_format == "channels_last" else {}
    return layouts.get(sample.ndim, torch.contiguous_format)


def _laid_out(x: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    return contiguous(x) if layout == torch.contiguous_format else channels_last(x)


def _by_autocast(way: Way, network: nn.Module, device: torch.device, layout: torch.memory_format) -> Network:
    dtype, tf32 = dtype_of(way.precision), way.precision == "tf32"
    half = dtype != torch.float32

    def answer(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=half), fp32_products(tf32=tf32):
            outputs: torch.Tensor = network(_laid_out(x, layout))
        return outputs.float()

    return answer


def _convert(network: nn.Module, dtype: torch.dtype) -> None:
    """All floating-point numbers to `dtype`, but those of normalizations."""
    if dtype == torch.float32:
        return
    for part in network.modules():
        if isinstance(part, _NORMALIZATIONS):
            continue
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if tensor.is_floating_point():
                converted = tensor.detach().to(dtype)
                setattr(part, name, nn.Parameter(converted, False) if isinstance(tensor, nn.Parameter) else converted)
