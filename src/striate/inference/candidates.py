"""Which ways of answering a device offers, and which networks are left as they are."""

from __future__ import annotations

import torch
from torch import nn

from striate.inference.openvino_network import openvino_installed
from striate.inference.plan import Way
from striate.models.untouched import has_forward_of_its_own, is_lazy


def ways_to_try(device: torch.device) -> tuple[Way, ...]:
    """From the nearest to plain fp32 to the farthest; each is worth more seconds of preparation than the one before."""
    if device.type == "cuda":
        return (
            Way(memory_format="channels_last", fused=True),
            Way(precision="tf32", memory_format="channels_last", fused=True),
            Way(precision="bf16", memory_format="channels_last", fused=True),
            Way(precision="fp16", memory_format="channels_last", fused=True),
        )
    ways: tuple[Way, ...] = (
        Way(memory_format="channels_last", fused=True),
        Way(precision="bf16", memory_format="channels_last", fused=True),
    )
    if device.type == "cpu" and openvino_installed():
        ways += (Way("openvino", "bf16"), Way("openvino", "fp32"))
    return ways


def why_left_alone(module: nn.Module) -> str:
    """What forbids to compute a copy of the network in another way, in plain words; "" where nothing does."""
    if has_forward_of_its_own(module):
        return "a part of the network has a forward of its own"
    if is_lazy(module):
        return "the network has no shapes yet"
    if any(_has_hooks(part) for part in module.modules()):
        return "the network has hooks, which another way would not call"
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return "the network is a TorchScript program"
    floating = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    if any(tensor.dtype != torch.float32 for tensor in floating):
        return "not all of its numbers are fp32"
    if not any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules()):
        return "it has no convolutions"
    return ""


def _has_hooks(part: nn.Module) -> bool:
    return bool(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)
