"""What one sample costs: parameters and multiply–accumulates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from torch import nn

from striate.account.observing.observation import observe_network
from striate.models.untouched import trial_copy, untouched


def count_parameters(module: nn.Module) -> int:
    """Numbers in all parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply–accumulates of convolutions and matrix products for one sample in eval mode, biases excluded.

    The same number as `summarize` gives. Raises ModelError where the network does not take the input.
    """
    return observe_network(module, input_shape, memory=False).macs


def layer_rows(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[tuple[str, str, str, int], ...]:
    """Name, class, output shape without batch, and own parameters of each leaf module, in the order of execution."""
    rows: list[tuple[str, str, str, int]] = []

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(layer: nn.Module, _: object, output: object) -> None:
            shape = "×".join(map(str, output.shape[1:])) if isinstance(output, torch.Tensor) else "–"
            rows.append((name, type(layer).__name__, shape, count_parameters(layer)))

        return hook

    with _trial(module) as trial:
        leaves = [(name, layer) for name, layer in trial.named_modules() if not any(True for _ in layer.children())]
        handles = [layer.register_forward_hook(note(name)) for name, layer in leaves]
        try:
            _forward(trial, input_shape)
        finally:
            for handle in handles:
                handle.remove()
    return tuple(rows)


@contextmanager
def _trial(module: nn.Module) -> Iterator[nn.Module]:
    """The network to run: a copy where one can be made, in eval mode; whichever it is, it is put back."""
    trial = trial_copy(module)
    with untouched(trial):
        yield trial


def _forward(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    tensors = (*module.parameters(), *module.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    # What the user's code prints stays off stdout, where a verb's --json promises one document.
    with torch.no_grad(), redirect_stdout(sys.stderr):
        module(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
