"""The layers of a pass, one step each: what it computes, its input and output, and where its numbers come from."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from striate.account.field.intervals import Fields
from striate.account.observing.entries import sample_shape
from striate.lab.watching.pass_recorder import Call, Part, PassRecorder, Slot
from striate.lab.watching.unit_records import InputRegion

_WORDS = {
    "conv": "A sliding kernel: each number is the sum of products over all channels, plus the bias if there is one.",
    "local": "Like a convolution, but with its own kernel at every position.",
    "fc": "Each output is a weighted sum of all inputs, plus the bias if there is one.",
    "pool": "The largest number in each window, map by map.",
    "avgpool": "The mean of the numbers in each window, map by map.",
    "gap": "The mean of each whole map: one number a map.",
    "l2pool": "The root of the sum of squares in each window, map by map.",
    "chpool": "The root of the sum of squares over neighboring maps, at each place.",
    "maxout": "The largest of several neighboring maps, at each place.",
    "lrn": "Each number divided by a measure of how active neighboring maps are at the same place.",
    "lcn": "The mean of the neighborhood is subtracted, and the rest divided by its standard deviation.",
    "bn": "Each map is shifted and scaled by its running mean and variance of training, then by weight and bias.",
    "gn": "Groups of maps are shifted and scaled to mean 0 and variance 1 in this image, then by learned numbers.",
    "ln": "All numbers are shifted and scaled to mean 0 and variance 1 in this image, then by learned numbers.",
    "relu": "Negative numbers become 0, all others stay as they are.",
    "leaky": "Negative numbers are multiplied by a small slope, all others stay as they are.",
    "prelu": "Negative numbers are multiplied by a learned slope, all others stay as they are.",
    "elu": "Negative x becomes α · (exp(x) − 1), all others stay as they are.",
    "sigmoid": "1 / (1 + exp(−x)): each number is mapped between 0 and 1.",
    "tanh": "The hyperbolic tangent: each number is mapped between −1 and 1.",
    "swish": "Each number times its own sigmoid.",
    "softmax": "Exponentials, divided by their sum: probabilities that add up to 1.",
    "dropout": "Does nothing in eval mode; in training it sets random numbers to 0.",
    "flatten": "The maps become one vector: channel by channel, row by row.",
    "up": "Each map is upsampled.",
    "add": "The numbers at the same place are added: the sum of a residual connection.",
    "cat": "The maps of several layers, concatenated along the channels.",
    "mul": "The numbers at the same place are multiplied.",
    "sub": "The numbers at the same place are subtracted.",
    "div": "The numbers at the same place are divided.",
    "mean": "The mean along some axes.",
    "sum": "The sum along some axes.",
    "matmul": "A matrix product.",
    "bmm": "A matrix product.",
    "mm": "A matrix product.",
    "adaptive_avg_pool2d": "The mean of each window; as many windows as the output has places.",
    "AdaptiveAvgPool2d": "The mean of each window; as many windows as the output has places.",
    "ConvTranspose2d": "Each input number multiplies the kernel; overlapping products are added.",
    "conv_transpose2d": "Each input number multiplies the kernel; overlapping products are added.",
    "ZeroPad2d": "A border of zeros is put around each map.",
    "Identity": "Returns its input.",
}


def step_words(kind: str, module: nn.Module | None) -> str:
    """What a step of this kind computes, in a sentence; for layers of striate or the user, from their docstring."""
    if kind in _WORDS:
        return _WORDS[kind]
    if module is not None and not type(module).__module__.startswith("torch."):
        first = (inspect.getdoc(type(module)) or "").partition("\n\n")[0]
        if first and type(module).__doc__ != nn.Module.__doc__:
            return " ".join(first.split())[:300]
    called = f"torch's {type(module).__name__}" if module is not None else f"torch's operation {kind}"
    return f"What {called} computes; its maps are shown, its arithmetic is not written out here."


Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """One layer at work on one image. Shapes are without the batch."""

    place: int
    """Position among the steps, from 0."""
    name: str
    """The module's path; of a function, the path of the module that calls it, and the function's name."""
    kind: str
    """The word of layer strings where there is one."""
    words: str
    """What it computes."""
    in_shape: Shape
    """Shape of its input."""
    out_shape: Shape
    """Shape of its output."""
    sources: tuple[int, ...]
    """The places of the steps whose outputs it takes; −1 is the network's input."""
    output: torch.Tensor
    """(maps, rows, columns); a vector is that many maps of one number each."""
    calls: tuple[Call, ...] = ()
    """The calls that compute it."""
    module: nn.Module | None = None
    """The module; None of a function."""
    fields: Fields | None = None
    """The receptive fields; None where they are not known."""
    labels: tuple[str, ...] = ()
    """Names of the outputs, where they have some: those of classes."""
    before: Shape = ()
    """Shape of the maps that were flattened to the input vector; () without maps, or if it is not known."""
    parameters: int = 0
    """Number of parameters."""

    @property
    def maps(self) -> torch.Tensor:
        """(maps, rows, columns)."""
        return as_maps(self.output)

    def input_region(self, index: tuple[int, int, int]) -> InputRegion | None:
        """The region of the input that the number at (map, row, column) depends on; None where it is not known, or
        empty."""
        fields = self.fields
        shape = self.output.shape
        if fields is None or len(fields) != 2 or fields[0].ndim != len(shape):
            return None
        at = np.unravel_index(np.ravel_multi_index(index, tuple(self.maps.shape)), tuple(shape))
        spans = []
        for axis in fields:
            lo, hi = axis.lo, axis.hi
            place = tuple(min(int(i), side - 1) for i, side in zip(at, lo.shape, strict=True))
            low, high = float(lo[place]), float(hi[place])
            if not np.isfinite(low + high):
                return None
            spans.append((int(low), int(high)))
        return InputRegion(spans[0], spans[1])

    def to_json(self) -> dict[str, Any]:
        """The record for a list of steps."""
        maps = self.maps
        return {
            "place": self.place,
            "name": self.name,
            "kind": self.kind,
            "words": self.words,
            "in_shape": self.in_shape,
            "out_shape": self.out_shape,
            "maps": tuple(maps.shape),
            "sources": self.sources,
            "labels": self.labels,
            "parameters": self.parameters,
        }


def as_maps(output: torch.Tensor) -> torch.Tensor:
    """(1, …) as (maps, rows, columns): (1, C, H, W) and (1, C, L) by channels, (1, F) as F maps of one number; axes in
    front of the last two are all maps."""
    values = output[0] if output.ndim > 1 and output.shape[0] == 1 else output
    if values.ndim <= 1:
        return values.reshape(-1, 1, 1)
    if values.ndim == 2:
        return values.unsqueeze(1)
    return values.reshape(-1, *values.shape[-2:])


def steps_of(recorder: PassRecorder, classes: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """The steps of a pass, without those whose output has no numbers; `classes` name the last one's outputs."""
    parts = [part for part in recorder.parts() if part.output is not None and part.output.tensor.numel()]
    places = {id(recorder.input): -1}
    places |= {id(part.entry): place for place, part in enumerate(parts) if part.entry is not None}
    steps: list[Step] = []
    for place, part in enumerate(parts):
        steps.append(_step(place, part, places, steps))
    if steps and classes and steps[-1].maps.shape == (len(classes), 1, 1):
        steps[-1] = replace(steps[-1], labels=classes)
    return tuple(steps)


def _step(place: int, part: Part, places: dict[int, int], done: list[Step]) -> Step:
    assert part.output is not None
    entry, output = part.entry, part.output.tensor
    if entry is None:
        call = part.calls[0]
        given = next((slot.tensor for slot in call.inputs()), output)
        words = step_words(call.name, None)
        shapes = (sample_shape(given), sample_shape(output))
        return Step(place, call.name, call.name, words, *shapes, (), output, tuple(part.calls), fields=call.fields)
    sources = tuple(sorted({places[id(source)] for source in entry.inputs if id(source) in places}))
    module = entry.module
    # A network that is a single layer has no path.
    name = entry.name or (type(module).__name__ if module is not None else entry.kind)
    return Step(
        *(place, name, entry.kind, step_words(entry.kind, module), entry.in_shape, sample_shape(output)),
        sources,
        output,
        tuple(part.calls),
        module,
        entry.fields,
        before=_flattened_from(entry.in_shape, sources, done),
        parameters=0 if module is None else sum(p.numel() for p in module.parameters()),
    )


def _flattened_from(shape: Shape, sources: tuple[int, ...], done: list[Step]) -> Shape:
    """The shape of the maps that were flattened to a vector, through steps that pass on the same numbers."""
    if len(shape) != 1 or len(sources) != 1 or sources[0] < 0:
        return ()
    source = done[sources[0]]
    if source.out_shape == shape:
        same_numbers = source.kind in ("flatten", "dropout", "relu", "Identity")
        return (source.before or source.in_shape) if same_numbers and source.in_shape != shape else source.before
    return source.out_shape if len(source.out_shape) == 3 else ()


def softmax_step(steps: tuple[Step, ...], classes: tuple[str, ...]) -> Step:
    """The softmax that turns the network's outputs into probabilities, as a further step; not part of the network."""
    last = steps[-1]
    out = torch.softmax(last.output, 1)
    call = Call("_softmax", {"self": Slot(last.output), "dim": 1}, (Slot(out),), last.fields or ())
    words = "No layer of the network: it turns its outputs into probabilities. " + step_words("softmax", None)
    return Step(
        *(last.place + 1, "softmax", "softmax", words, last.out_shape, last.out_shape, (last.place,), out, (call,)),
        fields=last.fields,
        labels=classes if last.maps.shape == (len(classes), 1, 1) else (),
    )
