"""Which gradients come back to tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch


def on_gradient(tensor: torch.Tensor, note: Callable[[torch.Tensor], None]) -> Callable[[], None]:
    """Call `note` with each gradient of the loss by `tensor`, for as long as the tensor lives: of outputs of layers,
    until the step is over. Returns what ends it. Nothing happens where the tensor needs no gradient."""
    if not tensor.requires_grad:
        return lambda: None
    remove: Callable[[], None] = tensor.register_hook(note).remove
    return remove


@contextmanager
def gradients_of(tensors: Iterable[tuple[torch.Tensor, Callable[[torch.Tensor], None]]]) -> Iterator[None]:
    """While the body runs, call each note with the gradients that come back to its tensor."""
    with ExitStack() as stack:
        for tensor, note in tensors:
            stack.callback(on_gradient(tensor, note))
        yield
