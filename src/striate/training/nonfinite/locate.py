"""Where in a training step the first NaN or Inf appears: repeats the step, with hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from striate.models.preserved_state import original_preserved
from striate.observe.gradients import gradients_of, on_gradient
from striate.observe.module_calls import ModuleCall, leaves, module_calls
from striate.observe.tensors import tensors_in


@dataclass(frozen=True)
class Fault:
    """The first NaN or Inf of a step."""

    words: str
    """Where it is, in words."""
    layer: str = ""
    """The layer that it belongs to; empty where it belongs to none."""
    rows: tuple[int, ...] = ()
    """Positions of the samples at fault in the batch; empty where these are unknown."""


@dataclass
class _Watch:
    """The NaN and Inf that were found, in the order in which they were computed."""

    forward: Fault | None = None
    backward: list[tuple[str, int, Fault]] = field(default_factory=list)
    before: int = 0  # samples in the parts that have gone through already

    def outputs(self, call: ModuleCall) -> None:
        """Check the output of a layer, and the gradient that comes back to it."""
        name, layer = call.name, f"{call.name} ({type(call.module).__name__})"
        for output in tensors_in(call.output):
            if not output.is_floating_point():
                continue
            if self.forward is None and not _finite(output):
                self.forward = Fault(f"first in the output of {layer}", name, _bad_rows(output, self.before))
            place = Fault(f"first in the gradient that reaches {layer} from the next layer", name)
            on_gradient(output, self.gradient("reaching", place))

    def inputs(self, call: ModuleCall) -> None:
        """Check the gradient that a layer passes back."""
        layer = f"{call.name} ({type(call.module).__name__})"
        place = Fault(f"first in the gradient that {layer} passes back", call.name)
        for given in tensors_in(call.args):
            on_gradient(given, self.gradient("passed", place))

    def gradient(self, kind: str, place: Fault) -> Callable[[torch.Tensor], None]:
        """A hook that checks a gradient."""

        def check(gradient: torch.Tensor) -> None:
            if not _finite(gradient):
                self.backward.append((kind, gradient.data_ptr(), place))

        return check

    def found(self) -> Fault | None:
        """The first fault. A gradient between two layers is passed back by one and reaches the other; the one that
        computed it is named."""
        if self.forward is not None or not self.backward:
            return self.forward
        _, where, first = self.backward[0]
        return next((place for kind, at, place in self.backward if kind == "passed" and at == where), first)


def locate_nonfinite(module: nn.Module, inputs: torch.Tensor, again: Callable[[], object]) -> Fault:
    """The first of inputs (B, …), parameters, outputs of layers and gradients with NaN or Inf, in the order in which
    `again`, the passes of the step, computes them. The network stays as it is."""
    if not _finite(inputs):
        return Fault("the input batch has NaN or Inf", rows=_bad_rows(inputs, 0))
    for name, parameter in module.named_parameters():
        if not _finite(parameter):
            return Fault(f"the parameter {name} has NaN or Inf: an earlier step was too large", name.rpartition(".")[0])
    with original_preserved(module), torch.enable_grad(), _watched(module) as watch:
        again()
    return watch.found() or Fault("every layer's output and gradient is finite: the loss itself, or a sum, overflows")


@contextmanager
def _watched(module: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()
    weights = [
        (parameter, watch.gradient("weight", Fault(f"first in the gradient of {name}", name.rpartition(".")[0])))
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
    """Positions of the samples at fault, if the tensor has a row per sample and not all are at fault."""
    bad = (~torch.isfinite(tensor.detach())).reshape(len(tensor), -1).any(1) if tensor.ndim else torch.ones(1)
    return () if bool(bad.all()) else tuple(before + row for row in bad.nonzero().flatten().tolist())
