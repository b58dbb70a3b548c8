"""Where in a training step the first NaN or Inf appears: by repeating the step, watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from striate.models.preserved_state import left_alone
from striate.observe.gradients import gradients_of, on_gradient
from striate.observe.module_calls import ModuleCall, leaves, module_calls
from striate.observe.tensors import tensors_in


@dataclass(frozen=True)
class Place:
    """`words` name the first thing at fault, `layer` the layer that it belongs to, empty where it is none; `rows` are
    the positions in the batch that are at fault, empty where that cannot be told."""

    words: str
    layer: str = ""
    rows: tuple[int, ...] = ()


@dataclass
class _Watch:
    """What was seen, in the order in which it was computed."""

    forward: Place | None = None
    backward: list[tuple[str, int, Place]] = field(default_factory=list)
    before: int = 0  # samples in the parts that have gone through already

    def outputs(self, call: ModuleCall) -> None:
        """Look at what a layer gives, and at the gradient that comes back to it."""
        name, told = call.name, f"{call.name} ({type(call.module).__name__})"
        for output in tensors_in(call.output):
            if not output.is_floating_point():
                continue
            if self.forward is None and not _finite(output):
                self.forward = Place(f"first in the output of {told}", name, _bad_rows(output, self.before))
            place = Place(f"first in the gradient that reaches {told} from the next layer", name)
            on_gradient(output, self.gradient("reaching", place))

    def inputs(self, call: ModuleCall) -> None:
        """Look at the gradient that a layer passes back to what it was given."""
        told = f"{call.name} ({type(call.module).__name__})"
        place = Place(f"first in the gradient that {told} passes back", call.name)
        for given in tensors_in(call.args):
            on_gradient(given, self.gradient("passed", place))

    def gradient(self, kind: str, place: Place) -> Callable[[torch.Tensor], None]:
        """Looks at a gradient, once it is known."""

        def look(gradient: torch.Tensor) -> None:
            if not _finite(gradient):
                self.backward.append((kind, gradient.data_ptr(), place))

        return look

    def found(self) -> Place | None:
        """The first of all. A gradient between two layers is both passed back by one and reaches the other: the one
        that computed it is named."""
        if self.forward is not None or not self.backward:
            return self.forward
        _, where, first = self.backward[0]
        return next((place for kind, at, place in self.backward if kind == "passed" and at == where), first)


def place_of_nonfinite(module: nn.Module, inputs: torch.Tensor, again: Callable[[], object]) -> Place:
    """The first of inputs (B, …), parameters, outputs of layers and gradients that is not finite, in the order in which
    they are computed by `again`: the passes of the step, forward and backward. The network is left as it is."""
    if not _finite(inputs):
        return Place("the input batch has NaN or Inf", rows=_bad_rows(inputs, 0))
    for name, parameter in module.named_parameters():
        if not _finite(parameter):
            return Place(f"the parameter {name} has NaN or Inf: an earlier step was too large", name.rpartition(".")[0])
    with left_alone(module), torch.enable_grad(), _watched(module) as watch:
        again()
    return watch.found() or Place("every layer's output and gradient is finite: the loss itself, or a sum, overflows")


@contextmanager
def _watched(module: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()
    weights = [
        (parameter, watch.gradient("weight", Place(f"first in the gradient of {name}", name.rpartition(".")[0])))
        for name, parameter in module.named_parameters()
    ]

    def passed(call: ModuleCall) -> None:
        watch.before += max((len(tensor) for tensor in tensors_in(call.args) if tensor.ndim), default=0)

    with (
        module_calls(leaves(module), watch.inputs, watch.outputs),
        module_calls({"": module}, end=passed),
        gradients_of(weights),
    ):
        yield watch


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _bad_rows(tensor: torch.Tensor, before: int) -> tuple[int, ...]:
    """Positions of the samples at fault, where the tensor has a row a sample and not all of them are."""
    bad = (~torch.isfinite(tensor.detach())).reshape(len(tensor), -1).any(1) if tensor.ndim else torch.ones(1)
    return () if bool(bad.all()) else tuple(before + row for row in bad.nonzero().flatten().tolist())
