"""Record the gradients of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch


def on_gradient(tensor: torch.Tensor, note: Callable[[torch.Tensor], None]) -> Callable[[], None]:
    """Call `note` with each gradient of the loss with respect to `tensor`, as long as the tensor lives: for outputs of
    layers, until the step is over. Returns a function that ends it. Has no effect if the tensor needs no gradient."""
    if not tensor.requires_grad:
        return lambda: None
    remove: Callable[[], None] = tensor.register_hook(note).remove
    return remove


@contextmanager
def gradients_of(tensors: Iterable[tuple[torch.Tensor, Callable[[torch.Tensor], None]]]) -> Iterator[None]:
    """While the body runs, call each note with the gradients of its tensor."""
    with ExitStack() as stack:
        for tensor, note in tensors:
            stack.callback(on_gradient(tensor, note))
        yield


@contextmanager
def accumulations_of(tensors: Iterable[tuple[torch.Tensor, Callable[[torch.Tensor], None]]]) -> Iterator[None]:
    """While the body runs, call each note with its tensor, a leaf, after a gradient was added to `grad`: by `backward`,
    not by `torch.autograd.grad`."""
    with ExitStack() as stack:
        for tensor, note in tensors:
            if tensor.requires_grad:
                stack.callback(tensor.register_post_accumulate_grad_hook(note).remove)
        yield
