"""What a network offers to a task: a vector, maps of several sizes, a sequence; told apart from what the task needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from striate.models.depth import output_layer
from striate.models.untouched import untouched
from striate.observe.module_calls import ModuleCall, module_calls
from striate.wording import show_shape


@dataclass(frozen=True)
class FeatureMap:
    """The output (N, `channels`, *`size`) of the module `name`."""

    name: str
    channels: int
    size: tuple[int, ...]


@dataclass(frozen=True)
class Features:
    """What a network computes of inputs of one shape.

    `vector`: how many numbers a sample has before the output layer, None where that is no vector. `pyramid`: of each
    size of maps with more than one position, the last one, in the order of computation. `sequence`: (length, numbers)
    of what stands before the output layer where it is (N, length, numbers).
    """

    vector: int | None
    pyramid: tuple[FeatureMap, ...]
    sequence: tuple[int, int] | None

    def __str__(self) -> str:
        """`a vector of 512 numbers, and maps of 64×32×32, 128×16×16`."""
        parts = [] if self.vector is None else [f"a vector of {self.vector:,} numbers"]
        if self.sequence is not None:
            parts.append(f"a sequence of {self.sequence[0]:,} × {self.sequence[1]:,} numbers")
        if self.pyramid:
            parts.append(f"maps of {', '.join(show_shape((part.channels, *part.size)) for part in self.pyramid)}")
        return ", and ".join(parts) or "nothing but its output"


def network_features(module: nn.Module, x: torch.Tensor, forward: Callable[[], object] | None = None) -> Features:
    """What `module` offers for a batch like `x` (N, C, *spatial) or (N, F); `forward` runs it where a call with `x`
    does not. Nothing of the module changes. Raises what the module raises."""
    done: list[FeatureMap] = []
    before: list[torch.Size] = []

    def note(call: ModuleCall) -> None:
        output = call.output
        if isinstance(output, torch.Tensor) and output.ndim == x.ndim > 2 and output.shape[2:].numel() > 1:
            done.append(FeatureMap(call.name, output.shape[1], tuple(output.shape[2:])))

    def note_input(call: ModuleCall) -> None:
        if call.args and isinstance(call.args[0], torch.Tensor):
            before.append(call.args[0].shape)

    last = output_layer(module)
    parts = {name: part for name, part in module.named_modules() if name}
    ends = {last: module.get_submodule(last)} if last else {}
    with untouched(module), torch.no_grad(), module_calls(parts, end=note), module_calls(ends, note_input):
        if forward is None:
            module(x)
        else:
            forward()
    names = [part.name for part in done]
    # A module that runs more than once has no map of its own.
    sizes = {part.size: part for part in done if names.count(part.name) == 1}
    shape = before[-1] if before else torch.Size()
    return Features(
        shape[1] if len(shape) == 2 else None,
        tuple(sorted(sizes.values(), key=lambda part: names.index(part.name))),
        (shape[1], shape[2]) if len(shape) == 3 and x.ndim != 3 else None,
    )
