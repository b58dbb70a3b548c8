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
from striate.errors import ModelError
from striate.models.first_weights.materialize import materialize
from striate.models.untouched import TRIALS, copied, has_forward_of_its_own, on_trial, same_random_state


def without_numbers(module: nn.Module) -> nn.Module | None:
    """A copy whose tensors have shapes only (on torch's meta device); None where there can be none of which the
    original would not run."""
    if has_forward_of_its_own(module):
        return None
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
    """The module itself; a copy whose lazy layers have got their shapes, if it has any.

    Raises ModelError where there can be no such copy.
    """
    if not any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return module
    if has_forward_of_its_own(module):
        raise ModelError(
            f"model {type(module).__name__}",
            "lazy layers without shapes, in a network with a forward that was set on the object",
            "shapes that can be found out on a copy",
            f"network(torch.zeros(2, {', '.join(map(str, input_shape))})), once, before",
        )
    module = copied(module)
    with same_random_state():
        materialize(module, input_shape)
    return module


@contextmanager
def trying(module: nn.Module, *, numbers: bool) -> Iterator[None]:
    """`on_trial`, without fused kernels. Without `numbers`, tensors that the network makes have shapes only, too."""
    place = nullcontext() if numbers else torch.device("meta")
    with on_trial(module), separate_products(), place:
        yield
