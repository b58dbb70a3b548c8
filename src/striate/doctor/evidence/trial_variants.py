"""A trial with weights drawn anew: what a healthy start would give.
Steps with the gradient of the loss alone, whatever is added to it.
Trials in which some calls of functions do something else: what a line of the network or the loss costs.
Which parameters a trial moved, and which its optimizer holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
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

_DRAWN = (nn.modules.conv._ConvNd, nn.Linear)


def with_fresh_weights(evidence: Evidence, way: str) -> Progress | None:
    """How far the user's own setup comes when weights of hidden convolutional and full layers are drawn `he` or
    `glorot` and their biases are zero; None where no layer has such weights."""
    if not any(isinstance(part, _DRAWN) for part in evidence.fresh.model.modules()):
        return None
    trial = evidence.variant(f"weights drawn anew, {way}", Change(prepare=lambda replica: _draw(replica, way)))
    return evidence.progress_of(trial)


def _draw(replica: Replica, way: str) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [part for part in replica.model.modules() if isinstance(part, _DRAWN)]
    with torch.no_grad():
        for layer in layers:
            weight = layer.weight
            if not weight.requires_grad or nn.utils.parametrize.is_parametrized(layer):
                continue
            inputs = weight[0].numel()
            outputs = weight.shape[0] * weight[0, 0].numel()
            variance = 2 / inputs if way == "he" and layer is not layers[-1] else 2 / (inputs + outputs)
            drawn = torch.randn(weight.shape, generator=generator) * variance**0.5
            weight.copy_(drawn.to(weight.dtype))
            if layer.bias is not None:
                layer.bias.zero_()


class OwnGradient:
    """Two halves of a Change: `around` notes the gradient of each value that the loss gives, `prepare` has the
    optimizer step with that in place of what backward left."""

    def __init__(self) -> None:
        self.parameters: list[torch.Tensor] = []
        self.found: dict[int, torch.Tensor] = {}

    def prepare(self, replica: Replica) -> None:
        """Of a replica before its first step."""
        self.parameters = [parameter for parameter in replica.model.parameters() if parameter.requires_grad]
        replica.optimizer.register_step_pre_hook(self._stepping)

    def around(self, loss: Any) -> Any:
        """The loss, watched."""

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


def by_outputs_alone(replica: Replica) -> None:
    """Prepares a replica whose optimizer steps with what comes back through the network's outputs, without what
    backward leaves in parameters otherwise, as a penalty on weights."""
    waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cut(_: Path, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.requires_grad:
            return tensor
        waiting.append((tensor, tensor.detach().requires_grad_()))
        return waiting[-1][1]

    def stepping(optimizer: Optimizer, *_: Any) -> None:
        asked = [(tensor, leaf.grad) for tensor, leaf in waiting if leaf.grad is not None]
        waiting.clear()
        if asked:
            optimizer.zero_grad()
            torch.autograd.backward([tensor for tensor, _ in asked], [gradient for _, gradient in asked])

    change_output(replica.model, lambda _, outputs: mapped(outputs, cut))
    replica.optimizer.register_step_pre_hook(stepping)


Instead = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Is given the function, its arguments and its named arguments, and gives the result."""


def first_argument(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call is given, for what it gives: the call is left out."""
    return args[0] if args else next(iter(kwargs.values()))


def replaced(calls: tuple[Call, ...], instead: Instead) -> Change:
    """A change in which these calls, as they were met in one step, do something else in every step."""
    wanted = {(call.name, call.ordinal) for call in calls}
    steps: list[Any] = []

    def prepare(replica: Replica) -> None:
        steps.append(replica.step)

    def step(*args: Any) -> Any:
        count = Counter[str]()

        def around(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            name = function_name(func)
            here = (name, count[name])
            count[name] += 1
            return instead(func, args, kwargs) if here in wanted else func(*args, **kwargs)

        with torch_functions(around):
            return steps[-1](*args)

    return Change(step=step, prepare=prepare)


def unmoved(trial: Trial) -> list[str]:
    """Names of parameters that are, after the trial, what the network was given with."""
    ended = dict(trial.replica.model.named_parameters())
    return [
        name
        for name, original in trial.replica.originals.items()
        if name in ended and torch.equal(ended[name], original)
    ]


def optimized(trial: Trial) -> list[str]:
    """Names of parameters of the network that the optimizer holds, whatever their rate."""
    held = parameters_held(trial.replica.optimizer)
    return [name for name, p in trial.replica.model.named_parameters(remove_duplicate=False) if id(p) in held]
