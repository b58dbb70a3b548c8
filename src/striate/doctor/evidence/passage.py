"""One training step of a double, watched from within: what each layer gives, and the gradient that comes back to it.
Sees convolutions and matrix products with weights that a network computes outside of torch's own layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from striate.account.signal.activations import activation_kind, watch_activations
from striate.doctor.patient.batch import main_tensor

Note = Callable[[str, torch.Tensor, "torch.Tensor | None", object], None]
"""Is called with a name, the input, the weights as (units, inputs of a unit) where they are known, and the output."""

_CONVOLUTIONS = {
    functional.conv1d: "conv1d",
    functional.conv2d: "conv2d",
    functional.conv3d: "conv3d",
    torch.conv1d: "conv1d",
    torch.conv2d: "conv2d",
    torch.conv3d: "conv3d",
}
_LINEAR = {functional.linear: "linear"}
_MATRIX = {
    torch.matmul: "matmul",
    torch.mm: "matmul",
    torch.Tensor.matmul: "matmul",
    torch.Tensor.mm: "matmul",
    torch.Tensor.__matmul__: "matmul",
}
_NAMES: dict[Any, str] = {**_CONVOLUTIONS, **_LINEAR, **_MATRIX}


@contextmanager
def watch_products(model: nn.Module, layers: tuple[type[nn.Module], ...], note: Note) -> Iterator[None]:
    """While the body runs, `note` is told of each product with weights that is not computed inside one of `layers`."""
    inside: list[tuple[str, bool]] = []

    def enter(name: str, own: bool) -> Callable[..., None]:
        return lambda _module, _inputs: inside.append((name, own))

    def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
        if inside:
            inside.pop()

    handles = []
    for name, part in model.named_modules():
        handles.append(part.register_forward_pre_hook(enter(name, isinstance(part, layers)), prepend=True))
        handles.append(part.register_forward_hook(leave))
    try:
        with _Calls(inside, note):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Calls(TorchFunctionMode):
    def __init__(self, inside: list[tuple[str, bool]], note: Note) -> None:
        super().__init__()
        self.inside, self.note = inside, note

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _NAMES and self.inside and not self.inside[-1][1] and len(args) > 1:
            given, weight = args[0], args[1]
            if isinstance(given, torch.Tensor) and isinstance(weight, torch.Tensor) and _are_weights(func, weight):
                name = self.inside[-1][0]
                self.note(f"{name}.{_NAMES[func]}" if name else _NAMES[func], given, _rows(func, args, kwargs), output)
        return output


def _are_weights(func: Any, weight: torch.Tensor) -> bool:
    """A product of two activations, as in attention, is none with weights."""
    return func not in _MATRIX or (isinstance(weight, nn.Parameter) and weight.ndim == 2)


def _rows(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> torch.Tensor | None:
    groups = args[6] if len(args) > 6 else (kwargs or {}).get("groups", 1)
    if func in _CONVOLUTIONS and groups != 1:
        return None
    weight = args[1].detach()
    rows = weight.t() if func in _MATRIX else weight
    return rows.flatten(1).float().clone() if rows.ndim > 1 else None


KEPT_ROWS = 64
"""Samples of a layer's output that are kept: enough for the spread of a unit."""
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
_WEIGHTS = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.Embedding)


@dataclass
class LayerView:
    """One call of a layer in the watched step.

    `kind`: `weights`, `norm`, `dropout`, a word for an activation (`relu`, `tanh`, …, also of functions), `block` for
    modules with modules in them, `product` for a convolution or matrix product outside of such layers, else `other`.
    `weight`: of layers with weights and products, (units, inputs of a unit) before the step; None of grouped ones.
    `output`: of the first KEPT_ROWS samples, detached; None where it is no
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
class Passage:
    """What was seen in one training step. `arguments`: of the network's first call. `outputs`: what it gave.

    `loss_outputs`, `loss_targets`: what the loss was given, where the step called it. `loss`: its value, or what the
    step returned. `gradients`: norm of each parameter's gradient of this step alone, by name; None where there was
    none. `error`, `phase`: what was raised, in `forward`, `loss`, `backward` or `step`. `called`: names of modules that
    ran. `calls`: how often the whole network ran. `functions`: classes of `torch.autograd.Function` that someone wrote,
    in the graph of outputs and loss.
    """

    layers: list[LayerView] = field(default_factory=list)
    arguments: tuple[Any, ...] = ()
    outputs: Any = None
    loss_outputs: Any = None
    loss_targets: Any = None
    loss: float | None = None
    loss_needs_gradient: bool | None = None
    loss_shape: tuple[int, ...] | None = None
    gradients: dict[str, float | None] = field(default_factory=dict)
    error: BaseException | None = None
    phase: str = "forward"
    called: set[str] = field(default_factory=set)
    calls: int = 0
    modes: dict[str, bool] = field(default_factory=dict)
    functions: set[type] = field(default_factory=set)


@contextmanager
def watched(model: nn.Module, passage: Passage) -> Iterator[None]:
    """While the body runs a step of `model`, note what its layers do."""
    names = {id(part): name for name, part in model.named_modules()}
    with ExitStack() as stack:
        watcher = _Watcher(passage, names)
        for part in model.modules():
            stack.callback(part.register_forward_hook(watcher.seen(part), with_kwargs=True).remove)
        stack.enter_context(watch_activations(model, watcher.activation))
        stack.enter_context(watch_products(model, _WEIGHTS, watcher.product))
        yield


class _Watcher:
    def __init__(self, passage: Passage, names: dict[int, str]) -> None:
        self.passage, self.names = passage, names

    def seen(self, part: nn.Module) -> Callable[..., None]:
        name = self.names[id(part)]
        kind = layer_kind(part)

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self.passage.called.add(name)
            self.passage.modes.setdefault(name, part.training)
            if not kind.startswith("activation"):
                given = main_tensor(list(args) + list(kwargs.values()))
                self._add(name or WHOLE, kind, part, given, output)

        return note

    def activation(self, name: str, kind: str, output: object) -> None:
        self._add(name, kind, None, None, output)

    def product(self, name: str, given: torch.Tensor, weight: torch.Tensor | None, output: object) -> None:
        self._add(name, "product", None, given, output, weight)

    def _add(
        self,
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
            weight=rows_of(part) if weight is None and kind == "weights" else weight,
        )
        self.passage.layers.append(view)
        if tensor.requires_grad:

            def back(gradient: torch.Tensor) -> None:
                view.gradient_norm = float(gradient.detach().float().norm())

            tensor.register_hook(back)


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


def layer_kind(part: nn.Module) -> str:
    """The word for a module: see LayerView."""
    if activation_kind(part) is not None:
        return f"activation {activation_kind(part)}"
    if isinstance(part, _NORMS):
        return "norm"
    if isinstance(part, _DROPOUTS):
        return "dropout"
    if isinstance(part, _WEIGHTS):
        return "weights"
    return "block" if next(part.children(), None) is not None else "other"
