"""Find the tensors in arguments and outputs of modules: tuples, dictionaries, records and objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import nn

DEEPEST = 8


def tensors_in(value: object, depth: int = 0) -> Iterator[torch.Tensor]:
    """All tensors in a value, in order; of objects, those among their attributes.

    A tensor that torch.vmap or torch.func has wrapped is unwrapped, with the axis that they hide.
    """
    if isinstance(value, torch.Tensor):
        while torch._C._functorch.is_functorch_wrapped_tensor(value):
            value = torch._C._functorch.get_unwrapped(value)
        yield value
    elif depth < DEEPEST and not isinstance(value, nn.Module):
        if isinstance(value, Mapping):
            parts = list(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            parts = list(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
        elif type(value).__module__ != "builtins" and hasattr(value, "__dict__"):
            parts = list(vars(value).values())
        else:
            return
        for part in parts:
            yield from tensors_in(part, depth + 1)
