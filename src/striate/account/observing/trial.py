"""A network to try a forward pass on: without memory for its numbers where it can be, else for real."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from striate.account.observing.separate_products import separate_products
from striate.account.observing.tensors import tensors_in
from striate.models.first_weights.materialize import materialize
from striate.models.untouched import TRIALS, on_trial, trial_copy


def without_numbers(module: nn.Module) -> nn.Module | None:
    """A copy whose tensors have shapes only (on torch's meta device); None where the module cannot be copied."""
    with TRIALS:  # or the copy would have another thread's hooks
        return _without_numbers(module)


def _without_numbers(module: nn.Module) -> nn.Module | None:
    memo: dict[int, Any] = {}
    kept = []
    for part in module.modules():
        # Attributes too: a weight that is computed from others cannot be copied in any other way.
        for tensor in tensors_in([value for key, value in vars(part).items() if key != "_modules"]):
            kept.append(tensor)
            memo[id(tensor)] = _shape_only(tensor)
    try:
        return copy.deepcopy(module, memo)
    except Exception:  # whatever the attributes of a network of one's own raise
        return None


def _shape_only(tensor: torch.Tensor) -> torch.Tensor:
    bare = tensor.detach().to("meta")
    return nn.Parameter(bare, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare


def with_shapes(module: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The module itself; a copy whose lazy layers have got their shapes, if it has any."""
    if not any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return module
    module = trial_copy(module)
    materialize(module, input_shape)
    return module


@contextmanager
def trying(module: nn.Module, *, numbers: bool) -> Iterator[None]:
    """`on_trial`, without fused kernels. Without `numbers`, tensors that the network makes have shapes only, too."""
    place = nullcontext() if numbers else torch.device("meta")
    with on_trial(module), separate_products(), place:
        yield
