"""What a loader yields, taken apart: inputs, targets, and how a network is called with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_INPUTS = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "data", "features", "signal", "signals")
_TARGETS = ("y", "target", "targets", "label", "labels", "class", "classes", "mask", "masks")


def parts(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch: of (x, y), of (x, …, y) — then the inputs are a tuple —, of a dictionary by the
    usual names; of a tensor alone, the tensor twice: what is to be reconstructed."""
    if isinstance(batch, Mapping):
        return _of_mapping(batch)
    if isinstance(batch, list | tuple):
        if len(batch) == 1:
            return batch[0], batch[0]
        return (batch[0], batch[1]) if len(batch) == 2 else (tuple(batch[:-1]), batch[-1])
    return batch, batch


def _of_mapping(batch: Mapping[Any, Any]) -> tuple[Any, Any]:
    target = next((key for key in batch if str(key).lower() in _TARGETS), None)
    named = next((key for key in batch if str(key).lower() in _INPUTS and key != target), None)
    if named is None:
        rest = [key for key in batch if key != target and isinstance(batch[key], torch.Tensor)]
        named = rest[0] if rest else None
    inputs = batch if named is None else batch[named]
    return inputs, (inputs if target is None else batch[target])


def call(model: nn.Module, inputs: Any) -> Any:
    """The outputs of the network for inputs: those of several are given one by one."""
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def main_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor in outputs or inputs, those of numbers with a fraction first; None where there is none."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        found = [tensor for part in value if (tensor := main_tensor(part)) is not None]
        return next((tensor for tensor in found if tensor.is_floating_point()), found[0] if found else None)
    logits = getattr(value, "logits", None)
    return logits if isinstance(logits, torch.Tensor) else None


def placed(value: Any, device: torch.device) -> Any:
    """The batch with its tensors on `device`."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return type(value)({key: placed(part, device) for key, part in value.items()})  # type: ignore[call-arg]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(placed(part, device) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(placed(part, device) for part in value)
    return value


def copied(value: Any) -> Any:
    """The batch with tensors of its own: a step may write into them."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, Mapping):
        return type(value)({key: copied(part) for key, part in value.items()})  # type: ignore[call-arg]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(copied(part) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(copied(part) for part in value)
    return value


def size_of(batch: Any) -> int:
    """How many samples a batch has: the length of its first tensor."""
    tensor = main_tensor(parts(batch)[0])
    return len(tensor) if tensor is not None and tensor.ndim else 0
