"""Head warm-up: fine-tuning begins with the head alone, whose random weights would otherwise spoil the pretrained
layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from striate.models.features import output_layer
from striate.models.weights.auxiliary_outputs import auxiliary_layers
from striate.training.config import Config
from striate.training.setup import at_step


def head_steps(config: Config) -> int:
    """The number of steps at the beginning that train only the head, a share of the steps that the run began with."""
    return round((config.fine_tune.head_share or 0.0) * (at_step(config, 0).budget.steps or 0))


@contextmanager
def training_mode(module: nn.Module, config: Config) -> Iterator[Callable[[int], None]]:
    """A function of the step that puts the network into training mode.

    In the first `fine_tune.head_share` of the steps, everything but the output layer, and those of auxiliary
    classifiers, is frozen: it gets no gradients and stays in eval mode, so that its normalizations keep their
    statistics. At the end, frozen parameters get gradients again.
    """
    head, auxiliary = output_layer(module), auxiliary_layers(module)
    until = 0 if head is None else head_steps(config)  # a network without kernels and matrices has no head
    trunk = [
        p
        for name, p in module.named_parameters()
        if p.requires_grad and name.rpartition(".")[0] not in (head, *auxiliary)
    ]
    frozen, set_before = False, False

    def freeze(wanted: bool) -> None:
        nonlocal frozen
        if wanted != frozen:
            for parameter in trunk:
                parameter.requires_grad_(not wanted)
                parameter.grad = None
            frozen = wanted

    def set_mode(step: int) -> None:
        nonlocal set_before
        if set_before and (step < until) == frozen:
            return  # setting the mode of every layer takes longer than some layers compute
        set_before = True
        freeze(step < until)
        module.train(not frozen)
        if frozen and head is not None:
            for name in (head, *auxiliary):
                module.get_submodule(name).train()
            # The mode of the network itself decides whether its auxiliary classifiers predict.
            module.training = module.training or bool(auxiliary)

    try:
        yield set_mode
    finally:
        freeze(False)
