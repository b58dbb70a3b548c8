"""The trace of one training step of a replica: the output of each layer, and the gradient of the loss by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from striate.doctor.setup.batch import main_tensor
from striate.observe.gradients import on_gradient
from striate.observe.layer_calls import PRODUCT, WEIGHTED, LayerCall, layer_calls

RECORDED_ROWS = 64
"""Samples of a layer's output that are recorded: enough for the standard deviation of a unit."""
RECORDED_NUMBERS = 4_000_000
WHOLE = "the network"
"""The name of the network itself in lists of layers."""
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.modules.instancenorm._InstanceNorm,
)
_DROPOUTS = nn.modules.dropout._DropoutNd


@dataclass
class LayerRecord:
    """One call of a layer in the traced step."""

    name: str
    kind: str
    """`weights`, `norm`, `dropout`, the name of an activation module or function (`relu`, `tanh`, …), `block` for
    modules with submodules, `product` for a convolution or matrix product outside of such layers, else `other`."""
    module: nn.Module | None
    shape: tuple[int, ...]
    input_shape: tuple[int, ...] | None
    training: bool
    """The module's mode; True where there is no module."""
    mean: float
    std: float
    output: torch.Tensor | None
    """Output for the first RECORDED_ROWS samples, detached; None where it is too large."""
    gradient_norm: float | None = None
    """L2 norm of the gradient of the loss by the output, over the whole batch; None without a gradient."""
    weight: torch.Tensor | None = None
    """(units, inputs of a unit) weights before the step, of layers with weights and of products; None for grouped
    convolutions."""

    @property
    def units(self) -> torch.Tensor | None:
        """The recorded outputs as (units, values): a unit is a channel, or a feature where there are no positions."""
        if self.output is None or self.output.ndim < 2:
            return None
        return self.output.transpose(0, 1).flatten(1)


@dataclass
class StepTrace:
    """Measurements of one training step."""

    layers: list[LayerRecord] = field(default_factory=list)
    arguments: tuple[Any, ...] = ()
    """Positional and keyword arguments of the network's first call, as a list and a dict; empty without a call."""
    given: list[torch.Tensor] = field(default_factory=list)
    """Integer tensors among the arguments of all calls of the network."""
    outputs: Any = None
    """Main tensor of the output of the network's first call."""
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of all tensors of floats in that output."""
    loss_outputs: Any = None
    """Main tensor of the first argument of the step's first call of the loss; None without a call."""
    loss_targets: Any = None
    """Main tensor of the second argument of that call."""
    blended: bool = False
    """Whether the step called the loss again with the same predictions and other targets, as mixup does."""
    loss: float | None = None
    """What the step returned, or else the result of its last call of the loss; NaN without either; None where the step
    failed."""
    loss_needs_gradient: bool | None = None
    gradients: dict[str, float | None] = field(default_factory=dict)
    """L2 norm of each parameter's gradient of this step alone, by name; None without a gradient."""
    error: BaseException | None = None
    """What the step raised."""
    phase: str = "start"
    """Where it was raised: `start` (before the network is called), `forward`, `loss`, `backward` (after the network or
    the loss), or `step`."""
    called: set[str] = field(default_factory=set)
    """Names of the modules that ran."""
    calls: int = 0
    """How often the whole network ran."""
    modes: dict[str, bool] = field(default_factory=dict)
    functions: set[type] = field(default_factory=set)
    """User-defined classes of `torch.autograd.Function` in the graph of outputs and loss."""

    def gets(self, numbers: torch.Tensor) -> bool:
        """Whether the network received these integers, such as the targets."""
        return any(given.shape == numbers.shape and torch.equal(given.cpu(), numbers.cpu()) for given in self.given)

    @property
    def shown(self) -> torch.Tensor | None:
        """The main tensor among the positional arguments of the network's first call; None where there is none."""
        return main_tensor(self.arguments[0]) if self.arguments else None


@contextmanager
def watched(model: nn.Module, step_trace: StepTrace) -> Iterator[None]:
    """While the body runs a step of `model`, record the calls of its layers in `step_trace`."""

    def note(call: LayerCall) -> None:
        part = call.module
        if part is not None:
            step_trace.called.add(call.name)
            # If any call is in training mode, that counts: before it, a step may prepare inputs in evaluation mode.
            step_trace.modes[call.name] = part.training or step_trace.modes.get(call.name, False)
        if call.kind == PRODUCT:
            _add(step_trace, call.name, call.kind, None, main_tensor(call.given[0]), call.output, call.weight)
        elif call.kind is not None:
            _add(step_trace, call.name or call.kind, call.kind, None, None, call.output)
        elif part is not None:
            kind = _kind_of(part)
            weight = weight_rows(part) if kind == "weights" else None
            _add(step_trace, call.name or WHOLE, kind, part, main_tensor(list(call.given)), call.output, weight)

    with layer_calls(model, note):
        yield


def _add(
    step_trace: StepTrace,
    name: str,
    kind: str,
    part: nn.Module | None,
    given: torch.Tensor | None,
    output: object,
    weight: torch.Tensor | None = None,
) -> None:
    tensor = main_tensor(output)
    if tensor is None or not tensor.is_floating_point() or tensor.ndim == 0 or not tensor.numel():
        return
    values = tensor.detach()
    rows = values[: max(1, min(RECORDED_ROWS, RECORDED_NUMBERS * len(values) // values.numel()))]
    recorded = rows.float().clone() if rows.numel() <= RECORDED_NUMBERS else None
    sample = values.float() if recorded is None or values.numel() <= RECORDED_NUMBERS else recorded
    record = LayerRecord(
        name,
        kind,
        part,
        tuple(tensor.shape),
        None if given is None else tuple(given.shape),
        True if part is None else part.training,
        float(sample.mean()),
        float(sample.std(correction=0)),
        recorded,
        weight=weight,
    )
    step_trace.layers.append(record)

    def back(gradient: torch.Tensor) -> None:
        record.gradient_norm = float(gradient.detach().float().norm())

    on_gradient(tensor, back)


def weight_rows(part: nn.Module | None) -> torch.Tensor | None:
    """A copy of a layer's weights as (units, inputs of a unit); None without weights, and for grouped convolutions."""
    weight = getattr(part, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim < 2 or getattr(part, "groups", 1) != 1:
        return None
    rows = weight.detach().transpose(0, 1) if getattr(part, "transposed", False) else weight.detach()
    return rows.flatten(1).float().clone()


def own_functions(tensor: torch.Tensor) -> set[type]:
    """The user-defined classes of `torch.autograd.Function` that a tensor was computed with."""
    found: set[type] = set()
    seen: set[Any] = set()
    awaiting = [tensor.grad_fn]
    while awaiting:
        node = awaiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        awaiting += [following for following, _ in node.next_functions]
        written = getattr(node, "_forward_cls", None)
        if isinstance(written, type) and not written.__module__.startswith("torch."):
            found.add(written)
    return found


def _kind_of(part: nn.Module) -> str:
    """`LayerRecord.kind` of a module that is not an activation."""
    if isinstance(part, _NORMS):
        return "norm"
    if isinstance(part, _DROPOUTS):
        return "dropout"
    if isinstance(part, WEIGHTED):
        return "weights"
    return "block" if next(part.children(), None) is not None else "other"
