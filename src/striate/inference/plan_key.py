"""Parts of the key of a cached plan: what the times of training and of inference depend on."""

from __future__ import annotations

import hashlib
import inspect
import platform
from typing import Any

import torch
from torch import nn

from striate.machine.load import own_cores
from striate.machine.processor import processor_name
from striate.version import VERSION


def network_digest(module: nn.Module, *, weights: bool = False) -> str:
    """A digest of the structure: the modules in order with their settings, the code of modules that are not torch's,
    and the shapes of all tensors; with `weights` also their values."""
    digest = hashlib.sha256()
    seen: set[type] = set()
    for name, part in module.named_modules():
        kind = type(part)
        digest.update(f"{name}:{kind.__module__}.{kind.__qualname__}({part.extra_repr()})".encode())
        if kind not in seen and not kind.__module__.startswith("torch."):
            seen.add(kind)
            digest.update(_source(kind).encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name}:{tuple(tensor.shape)}{tensor.dtype}{tensor.requires_grad}".encode())
        if weights:
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # made in a notebook or by a function
        return ""


def machine_facts(device: torch.device) -> list[Any]:
    """The processor and the versions that times depend on, as plain values."""
    if device.type == "cuda":
        processor: list[Any] = [torch.cuda.get_device_name(device), torch.version.cuda]
    else:
        processor = [platform.machine(), torch.backends.cpu.get_cpu_capability(), processor_name(), len(own_cores())]
    return [*processor, VERSION, torch.__version__, platform.python_version()]
