"""The error for a user's network in which shapes do not fit: the layer, the arithmetic, and a computed remedy."""

from __future__ import annotations

import linecache
import math
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from torch import nn

from striate.errors import InputMisfit, ModelError
from striate.wording import several, show_shape

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Failure:
    """An exception of a forward pass."""

    error: Exception
    name: str
    """Name of the innermost module that raised it."""
    module: nn.Module
    """That module."""
    shapes: tuple[Shape, ...]
    """Shapes of the module's inputs, with the batch."""
    inner: tuple[tuple[str, Shape], ...] = ()
    """Name and output shape of each module within it that ran before the exception."""


@dataclass(frozen=True)
class _Advice:
    got: str
    expected: str
    remedy: str


def shape_error(failure: Failure, network: nn.Module, input_shape: Shape, runs: Callable[[Shape], bool]) -> ModelError:
    """The error to raise. `runs` says whether the network runs on an input of another shape (without batch)."""
    inner = failure.module
    named = f"`{failure.name}` ({type(inner).__name__})" if failure.name else type(network).__name__
    if _with_batch(failure, input_shape) and runs(input_shape[1:]):
        return not_without_batch(named, input_shape)
    if len(input_shape) == 2 and runs((1, *input_shape)):
        return _other_shape(named, input_shape, (1, *input_shape), "channels before the sizes", "add the channel")
    advice = None
    for rule in (_more_arguments, _features, _channels, _window, _normalized, _joined):
        advice = advice or rule(failure)
    if advice is None:
        remedy = _place_to_fix(failure.error, named)
        if "scalar types: Long, Int" in str(failure.error):  # a shape alone means floating-point values
            remedy = f"striate.summarize takes an example of its whole numbers: (torch.ones{(1, *input_shape)}.long(),)"
        advice = _Advice("", f"a network that takes inputs of {input_shape}", remedy)
    remedy = advice.remedy
    if isinstance(inner, _WINDOWS) and "larger than" in advice.got:
        least = smallest_size(input_shape, runs)
        remedy += "" if least is None else f"; or use inputs of at least {show_shape([least] * len(input_shape[1:]))}"
    shown = " and ".join(map(_shown, failure.shapes)) or "no tensor"
    reason = " ".join(str(failure.error).split())[:300]
    what = advice.got or f"{type(failure.error).__name__}: {reason}"
    return ModelError(named, f"input {shown}: {what}", advice.expected, remedy)


def not_without_batch(where: str, input_shape: Shape) -> InputMisfit:
    """The error for an input shape whose leading 1 is the batch."""
    expected = "the shape of one input, without the batch"
    return _other_shape(where, input_shape, input_shape[1:], expected, "leave out the leading 1")


def _other_shape(where: str, given: Shape, meant: Shape, expected: str, remedy: str) -> InputMisfit:
    command = f"--input {'x'.join(map(str, meant))} on the command line"
    return InputMisfit(where, f"inputs of {given}", expected, f"{remedy}: {meant} in Python, {command}", fitting=meant)


def _with_batch(failure: Failure, input_shape: Shape) -> bool:
    """Whether the leading 1 of the shape may be a batch: not if the layer that failed got the number of axes that it
    takes."""
    if len(input_shape) < 2 or input_shape[0] != 1:
        return False
    axes = _axes_of(failure.module)
    return axes is None or not failure.shapes or len(failure.shapes[0]) > axes + 2


def _more_arguments(failure: Failure) -> _Advice | None:
    """Advice for a forward that requires several inputs."""
    found = re.search(
        r"forward\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)", str(failure.error)
    )
    if found is None or not isinstance(failure.error, TypeError):
        return None
    names = found[1].replace("'", "`")
    named = f"the forward of {type(failure.module).__name__}"
    return _Advice(
        f"{named} also needs {names}",
        "a forward that takes one tensor",
        f"give {names} a default, or wrap the network in a module whose forward takes one tensor",
    )


def _place_to_fix(error: Exception, named: str) -> str:
    """The place in the network's source to fix; sizes are named only where torch's error is about sizes."""
    steps = traceback.walk_tb(error.__traceback__)
    own = [(frame.f_code.co_filename, number) for frame, number in steps if _package(frame) not in _NOT_OWN]
    if not own:
        return (
            f"make {named} or the layers before it fit"
            if _of_shapes(error)
            else f"give {named} the inputs that it takes"
        )
    file, number = own[-1]
    line = linecache.getline(file, number).strip()
    place = f"{Path(file).name}, line {number}" + (f": {line}" if line else "")
    raised = line.startswith(("raise", "assert"))
    return f"make the sizes fit in {place}" if _of_shapes(error) and not raised else f"fix {place}"


_NOT_OWN = ("torch", "striate", "numpy")
_SHAPES = re.compile(r"\b(shapes?|sizes?|dims?|dimension\w*|channels?|elements?|\dD|mat1|mat2)\b")


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _of_shapes(error: Exception) -> bool:
    return isinstance(error, RuntimeError | IndexError | ValueError) and _SHAPES.search(str(error)) is not None


def smallest_size(input_shape: Shape, runs: Callable[[Shape], bool]) -> int | None:
    """The smallest side, equal on all spatial axes, of an input that the network takes; None without spatial axes, or
    if the network takes no side up to 32 times the largest one of `input_shape`."""
    channels, *sides = input_shape
    if not sides:
        return None

    def takes(side: int) -> bool:
        return runs((channels, *(side for _ in sides)))

    low, high = max(sides), max(sides)
    while not takes(high):
        if high >= 32 * max(sides):
            return None
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if takes(middle) else (middle, high)
    return high


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WINDOWS = (*_CONVOLUTIONS, *_POOLS)
_BY_AXES = tuple(zip(_CONVOLUTIONS, _POOLS[:3], _POOLS[3:], _BATCH_NORMS, strict=True))


def _axes_of(layer: nn.Module) -> int | None:
    """The number of spatial axes that a layer takes; None for any number."""
    return next((axes for axes, kinds in enumerate(_BY_AXES, 1) if isinstance(layer, kinds)), None)


def _features(failure: Failure) -> _Advice | None:
    layer, shapes = failure.module, failure.shapes
    if not isinstance(layer, nn.Linear) or not shapes or len(shapes[0]) < 2 or shapes[0][-1] == layer.in_features:
        return None
    *_, width = shapes[0]
    remedy = f"make it nn.Linear({width}, {layer.out_features})"
    if len(shapes[0]) > 2:
        flat = math.prod(shapes[0][1:])
        sides = "·".join(map(str, shapes[0][1:]))
        wanted = "" if flat == layer.in_features else f" and make it nn.Linear({flat}, {layer.out_features})"
        remedy = f"flatten before it ({sides} = {flat}){wanted}"
    expected = f"{several(layer.in_features, 'feature')}, as `in_features` says"
    return _Advice(f"{several(width, 'feature')} for {layer.in_features}", expected, remedy)


def _channels(failure: Failure) -> _Advice | None:
    layer, shapes = failure.module, failure.shapes
    if not isinstance(layer, _CONVOLUTIONS) or not shapes or len(shapes[0]) < 2:
        return None
    channels, axes = shapes[0][1], _axes_of(layer) or 0
    if len(shapes[0]) > axes + 2:
        got = f"{several(len(shapes[0]) - 2, 'spatial axis', 'spatial axes')} for {axes}"
        expected = f"{several(axes, 'spatial axis', 'spatial axes')}, as the layer expects"
        return _Advice(
            got, expected, f"give a shape of {several(layer.in_channels, 'channel')} and {several(axes, 'size')}"
        )
    if channels == layer.in_channels:
        return None
    expected = f"{several(layer.in_channels, 'channel')}, as `in_channels` says"
    got = f"{several(channels, 'channel')} for {layer.in_channels}"
    return _Advice(got, expected, f"make its in_channels {channels}")


def _window(failure: Failure) -> _Advice | None:
    layer, shapes = failure.module, failure.shapes
    if not isinstance(layer, _WINDOWS) or not shapes:
        return None
    sides = shapes[0][2:]
    numbers = [_each(getattr(layer, name, 1), len(sides)) for name in ("kernel_size", "padding", "dilation")]
    if None in numbers or not sides:
        return None
    kernel, padding, dilation = (number or () for number in numbers)
    for side, k, p, d in zip(sides, kernel, padding, dilation, strict=True):
        span = d * (k - 1) + 1
        if span > side + 2 * p:
            spread = f" with dilation {d} spans {span}, which" if d > 1 else ""
            got = f"kernel {k}{spread} is larger than the map of {side} + 2·{p} = {side + 2 * p}"
            fitting = (side + 2 * p - 1) // d + 1
            more = -(-(span - side) // 2)
            padded = f"make its padding {more} or " if isinstance(layer, _CONVOLUTIONS) or 2 * more <= k else ""
            return _Advice(got, f"a kernel of at most {fitting} here", f"{padded}its kernel_size {fitting}")
    return None


def _each(value: object, axes: int) -> Shape | None:
    """A size as one number for each axis; None for words (`same`), and for the wrong number of sizes."""
    if isinstance(value, int):
        return (value,) * axes
    return tuple(value) if isinstance(value, tuple) and len(value) == axes else None


def _normalized(failure: Failure) -> _Advice | None:
    layer, shapes = failure.module, failure.shapes
    batch = isinstance(layer, _BATCH_NORMS)
    wanted = layer.num_features if batch else layer.num_channels if isinstance(layer, nn.GroupNorm) else None
    if not isinstance(wanted, int) or not shapes or len(shapes[0]) < 2:
        return None
    channels, axes = shapes[0][1], max(1, len(shapes[0]) - 2)
    here = _axes_of(layer) or axes
    if here != axes <= len(_BATCH_NORMS):
        expected = f"{here} spatial axes, as the layer expects"
        return _Advice(
            f"{several(len(shapes[0]) - 2, 'spatial axis', 'spatial axes')} for {here}",
            expected,
            f"make it nn.BatchNorm{axes}d({channels})",
        )
    if channels == wanted:
        return None
    setting = "num_features" if batch else "num_channels"
    return _Advice(
        f"{several(channels, 'channel')} for {wanted}",
        f"{several(wanted, 'channel')}, as `{setting}` says",
        f"make it nn.{type(layer).__name__}({channels})" if batch else f"make its num_channels {channels}",
    )


def _joined(failure: Failure) -> _Advice | None:
    """Advice for maps of different sizes that are added or concatenated outside of any layer."""
    text = str(failure.error)
    joining = "Sizes of tensors must match" in text
    if not joining and "must match the size of tensor" not in text:
        return None
    known = [("its input", shape) for shape in failure.shapes[:1]] + [(f"`{n}`", shape) for n, shape in failure.inner]
    (other, before), (last, after) = _differing(known)
    if not before:
        return None
    sizes = f"{other} {_shown(before)} and {last} {_shown(after)}"
    verb = "joined" if joining else "added"
    same = "maps of one size" if joining else "maps of one shape"
    return _Advice(
        f"{sizes} are {verb}", f"{same} where they are {verb}", _fitting(other, before, last, after, joining)
    )


def _differing(known: list[tuple[str, Shape]]) -> tuple[tuple[str, Shape], tuple[str, Shape]]:
    """The last result, preceded by the latest result of another shape; two empty entries if there is none."""
    for name, shape in reversed(known[:-1]):
        if len(shape) == len(known[-1][1]) > 1 and shape[1:] != known[-1][1][1:]:
            return (name, shape), known[-1]
    return ("", ()), ("", ())


def _fitting(other: str, before: Shape, last: str, after: Shape, joining: bool) -> str:
    """A layer that makes one map fit the other."""
    axes = len(before) - 2
    wide, narrow, name = (before, after, other) if before[2:] >= after[2:] else (after, before, last)
    if axes < 1:
        return f"put nn.Linear({before[-1]}, {after[-1]}) after {other}"
    strides = {-(-large // small) for large, small in zip(wide[2:], narrow[2:], strict=True)}
    stride = strides.pop() if len(strides) == 1 else 0
    if stride and all((large - 1) // stride + 1 == small for large, small in zip(wide[2:], narrow[2:], strict=True)):
        channels = wide[1] if joining else narrow[1]
        return f"put nn.Conv{axes}d({wide[1]}, {channels}, 1, stride={stride}) after {name}"
    lost = max(large - small for large, small in zip(wide[2:], narrow[2:], strict=True))
    smaller = last if name == other else other
    return f"give the layers up to {smaller} padding: {several(lost, 'position')} are lost there"


def _shown(shape: Shape) -> str:
    return f"(N, {', '.join(map(str, shape[1:]))})"
