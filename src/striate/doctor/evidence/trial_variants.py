"""Changes for trials: with another initialization, with the gradient of the loss alone, with some function calls
replaced; and the parameters that a trial changed or its optimizer has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.evidence.call_graph import Call
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import Path, mapped
from striate.doctor.setup.reached_objects import parameters_held
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_output
from striate.observe.torch_calls import function_name, torch_functions

INITIALIZED = (nn.modules.conv._ConvNd, nn.Linear)


def with_fresh_weights(evidence: Evidence, scheme: str) -> Progress | None:
    """The progress of the setup with the weights of convolutional and linear layers initialized by `scheme`, `he` or
    `glorot`, and their biases zero; None where there are no such layers."""
    if not any(isinstance(part, INITIALIZED) for part in evidence.fresh.model.modules()):
        return None
    return evidence.progress_of(fresh_weights(evidence, scheme))


def fresh_weights(evidence: Evidence, scheme: str) -> Trial:
    """The trial of `with_fresh_weights`."""
    return evidence.variant(f"initialized by {scheme}", Change(prepare=lambda replica: _initialize(replica, scheme)))


def _initialize(replica: Replica, scheme: str) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [part for part in replica.model.modules() if isinstance(part, INITIALIZED)]
    with torch.no_grad():
        for layer in layers:
            weight = layer.weight
            if not weight.requires_grad or nn.utils.parametrize.is_parametrized(layer):
                continue
            inputs = weight[0].numel()
            outputs = weight.shape[0] * weight[0, 0].numel()
            variance = 2 / inputs if scheme == "he" and layer is not layers[-1] else 2 / (inputs + outputs)
            drawn = torch.randn(weight.shape, generator=generator) * variance**0.5
            weight.copy_(drawn.to(weight.dtype))
            if layer.bias is not None:
                layer.bias.zero_()


class LossGradient:
    """A Change that makes the optimizer use the gradient of the loss alone: `wrap_loss` records the gradient of each
    loss value, and `prepare` makes the optimizer step with it in place of the gradient of the backward pass."""

    def __init__(self) -> None:
        self.parameters: list[torch.Tensor] = []
        self.found: dict[int, torch.Tensor] = {}

    def prepare(self, replica: Replica) -> None:
        """Called with a replica before its first step."""
        self.parameters = [parameter for parameter in replica.model.parameters() if parameter.requires_grad]
        replica.optimizer.register_step_pre_hook(self._stepping)

    def wrap_loss(self, loss: Any) -> Any:
        """The loss with recording."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            value = loss(*args, **kwargs)
            if isinstance(value, torch.Tensor) and value.requires_grad and value.numel() == 1:
                self._note(torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True))
            return value

        return watched

    def _note(self, gradients: tuple[torch.Tensor | None, ...]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                known = self.found.get(id(parameter))
                self.found[id(parameter)] = gradient if known is None else known + gradient

    def _stepping(self, _: Optimizer, __: Any, ___: Any) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None and self.found:
                parameter.grad = self.found.get(id(parameter), torch.zeros_like(parameter))
        self.found.clear()


def use_output_gradients(replica: Replica) -> None:
    """Prepare a replica whose optimizer steps with the gradient through the network's outputs, without gradients that
    reach parameters in other ways, such as a penalty on weights."""
    waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cut(_: Path, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.requires_grad:
            return tensor
        waiting.append((tensor, tensor.detach().requires_grad_()))
        return waiting[-1][1]

    def stepping(optimizer: Optimizer, *_: Any) -> None:
        outputs = [(tensor, leaf.grad) for tensor, leaf in waiting if leaf.grad is not None]
        waiting.clear()
        if outputs:
            optimizer.zero_grad()
            torch.autograd.backward([tensor for tensor, _ in outputs], [gradient for _, gradient in outputs])

    change_output(replica.model, lambda _, outputs: mapped(outputs, cut))
    replica.optimizer.register_step_pre_hook(stepping)


Replacement = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Called with a function, its positional and its keyword arguments; returns the result in its place."""


def first_argument(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A replacement that returns the first argument, which skips the call."""
    return args[0] if args else next(iter(kwargs.values()))


def replaced(calls: tuple[Call, ...], replacement: Replacement) -> Change:
    """A change that replaces these calls of one step in every step."""
    keys = {(call.name, call.ordinal) for call in calls}

    def replacing(*_: Any) -> AbstractContextManager[None]:
        count = Counter[str]()

        def called(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            name = function_name(func)
            here = (name, count[name])
            count[name] += 1
            return replacement(func, args, kwargs) if here in keys else func(*args, **kwargs)

        return torch_functions(called)

    return Change(around=replacing)


def unchanged_parameters(trial: Trial) -> list[str]:
    """Names of the parameters that a trial left unchanged."""
    ended = dict(trial.replica.model.named_parameters())
    return [
        name
        for name, original in trial.replica.originals.items()
        if name in ended and torch.equal(ended[name], original)
    ]


def optimized(trial: Trial) -> list[str]:
    """Names of the network's parameters that the optimizer has, whatever their learning rate."""
    held = parameters_held(trial.replica.optimizer)
    return [name for name, p in trial.replica.model.named_parameters(remove_duplicate=False) if id(p) in held]
