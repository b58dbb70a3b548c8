"""One training step of a double, watched from within: what each layer gives, and the gradient that comes back to it."""

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

KEPT_ROWS = 64
"""Samples of a layer's output that are kept: enough for the standard deviation of a unit."""
KEPT_NUMBERS = 4_000_000
WHOLE = "the network"
"""What the network as a whole is called where layers are listed."""
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.modules.instancenorm._InstanceNorm,
)
_DROPOUTS = nn.modules.dropout._DropoutNd


@dataclass
class LayerView:
    """One call of a layer in the watched step.

    `kind`: `weights`, `norm`, `dropout`, a word for an activation (`relu`, `tanh`, …, also of functions), `block` for
    modules with modules in them, `product` for a convolution or matrix product outside of such layers, else `other`.
    `weight`: of layers with weights and products, (units, inputs of a unit) before the step; None of grouped ones.
    `output`: of the first KEPT_ROWS samples, detached; None where it is not a
    tensor of floats, or too large. `gradient_norm`: L2 norm of the gradient of the loss by the output, over the whole
    batch; None where none came back. `training`: the module's mode.
    """

    name: str
    kind: str
    module: nn.Module | None
    shape: tuple[int, ...]
    input_shape: tuple[int, ...] | None
    training: bool
    mean: float
    std: float
    output: torch.Tensor | None
    gradient_norm: float | None = None
    weight: torch.Tensor | None = None

    @property
    def units(self) -> torch.Tensor | None:
        """The kept outputs as (units, values): by channel, or by feature where there is no grid."""
        if self.output is None or self.output.ndim < 2:
            return None
        return self.output.transpose(0, 1).flatten(1)


@dataclass
class StepTrace:
    """What was seen in one training step. `arguments`: of the network's first call; `given`: tensors of whole numbers
    of all its calls. `outputs`: what it gave; `shapes`: of all tensors of floats in it.

    `loss_outputs`, `loss_targets`: what the loss was given, where the step called it; `blended`: a later call had other
    targets of the same outputs, as where samples are blended. `loss`: its value, or what the step returned.
    `gradients`: norm of each parameter's gradient of this step alone, by name; None where there was none. `error`,
    `phase`: what was raised, in `forward`, `loss`, `backward` or `step`. `called`: names of modules that ran. `calls`:
    how often the whole network ran. `functions`: classes of `torch.autograd.Function` that someone wrote, in the graph
    of outputs and loss.
    """

    layers: list[LayerView] = field(default_factory=list)
    arguments: tuple[Any, ...] = ()
    given: list[torch.Tensor] = field(default_factory=list)
    outputs: Any = None
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    loss_outputs: Any = None
    loss_targets: Any = None
    blended: bool = False
    loss: float | None = None
    loss_needs_gradient: bool | None = None
    gradients: dict[str, float | None] = field(default_factory=dict)
    error: BaseException | None = None
    phase: str = "forward"
    called: set[str] = field(default_factory=set)
    calls: int = 0
    modes: dict[str, bool] = field(default_factory=dict)
    functions: set[type] = field(default_factory=set)

    @property
    def shown(self) -> torch.Tensor | None:
        """The main tensor that the network's first call was given by position; None where there was none."""
        return main_tensor(self.arguments[0]) if self.arguments else None


@contextmanager
def watched(model: nn.Module, step_trace: StepTrace) -> Iterator[None]:
    """While the body runs a step of `model`, note what its layers do."""

    def note(call: LayerCall) -> None:
        part = call.module
        if part is not None:
            step_trace.called.add(call.name)
            # Of several calls that of training: before it, a step may look for its inputs in evaluation mode.
            step_trace.modes[call.name] = part.training or step_trace.modes.get(call.name, False)
        if call.kind == PRODUCT:
            _add(step_trace, call.name, call.kind, None, main_tensor(call.given[0]), call.output, call.weight)
        elif call.kind is not None:
            _add(step_trace, call.name or call.kind, call.kind, None, None, call.output)
        elif part is not None:
            kind = _kind_of(part)
            weight = rows_of(part) if kind == "weights" else None
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
    rows = values[: max(1, min(KEPT_ROWS, KEPT_NUMBERS * len(values) // values.numel()))]
    kept = rows.float().clone() if rows.numel() <= KEPT_NUMBERS else None
    sample = values.float() if kept is None or values.numel() <= KEPT_NUMBERS else kept
    view = LayerView(
        name,
        kind,
        part,
        tuple(tensor.shape),
        None if given is None else tuple(given.shape),
        True if part is None else part.training,
        float(sample.mean()),
        float(sample.std(correction=0)),
        kept,
        weight=weight,
    )
    step_trace.layers.append(view)

    def back(gradient: torch.Tensor) -> None:
        view.gradient_norm = float(gradient.detach().float().norm())

    on_gradient(tensor, back)


def rows_of(part: nn.Module | None) -> torch.Tensor | None:
    """The weights of a layer as (units, inputs of a unit), a copy; None where there are none, or channels are apart."""
    weight = getattr(part, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim < 2 or getattr(part, "groups", 1) != 1:
        return None
    rows = weight.detach().transpose(0, 1) if getattr(part, "transposed", False) else weight.detach()
    return rows.flatten(1).float().clone()


def own_functions(tensor: torch.Tensor) -> set[type]:
    """The classes of `torch.autograd.Function` outside of torch that a tensor was computed with."""
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
    """The word for a module that is not an activation: see LayerView."""
    if isinstance(part, _NORMS):
        return "norm"
    if isinstance(part, _DROPOUTS):
        return "dropout"
    if isinstance(part, WEIGHTED):
        return "weights"
    return "block" if next(part.children(), None) is not None else "other"
