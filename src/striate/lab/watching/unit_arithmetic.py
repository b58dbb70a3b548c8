"""Choose the arithmetic of an operation: from a step and a place on its maps to how that number is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from striate.errors import UsageError
from striate.lab.watching.convolution_arithmetic import explain_convolution, explain_local
from striate.lab.watching.normalization_arithmetic import (
    BATCH_NORMS,
    explain_batch_norm,
    explain_group_norm,
    explain_layer_norm,
    explain_local_response,
)
from striate.lab.watching.pass_recorder import MOVEMENTS, Call, Slot
from striate.lab.watching.pointwise_arithmetic import explain_function, explain_joined, explain_prelu, explain_two
from striate.lab.watching.pooling_arithmetic import (
    explain_adaptive_pool,
    explain_average_pool,
    explain_l2_pool,
    explain_max_pool,
)
from striate.lab.watching.step import Step, as_maps
from striate.lab.watching.sum_arithmetic import (
    explain_channels,
    explain_distance,
    explain_product,
    explain_reduction,
    explain_softmax,
)
from striate.lab.watching.unit_records import Line, Term, UnitArithmetic
from striate.layers.activations import Maxout
from striate.layers.convolution import LocallyConnected
from striate.layers.pooling import ChannelL2Pool, L2Pool
from striate.layers.radial_basis import RadialBasis

Place = tuple[int, ...]


def explain_unit(step: Step, unit: tuple[int, int, int], steps: Sequence[Step] = ()) -> UnitArithmetic:
    """How the number at (map, row, column) of a step is computed.

    `steps`: those of the pass, for the names of the inputs. Raises UsageError for a place outside the map.
    """
    maps = step.maps
    if not all(0 <= i < side for i, side in zip(unit, maps.shape, strict=True)):
        got = "map {}, row {}, column {}".format(*unit)
        expected = "map 0 to {}, row 0 to {}, column 0 to {}".format(*(side - 1 for side in maps.shape))
        raise UsageError(step.name, got, expected, "choose a number of the map that is shown")
    found = _explain(step, unit, _Origins(step, steps))
    if found is not None:
        return found
    return UnitArithmetic("none", step.words, float(maps[unit]))


class _Origins:
    """Finds the steps whose outputs an operation reads, by comparing their numbers, since tensors may be copies."""

    def __init__(self, step: Step, steps: Sequence[Step]) -> None:
        self._sources = [steps[place] for place in step.sources if 0 <= place < len(steps)]
        self._input = -1 in step.sources

    def name(self, tensor: torch.Tensor) -> str:
        """The name of the step; "" where it is not known."""
        for source in self._sources:
            if source.output.shape == tensor.shape and torch.equal(source.output, tensor):
                return source.name
        return "the input" if self._input else ""


def _explain(step: Step, unit: tuple[int, int, int], names: _Origins) -> UnitArithmetic | None:
    flat = int(np.ravel_multi_index(unit, tuple(step.maps.shape)))
    own = _of_layer(step, _place(flat, step.output))
    if own is not None:
        return own
    # Operations that do not depend on the input compute the layer's weights.
    works = [call for call in step.calls if call.name not in _APART and call.fields is not None]
    if not works:
        return _copied(step, flat)
    last = works[-1]
    if last.out.numel() != step.output.numel():
        return None
    if len(works) == 1 or all(other.name in _PADS for other in works[:-1]):
        return _of_call(step, last, _place(flat, last.out), names)
    return _chain(step, works, flat, names)


def _chain(step: Step, works: list[Call], flat: int, names: _Origins) -> UnitArithmetic | None:
    """The arithmetic of a layer of several operations, each of which continues with the output of the one before, place
    by place."""
    if works[0].out.shape != works[-1].out.shape:
        return None
    found = _of_call(step, works[0], _place(flat, works[0].out), names)
    if found is not None:
        found = replace(found, lines=_named(found, works[0]))
    for before, call in pairwise(works):
        goes_on = any(torch.equal(slot.tensor, before.out) for slot in call.inputs())
        if found is None or not goes_on or call.out.shape != before.out.shape:
            return None
        at = _place(flat, call.out)
        part = explain_function(call, at) or explain_two(call, at, lambda _: "")
        if part is None:
            return None
        found = replace(found, output=part.output, value=part.value, lines=(*found.lines, *_named(part, call)))
    return None if found is None else replace(found, words=step.words)


def _named(unit: UnitArithmetic, call: Call) -> tuple[Line, ...]:
    """The lines of one of several operations, labeled with its name."""
    name = _CHAINED.get(call.name, call.name)
    return tuple(replace(line, label=name) if line.label == "result" else line for line in unit.lines)


_CHAINED = {"add": "plus", "sub": "minus", "mul": "times", "div": "divided"}
_PADS = frozenset(
    ["constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "copy", "cat"]
)
_APART = MOVEMENTS | {"empty", "t", "transpose", "permute", "empty_like", "slice", "new_empty"}


def _place(flat: int, tensor: torch.Tensor) -> Place:
    return tuple(int(i) for i in np.unravel_index(flat, tuple(tensor.shape)))


def _of_call(step: Step, call: Call, at: Place, names: _Origins) -> UnitArithmetic | None:
    """The arithmetic of one operation of torch."""
    name = call.name
    if name in ("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution"):
        return explain_convolution(call, at, step.module)
    if name in ("addmm", "mm", "bmm"):
        return explain_product(call, at, step.before)
    if name in BATCH_NORMS:
        return explain_batch_norm(call, at)
    if name in ("add", "sub", "mul", "div"):
        return explain_two(call, at, names.name)
    if name == "cat":
        return explain_joined(call, at, names.name)
    if name in ("_softmax", "_log_softmax"):
        return explain_softmax(call, at, step.labels)
    if name in ("max_pool1d", "max_pool2d_with_indices", "adaptive_max_pool2d"):
        return explain_max_pool(call, at)
    if name in ("avg_pool1d", "avg_pool2d"):
        return explain_average_pool(call, at)
    if name == "_adaptive_avg_pool2d":
        return explain_adaptive_pool(call, at)
    if name in ("mean", "sum", "amax", "max"):
        whole = name == "mean" and _over_maps(call)
        return explain_adaptive_pool(call, at) if whole else explain_reduction(call, at)
    if name == "native_group_norm":
        return explain_group_norm(call, at)
    if name == "native_layer_norm":
        return explain_layer_norm(call, at)
    if name in ("_prelu_kernel", "prelu"):
        return explain_prelu(call, at)
    if name in ("constant_pad_nd", "upsample_nearest2d", "upsample_nearest1d"):
        return _moved(call, at)
    return explain_function(call, at)


def _over_maps(call: Call) -> bool:
    """Whether a mean is over whole maps (1, C, H, W) or (1, C, L)."""
    x, dims = call.tensor("self"), call.get("dim")
    if x is None or x.ndim not in (3, 4) or not isinstance(dims, list):
        return False
    return sorted(dim % x.ndim for dim in dims) == list(range(2, x.ndim))


def _of_layer(step: Step, at: Place) -> UnitArithmetic | None:
    """The arithmetic of layers of several operations that are explained as one."""
    layer, x = step.module, _input_of(step)
    if layer is None or x is None or x.ndim < 2:
        return None
    call = step.calls[-1]
    call = Call(call.name, call.arguments, (Slot(step.output),))
    if isinstance(layer, LocallyConnected):
        return explain_local(layer, call, x, at)
    if isinstance(layer, L2Pool):
        return explain_l2_pool(layer, call, x, at)
    if isinstance(layer, nn.LocalResponseNorm):
        return explain_local_response(layer, x, step.output, at)
    if isinstance(layer, ChannelL2Pool):
        first, last = max(0, at[1] - layer.size // 2), min(x.shape[1] - 1, at[1] + (layer.size - 1) // 2)
        return explain_channels(x, step.output, at, first, last, squares=True)
    if isinstance(layer, RadialBasis):
        return explain_distance(x[0], layer.codes[at[1]], float(step.output[at]))
    if isinstance(layer, Maxout):
        first = at[1] * layer.pieces
        return explain_channels(x, step.output, at, first, first + layer.pieces - 1, squares=False)
    return None


def _input_of(step: Step) -> torch.Tensor | None:
    """The input of a layer: the first tensor of the first operation that depends on the image."""
    seeing = (call for call in step.calls if call.fields is not None)
    slot = next((slot for call in seeing for slot in call.inputs()), None)
    return None if slot is None else slot.tensor


def _copied(step: Step, flat: int) -> UnitArithmetic | None:
    """The number of a step that passes its input on, in the same order as far as is known."""
    if any(call.name not in MOVEMENTS for call in step.calls):
        return None
    value = float(step.output.reshape(-1)[flat])
    given = as_maps(torch.empty(1, *step.in_shape, device="meta"))
    if given.numel() != step.output.numel():
        return None
    place = np.unravel_index(flat, tuple(given.shape))
    label = "map {}, row {}, column {}".format(*place) if given[0].numel() > 1 else f"number {place[0]}"
    words = f"A copy of the input's {label}."
    return UnitArithmetic("copy", words, value, value, terms=(Term(label, value, None, value),))


def _moved(call: Call, at: Place) -> UnitArithmetic | None:
    """The number of a padded or enlarged map, and the place that it is copied from."""
    x = call.tensor("self")
    if x is None:
        return None
    place = list(at)
    if call.name == "constant_pad_nd":
        pads = list(call.get("pad"))
        for pair in range(len(pads) // 2):
            place[-1 - pair] -= pads[2 * pair]
        if not all(0 <= i < side for i, side in zip(place, x.shape, strict=True)):
            value = float(call.get("value", 0))
            return UnitArithmetic("copy", "Beyond the border: padding.", float(call.out[at]), value)
    else:
        place[2:] = _nearest(call, x, at)
    value = float(x[tuple(place)])
    label = "map {}, place {}".format(place[1], " × ".join(map(str, place[2:])))
    words = f"A copy of the input's {label}."
    return UnitArithmetic("copy", words, float(call.out[at]), value, terms=(Term(label, value, None, value),))


def _nearest(call: Call, x: torch.Tensor, at: Place) -> Place:
    """The place that the number at `at` of an enlarged map is copied from, found by the same operation on a map of
    places: how torch rounds a factor depends on the axes, the factor and the version.
    """
    sides = tuple(x.shape[2:])
    places = torch.arange(math.prod(sides), dtype=torch.promote_types(x.dtype, torch.float32)).reshape(1, 1, *sides)
    others = {name: value for name, value in call.arguments.items() if name != "self"}
    enlarged = getattr(torch.ops.aten, call.name)(places, **others)
    return _place(int(enlarged[(0, 0, *at[2:])]), x[0, 0])
