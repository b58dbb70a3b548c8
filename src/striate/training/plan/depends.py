"""Everything that the times of a plan depend on: what a kept plan is found under."""

from __future__ import annotations

import hashlib
import inspect
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.machine.load import Load, own_cores
from striate.training.config import ExecutionConfig
from striate.training.plan.offers import Offers
from striate.training.plan.trial import Workload
from striate.version import VERSION

_FORM = 1  # of what is kept: another number where older plans would be misread


def plan_key(work: Workload, asked: ExecutionConfig, offers: Offers, load: Load) -> dict[str, Any]:
    """Plain values. The load of the machine is one of them: a plan that was made on busy cores says nothing about quiet
    ones. Weights and data are none: what is kept are times, and agreement is looked at anew."""
    config = work.config
    device = torch.device(config.execution.device or "cpu")
    return {
        "form": _FORM,
        "network": network_digest(work.state.module),
        "heads": "" if work.state.heads is None else network_digest(work.state.heads),
        "input": list(work.train.inputs.shape[1:]),
        "batch": config.batch,
        "part": config.execution.micro_batch,
        "augment": asdict(config.augment),
        "asked": {name: value for name, value in asdict(asked).items() if name != "plan"},
        "threads": offers.threads,
        "compiles": offers.compiles,
        "allocator": offers.allocator,
        "optimizer": [config.optim.name, bool(config.optim.ema), bool(config.optim.clip)],
        "regularize": [value > 0 for value in asdict(config.regularize).values()],
        "task": work.task.name,
        "machine": _machine(device),
        "versions": [VERSION, torch.__version__, platform.python_version()],
        "load": load.name,
    }


def network_digest(module: nn.Module) -> str:
    """A digest of the structure: modules in order, what they say of themselves, the code of those that are not torch's,
    and shapes of all tensors."""
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
    return digest.hexdigest()


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # made in a notebook or by a function
        return ""


def _machine(device: torch.device) -> list[Any]:
    if device.type == "cuda":
        return [torch.cuda.get_device_name(device), torch.version.cuda]
    return [platform.machine(), torch.backends.cpu.get_cpu_capability(), _processor(), len(own_cores())]


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
