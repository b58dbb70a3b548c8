"""A network to try a forward pass on: without memory for its numbers where it can be, else for real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from striate.account.observing.separate_products import separate_products
from striate.errors import ModelError
from striate.models.first_weights.materialize import materialize
from striate.models.untouched import copied, has_forward_of_its_own, is_lazy, on_trial, same_random_state


def with_shapes(module: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The module itself; a copy whose lazy layers have got their shapes, if it has any.

    Raises ModelError where there can be no such copy.
    """
    if not is_lazy(module):
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
