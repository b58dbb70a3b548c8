"""Fine-tuning begins with the head: new and random, it would otherwise destroy what the layers below have learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from striate.models.depth import output_layer
from striate.training.config import Config


def head_steps(config: Config) -> int:
    """How many steps at the beginning belong to the head alone."""
    return round((config.fine_tune.head_share or 0.0) * (config.budget.steps or 0))


@contextmanager
def training_mode(module: nn.Module, config: Config) -> Iterator[Callable[[int], None]]:
    """A function of the step that puts the network into training mode.

    In the first `fine_tune.head_share` of the steps all but the output layer is frozen: it gets no gradient and stays
    in eval mode, so that its normalization keeps its statistics. What was frozen is open again when this ends.
    """
    head = output_layer(module)
    until = 0 if head is None else head_steps(config)  # without a kernel or matrix there is nothing to learn but all
    trunk = [p for name, p in module.named_parameters() if p.requires_grad and name.rpartition(".")[0] != head]
    frozen = False

    def freeze(wanted: bool) -> None:
        nonlocal frozen
        if wanted != frozen:
            for parameter in trunk:
                parameter.requires_grad_(not wanted)
                parameter.grad = None
            frozen = wanted

    def set_mode(step: int) -> None:
        freeze(step < until)
        module.train(not frozen)
        if frozen and head is not None:
            module.get_submodule(head).train()

    try:
        yield set_mode
    finally:
        freeze(False)
