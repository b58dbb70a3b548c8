"""The outputs of a network's layers for a batch, and the lookup of layers by name; the network stays as it is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import ref

import torch
from torch import nn

from striate.account.observing.kinds import layer_kind
from striate.errors import DataError, ModelError, UsageError, one_line
from striate.layers.blocks import Residual
from striate.models.preserved_state import on_trial, zero_input
from striate.observe.layer_calls import PRODUCT, LayerCall, layer_calls
from striate.wording import several, show_shape

_MOST, _NUMBERS = 64, 2**20


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """The output of one call."""

    name: str
    """The module's path; of a function, the path of the module that calls it, and the function's name."""
    kind: str
    """The kind in words of layer strings."""
    values: torch.Tensor
    """(B, …), a copy in float32."""
    activation: bool = False
    """Whether it is the output of an activation."""

    @property
    def is_map(self) -> bool:
        """Whether its units have positions: (B, C, *spatial)."""
        return self.values.ndim > 2


def layer_outputs(
    module: nn.Module,
    x: torch.Tensor,
    names: Iterable[str] | None = None,
    *,
    part: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
) -> tuple[LayerOutput, ...]:
    """The outputs of every layer for the normalized batch `x` (B, …), or only of `names`, in the order of execution.

    Layers are modules without submodules, activations of any kind, and modules that combine the results of their
    submodules, such as a residual sum. Further calls of a layer have a number: `relu (2)`. `part`: the part of each
    output to record; default: all of it. In eval mode, without gradients. Raises ModelError where the network does not
    take the batch.
    """
    wanted = None if names is None else set(names)
    found: list[LayerOutput] = []

    def keep(name: str, kind: str, output: torch.Tensor, activation: bool) -> None:
        if wanted is None or name in wanted:
            # A copy: a later activation may write into the same memory.
            found.append(LayerOutput(name, kind, part(output.detach()).float().clone(), activation))

    with on_trial(module), torch.no_grad(), _watched(module, len(x), keep):
        run(module, as_input(module, x))
    return tuple(found)


def outputs_of_one(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, tuple[LayerOutput, ...]]:
    """One normalized input without batch, (C, *spatial) or (F,), also if `x` is a batch of one, and the outputs of
    every layer for it. Raises DataError for a batch of several, ModelError where the network does not take the
    input."""
    try:
        return x, layer_outputs(module, x[None])
    except ModelError:
        try:
            outputs = layer_outputs(module, x)
        except ModelError:
            outputs = ()
        if not outputs:
            raise
    if len(x) > 1:
        raise DataError("x", f"a batch of {several(len(x), 'input')}", "one input", "give one of them: x[0]")
    return x[0], outputs


def attached_output(module: nn.Module, x: torch.Tensor, name: str) -> torch.Tensor:
    """The output of the layer `name` for `x` (B, …), attached to the graph of x; for use within `on_trial`."""
    found: list[torch.Tensor] = []

    def keep(given: str, _kind: str, output: torch.Tensor, _activation: bool) -> None:
        if given == name:
            found.append(output.clone())

    with _watched(module, len(x), keep):
        run(module, x * 1)  # a network may write into its input
    if not found:
        raise ModelError(
            f"layer {name}",
            "a layer that does not run in every forward pass",
            "a layer that runs in each",
            "another layer",
        )
    return found[-1]


def as_input(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The batch (B, …) in the number format and on the device of the network."""
    return x.detach().to(zero_input(module, (1,)))


def run(module: nn.Module, x: torch.Tensor) -> object:
    """The network's output. Raises ModelError where it does not take the batch."""
    try:
        return module(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if "out of memory" in str(error):
            raise
        got = f"inputs of {show_shape(tuple(x.shape[1:]))}: {' '.join(str(error).split())[:160]}"
        raise ModelError(
            f"network {type(module).__name__}", got, "inputs that the network takes", "give the shape that it is for"
        ) from None


def choose_layer(outputs: Sequence[LayerOutput], name: str) -> LayerOutput:
    """The output of the layer `name`; of a module with submodules, that of its last one. Raises UsageError for an
    unknown layer."""
    for output in outputs:
        if output.name == name:
            return output
    inside = [output for output in outputs if output.name.startswith(f"{name}.")]
    if inside:
        return inside[-1]
    raise no_such_layer(name, [output.name for output in outputs])


def no_such_layer(name: str, known: Sequence[str]) -> UsageError:
    """The error for a layer that does not exist, or is not of the needed kind."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or list(known[:1])
    shown = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    remedy = f"--layer {one_line(near[0])}" if near else "another network"
    return UsageError("--layer", repr(name[:80]), f"one of: {shown}" if known else "a layer", remedy)


def not_images(what: str, input_shape: Sequence[int]) -> DataError:
    """The error for inputs of a shape, without the batch, of which `what` cannot be shown."""
    command = f"striate train mnist5k --out runs/first && striate show runs/first {what}"
    return DataError(
        what, f"inputs of the shape {show_shape(input_shape)}", "images: channels × height × width", command
    )


def choose_unit(unit: int, count: int, where: str) -> int:
    """The unit. Raises UsageError if the layer does not have it."""
    if not 0 <= unit < count:
        got = f"{unit}, of {where} with {count:,} {'unit' if count == 1 else 'units'}"
        raise UsageError("--unit", got, f"0 to {count - 1}", f"--unit {min(max(unit, 0), count - 1)}")
    return unit


def batches(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The samples in batches of at most 64, fewer for large images, so that all outputs of a network fit into memory.
    Raises DataError without samples."""
    if not len(x):
        raise DataError("samples", "none", "at least one", "give the inputs of a split")
    yield from x.split(max(1, min(_MOST, _NUMBERS // x[0].numel())))


def evenly_spaced(count: int, most: int) -> torch.Tensor:
    """At most `most` of `count` positions, evenly spaced."""
    return torch.linspace(0, count - 1, min(most, count)).round().long()


@contextmanager
def _watched(module: nn.Module, batch: int, note: Callable[[str, str, torch.Tensor, bool], None]) -> Iterator[None]:
    """While the body runs, call `note` with each layer's name, kind, output, and whether it is an activation."""
    seen: dict[str, int] = {}
    given: list[ref[torch.Tensor]] = []

    def record(call: LayerCall) -> None:
        name, part, output = call.name, call.module, call.output
        if not isinstance(output, torch.Tensor) or not output.is_floating_point() or output.ndim < 2:
            return
        if len(output) != batch or not output.numel() or call.kind == PRODUCT:
            return
        kind = call.kind
        if kind is None:
            assert part is not None
            # The network itself, a container that returns the output of its last module, and dropout in eval mode
            # compute nothing.
            if (not name and next(part.children(), None) is not None) or any(output is one() for one in given):
                return
            kind = "sum" if isinstance(part, Residual) else layer_kind(part)
            name = name or type(part).__name__
        given.append(ref(output))
        name = name or kind
        times = seen[name] = seen.get(name, 0) + 1
        note(name if times == 1 else f"{name} ({times})", kind, output, call.kind is not None)

    with layer_calls(module, record):
        yield
