"""Read and check the arguments of the reference functions: arrays, sizes, numbers, labels."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError, UsageError
from striate.wording import several

Array = NDArray[np.float64]
Size = int | Sequence[int]
"""One whole number for all spatial axes, or one for each."""

LARGEST = 2**28
"""Most numbers in one array (2 GiB), so that a mistyped size is an error instead of filling the memory."""


def array(value: ArrayLike, name: str) -> Array:
    """`value`, of any real type, as a float64 array. UsageError for anything else."""
    try:
        found = np.asarray(value)
    except Exception as error:
        got = f"{type(value).__name__} that NumPy cannot read ({str(error).splitlines()[0]})"
        remedy = f"{name}.detach().cpu().double() for a tensor; rows of equal length for nested lists"
        raise UsageError(name, got, "an array of real numbers", remedy) from None
    if found.dtype.kind not in "biuf":
        got = f"{type(value).__name__} of {found.dtype}"
        remedy = (
            f"give {name}, such as np.ones((1, 1, 3))" if value is None else f"np.asarray({name}, dtype=np.float64)"
        )
        raise UsageError(name, "nothing" if value is None else got, "an array of real numbers", remedy)
    return found.astype(np.result_type(found.dtype, np.float64), copy=False)


def gradient(value: ArrayLike, shape: tuple[int, ...], name: str = "grad_out") -> Array:
    """A gradient of this `shape`; a single number stands for an array filled with it."""
    found = array(value, name)
    if found.shape not in ((), shape):
        raise ShapeError(
            name, f"shape {found.shape}", f"shape {shape}, as the forward pass gives", f"{name}=np.ones({shape})"
        )
    return np.broadcast_to(found, shape)


def maps(value: ArrayLike, name: str = "x") -> Array:
    """An array (N, C, *spatial) with 1 to 3 spatial axes, none of them empty."""
    x = array(value, name)
    if not 3 <= x.ndim <= 5:
        few = f"{name}[None, None] for one picture of one channel, {name}[None] for one of several"
        remedy = few if x.ndim < 3 else f"{name}.reshape(-1, *{name}.shape[-4:]), with the first axes as one"
        raise ShapeError(name, f"shape {x.shape}", "(N, C, *spatial) with 1 to 3 spatial axes", remedy)
    return not_empty(x, name)


def batch(value: ArrayLike, name: str = "x") -> Array:
    """An array (N, C, …), none of its axes but the first empty."""
    x = array(value, name)
    if x.ndim < 2:
        raise ShapeError(name, f"shape {x.shape}", "(N, C, …): samples first, then channels", f"{name}[None]")
    return not_empty(x, name)


def not_empty(x: Array, name: str) -> Array:
    """x; ShapeError where an axis other than the first has no entries."""
    if 0 in x.shape[1:]:
        filled = (x.shape[0], *(side or 1 for side in x.shape[1:]))
        expected = "at least one entry along each axis but the first"
        raise ShapeError(name, f"shape {x.shape}", expected, f"{name}=np.ones({filled})")
    return x


def row(value: ArrayLike, name: str) -> Array:
    """An array (N,)."""
    found = array(value, name)
    if found.ndim != 1:
        raise ShapeError(name, f"shape {found.shape}", "(N,): a row of numbers", f"np.ravel({name})")
    return found


def channel_axis(x: Array) -> int:
    """The axis of the channels: 1, or 0 for a single vector."""
    return min(1, x.ndim - 1)


def per_channel(value: ArrayLike, name: str, x: Array) -> Array:
    """One number for each channel of x, in a shape that broadcasts with x; a single number is for all channels."""
    found, axis = array(value, name), channel_axis(x)
    channels = x.shape[axis] if x.ndim else 1
    if found.shape not in ((), (1,), (channels,)):
        remedy = f"{name}=np.ones({channels})"
        raise ShapeError(name, f"shape {found.shape}", f"one number, or {channels}: one a channel", remedy)
    if found.size == 1:
        return found.reshape(())
    return found.reshape(-1, *(1,) * (x.ndim - axis - 1))


def exact(value: ArrayLike, name: str, shape: tuple[int, ...]) -> Array:
    """An array of exactly this shape."""
    found = array(value, name)
    if found.shape != shape:
        raise ShapeError(name, f"shape {found.shape}", f"shape {shape}", f"{name}=np.zeros({shape})")
    return found


def whole(value: Any, name: str, low: int = 1, high: int = LARGEST) -> int:
    """A whole number from `low` to `high`."""
    try:
        found = operator.index(value)
    except TypeError:
        found = None
    if found is None or isinstance(value, (bool, np.bool_)) or not low <= found <= high:
        raise UsageError(name, repr(value), f"a whole number from {low} to {high}", f"{name}={low}")
    return found


def per_axis(value: Any, axes: int, name: str, low: int = 1) -> tuple[int, ...]:
    """One whole number of at least `low` an axis."""
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return (whole(value, name, low),) * axes
    if len(value) != axes:
        got = f"{several(len(value), 'number')}, {tuple(value)}"
        remedy = f"{name}={(low,) * axes}"
        raise ShapeError(name, got, f"one number, or {axes}: one a spatial axis", remedy)
    return tuple(whole(entry, name, low) for entry in value)


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf, above: float = -math.inf) -> float:
    """A finite number from `low` to `high`, and larger than `above`."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high or value <= above:
        limits = [f"at least {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
        limits += [f"more than {above:g}"] * (above > -math.inf)
        fits = max(low, above + 1) if max(low, above) > -math.inf else 0
        remedy = f"{name}={min(fits, high):g}"
        raise UsageError(name, repr(value), " ".join(["a finite number", " and ".join(limits)]).strip(), remedy)
    return float(value)


def one_each(value: ArrayLike, name: str, count: int, of: str) -> NDArray[Any]:
    """An array (`count`,): an entry, of whatever kind, for each row of the argument `of`."""
    try:
        found = np.asarray(value)
    except ValueError:  # rows of several lengths
        found = np.empty((count, 0))
    if found.shape != (count,):
        few = min(count, len(found)) if found.ndim else 0
        remedy = f"the first {few} of both: {of}[:{few}], {name}[:{few}]" if found.ndim == 1 else f"{name}.ravel()"
        raise ShapeError(name, f"shape {found.shape}", f"({count},): one for each row of {of}", remedy)
    return found


def labels(value: ArrayLike, classes: int, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Class numbers of the given shape, 0 to `classes` − 1."""
    try:
        found = np.asarray(value)
    except Exception:
        found = np.asarray("?")
    expected = f"whole numbers 0 to {classes - 1}, shape {shape}"
    if found.dtype.kind not in "iu":
        raise UsageError("labels", f"{found.dtype}", expected, _whole_labels(found, shape))
    if found.shape != shape:
        raise ShapeError("labels", f"shape {found.shape}", expected, f"labels=np.zeros({shape}, dtype=int)")
    wrong = found[(found < 0) | (found >= classes)]
    if wrong.size:
        got = f"{wrong.flat[0]} among {several(classes, 'class', 'classes')}"
        raise UsageError("labels", got, expected, _relabeled(found, classes))
    return found.astype(np.intp)


def _whole_labels(found: NDArray[Any], shape: tuple[int, ...]) -> str:
    """Code that turns labels of another type or shape into whole numbers."""
    if found.dtype.kind in "US":
        return "np.unique(labels, return_inverse=True)[1], which numbers names"
    return "np.asarray(labels).astype(int)" if found.shape == shape else "labels.argmax(1) if they are one-hot"


def _relabeled(found: NDArray[np.integer], classes: int) -> str:
    """The remedy for labels out of range."""
    if found.min() < 0:
        return "keep = labels >= 0; logits[keep], labels[keep] leaves out samples without a class"
    if found.min() >= 1 and found.max() == classes:
        return "labels - 1, if they count from 1"
    return f"logits of shape (N, {found.max() + 1}): one for each class"


def refuse_huge(shape: Sequence[int], name: str) -> None:
    """Raise ShapeError for an array of this shape if it has more than LARGEST numbers."""
    if math.prod(shape) > LARGEST:
        got = f"an array of {' × '.join(map(str, shape))} = {several(math.prod(shape), 'number')}"
        raise ShapeError(name, got, f"at most {LARGEST:,}", f"a smaller {name}, or torch.nn.functional for real work")
