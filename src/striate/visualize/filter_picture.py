"""A kernel applied to every pixel of a picture in whole numbers, and the arithmetic of one output pixel."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from striate.errors import UsageError
from striate.layers.axis_windows import PADDING_MODES, furthest_reach
from striate.layers.kernels import Kernel
from striate.records import option_remedy
from striate.visualize.picture import Bytes, Picture, whole_numbers
from striate.wording import several

NUMPY_MODES: dict[str, Any] = {"replicate": "edge", "zeros": "constant", "reflect": "reflect", "circular": "wrap"}
"""NumPy's names of the padding modes."""

_BAND = 1 << 18  # values of a band of rows, which stays in the cache
_MANY_WEIGHTS = 300  # for more weights, Fourier transforms are faster than a sum over weights


def filter_picture(picture: Picture, kernel: Kernel, padding_mode: str = "replicate") -> Picture:
    """The picture with every channel filtered by itself; size and alpha stay the same."""
    channels = [filter_values(channel, kernel, padding_mode) for channel in np.moveaxis(picture.values, -1, 0)]
    notes = picture.notes if picture.alpha is None else (*picture.notes, "transparency is copied, not filtered")
    return replace(picture, values=np.stack(channels, axis=-1), notes=notes)


def filter_values(x: Bytes, kernel: Kernel, padding_mode: str = "replicate") -> Bytes:
    """y[i, j] = Σ x[i + a, j + b] · weights[a, b] / divisor, over offsets a, b around the center; (H, W) uint8 to same.

    The cross-correlation of `striate.reference.convolve`. Sums are exact, quotients rounded to nearest, halves up, and
    results limited to 0 to 255. UsageError where `padding_mode` needs a larger picture.
    """
    check_padding(x.shape[1], x.shape[0], kernel, padding_mode)
    above, left = kernel.center
    padded = np.pad(x, ((above, above), (left, left)), mode=NUMPY_MODES[padding_mode])
    y = np.empty_like(x)
    summed = _large_sums if _bound(kernel) >= 2**63 else _sums_by_fourier if _count(kernel) > _MANY_WEIGHTS else _sums
    high = max(4 * kernel.shape[0], _BAND // x.shape[1], 1)
    for top in range(0, len(x), high):
        rows = min(high, len(x) - top)
        y[top : top + rows] = divide(summed(padded[top : top + rows + 2 * above], kernel), kernel.divisor)
    return y


def divide(sums: NDArray[Any], divisor: int) -> Bytes:
    """Whole sums over a positive divisor, to the nearest whole number (halves up), limited to 0 to 255."""
    if divisor > 1:
        sums = (2 * sums + divisor) // (2 * divisor)
    limited: Bytes = np.clip(sums, 0, 255).astype(np.uint8)
    return limited


def check_padding(width: int, height: int, kernel: Kernel, padding_mode: str) -> None:
    """Raise UsageError where the padding mode is unknown, or the picture is too small for it."""
    if padding_mode not in PADDING_MODES:
        raise UsageError(
            "--padding-mode", padding_mode, " or ".join(PADDING_MODES), option_remedy("padding-mode", "replicate")
        )
    above, left = kernel.center
    most = furthest_reach(padding_mode, height), furthest_reach(padding_mode, width)
    if all(limit is None or far <= limit for far, limit in zip(kernel.center, most, strict=True)):
        return
    rows, columns = kernel.shape
    why = (
        "only the pixels of the picture can be mirrored"
        if padding_mode == "reflect"
        else "it would wrap around more than once"
    )
    raise UsageError(
        f"--padding-mode {padding_mode}",
        f"a kernel of {rows} × {columns} (rows × columns), which reaches {several(above, 'row')} and "
        f"{several(left, 'column')} beyond a picture of {height} × {width}",
        f"a reach of at most {most[0]} rows and {most[1]} columns: {why}",
        option_remedy("padding-mode", "replicate"),
    )


def _count(kernel: Kernel) -> int:
    return sum(weight != 0 for row in kernel.weights for weight in row)


def _bound(kernel: Kernel) -> int:
    """A bound of all whole numbers from which `divide` computes the result."""
    return 2 * 255 * kernel.reach + kernel.divisor


_LIMB = 2**32


def _large_sums(padded: Bytes, kernel: Kernel) -> NDArray[Any]:
    """The sums of products with weights of any size, as Python's whole numbers: those with the weights' last 32 bits,
    and those with the bits before."""
    low = replace(kernel, divisor=1, weights=tuple(tuple(weight % _LIMB for weight in row) for row in kernel.weights))
    high = replace(low, weights=tuple(tuple(weight // _LIMB for weight in row) for row in kernel.weights))
    above = (_large_sums if _bound(high) >= 2**63 else _sums)(padded, high)
    total: NDArray[Any] = above.astype(object) * _LIMB + _sums(padded, low)
    return total


def _sums(padded: Bytes, kernel: Kernel) -> NDArray[Any]:
    """The sums of products over a padded band, one shifted copy of it for each weight."""
    rows, columns = kernel.shape
    high, wide = len(padded) - rows + 1, padded.shape[1] - columns + 1
    # The type must hold twice a sum plus a divisor; a type of half the bytes is twice as fast.
    kind = np.int32 if _bound(kernel) < 2**31 else np.int64
    wider, total, product = padded.astype(kind), np.zeros((high, wide), kind), np.empty((high, wide), kind)
    for a, row in enumerate(kernel.weights):
        for b, weight in enumerate(row):
            if weight:
                np.multiply(wider[a : a + high, b : b + wide], kind(weight), out=product)
                total += product
    return total


def _sums_by_fourier(padded: Bytes, kernel: Kernel) -> NDArray[Any]:
    """The same by Fourier transforms, if their rounding errors are too small to change a whole number."""
    weights = np.array(kernel.weights, np.float64)
    # ε · log₂(length) · ‖x‖ · ‖w‖ bounds the error of a transform there and back, for any constant of moderate size.
    bound = 2**-52 * 16 * 255 * np.sqrt(padded.size) * np.linalg.norm(weights) * 32
    if bound > 0.1:
        return _sums(padded, kernel)
    sums = oaconvolve(padded.astype(np.float64), weights[::-1, ::-1], mode="valid")
    return np.rint(sums).astype(np.int64)


_WIDTH = 78
_MOST_TERMS = 25


@dataclass(frozen=True)
class ChannelArithmetic:
    """How the value of one channel of an output pixel is computed."""

    channel: str
    """The channel by name."""
    neighborhood: tuple[tuple[int, ...], ...]
    """The values under the kernel, row by row."""
    products: tuple[tuple[int, ...], ...]
    """Their products with the kernel, row by row."""
    sum: int
    """Sum of the products."""
    quotient: Fraction
    """The sum after division."""
    rounded: int
    """The quotient rounded to nearest, halves up."""
    value: int
    """The rounded value limited to 0 to 255."""


@dataclass(frozen=True)
class PixelArithmetic:
    """How one output pixel is computed."""

    x: int
    """Column of the pixel, from 0."""
    y: int
    """Row of the pixel, from 0."""
    kernel: Kernel
    """The kernel."""
    padding_mode: str
    """What lies beyond the border."""
    outside: tuple[tuple[bool, ...], ...]
    """Of each value under the kernel, row by row, whether it lies beyond the border."""
    channels: tuple[ChannelArithmetic, ...]
    """The arithmetic of each channel."""

    def __str__(self) -> str:
        lines = [f"output pixel x = {self.x}, y = {self.y} (column and row, counted from 0)"]
        if any(map(any, self.outside)):
            beyond = _BEYOND[self.padding_mode]
            lines.append(f"( ) is beyond the border: {beyond} (padding mode {self.padding_mode})")
        for channel in self.channels:
            lines += ["", channel.channel, *(f"  {line}".rstrip() for line in self._lines(channel))]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The record as in a `--json` document."""
        return {
            "x": self.x,
            "y": self.y,
            "outside": self.outside,
            "channels": [{**vars(channel), "quotient": float(channel.quotient)} for channel in self.channels],
        }

    def _lines(self, channel: ChannelArithmetic) -> list[str]:
        divisor, quotient = self.kernel.divisor, channel.quotient
        lines = [*self._blocks(channel), *_sum_lines(channel, self.kernel)]
        if divisor > 1:
            equals = "=" if quotient * 10**4 % 1 == 0 else "≈"
            lines.append(f"divided  {channel.sum} / {divisor} {equals} {float(quotient):.10g}"[:_WIDTH])
        if quotient != channel.rounded:
            half = ", halves go up" if quotient.denominator == 2 else ""
            lines.append(f"rounded  {channel.rounded}{half}")
        if channel.rounded != channel.value:
            limit = "below 0" if channel.rounded < 0 else "above 255"
            lines.append(f"limited  {channel.value}, because {channel.rounded} is {limit}")
        return [*lines, f"value    {channel.value}"]

    def _blocks(self, channel: ChannelArithmetic) -> list[str]:
        """Neighborhood, kernel and products side by side; if there is no room, below each other, or as sums."""
        rows = zip(channel.neighborhood, self.outside, strict=True)
        values = [[f"({v})" if out else f"{v}" for v, out in zip(*row, strict=True)] for row in rows]
        tables = {"pixels": values, "kernel": _words(self.kernel.weights), "products": _words(channel.products)}
        blocks = [_block(title, cells) for title, cells in tables.items()]
        if sum(len(block[0]) + 4 for block in blocks) - 4 <= _WIDTH:
            return ["    ".join(line) for line in zip(*blocks, strict=True)]
        if max(len(block[0]) for block in blocks) <= _WIDTH:
            return [line for block in blocks for line in block]
        top = self.y - self.kernel.center[0]
        return [f"row {top + k}: sum of {len(row)} products {sum(row)}" for k, row in enumerate(channel.products)]


_BEYOND = {
    "replicate": "the nearest pixel",
    "zeros": "0",
    "reflect": "the picture mirrored at its outermost pixels",
    "circular": "the other side of the picture",
}


def explain_pixel(picture: Picture, kernel: Kernel, padding_mode: str, at: str) -> PixelArithmetic:
    """The arithmetic of the output pixel `at` (`x,y`) of the filtered picture. Raises UsageError for other texts, and
    for a pixel outside the picture."""
    (width, height), numbers = picture.size, whole_numbers(at, 2)
    if numbers is None or not (0 <= numbers[0] < width and 0 <= numbers[1] < height):
        expected = f"x,y with x from 0 to {width - 1} and y from 0 to {height - 1}"
        raise UsageError("--explain", at[:80], expected, f"--explain {width // 2},{height // 2}")
    check_padding(width, height, kernel, padding_mode)
    x, y = numbers
    (above, left), (rows, columns) = kernel.center, kernel.shape
    # Padding the positions instead of the values shows which of them lie beyond the border.
    down = np.arange(y - above, y - above + rows)
    across = np.arange(x - left, x - left + columns)
    outside = ((down < 0) | (down >= height))[:, None] | ((across < 0) | (across >= width))[None, :]
    nearest = np.ix_(_inside(down, height, padding_mode), _inside(across, width, padding_mode))
    channels = []
    for name, channel in zip(picture.channels, np.moveaxis(picture.values, -1, 0), strict=True):
        values = channel[nearest].astype(np.int64)
        if padding_mode == "zeros":
            values = np.where(outside, 0, values)
        channels.append(_arithmetic(name, values, kernel))
    return PixelArithmetic(x, y, kernel, padding_mode, _rows(outside, bool), tuple(channels))


def _inside(positions: np.ndarray, size: int, padding_mode: str) -> np.ndarray:
    """For each padded position along one axis, the position of its value; for zeros any position inside."""
    mode: Any = "edge" if padding_mode == "zeros" else NUMPY_MODES[padding_mode]
    before, after = max(0, -int(positions[0])), max(0, int(positions[-1]) - size + 1)
    padded: np.ndarray = np.pad(np.arange(size), (before, after), mode=mode)[positions + before]
    return padded


def _arithmetic(name: str, values: np.ndarray, kernel: Kernel) -> ChannelArithmetic:
    products = values * np.array(kernel.weights, object)
    total = int(products.sum())
    quotient = Fraction(total, kernel.divisor)
    rounded = (2 * total + kernel.divisor) // (2 * kernel.divisor)
    value = int(divide(np.array([total], object), kernel.divisor)[0])
    return ChannelArithmetic(name, _rows(values, int), _rows(products, int), total, quotient, rounded, value)


def _rows(values: np.ndarray, kind: type) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(kind(value) for value in row) for row in values)


def _words(rows: tuple[tuple[int, ...], ...]) -> list[list[str]]:
    return [[str(value) for value in row] for row in rows]


def _block(title: str, cells: list[list[str]]) -> list[str]:
    wide = max(len(cell) for row in cells for cell in row)
    lines = [" ".join(cell.rjust(wide) for cell in row) for row in cells]
    room = max(len(title), len(lines[0]))
    return [title.ljust(room), *(line.ljust(room) for line in lines)]


def _sum_lines(channel: ChannelArithmetic, kernel: Kernel) -> list[str]:
    pairs = zip(channel.products, kernel.weights, strict=True)
    terms = [product for row in pairs for product, weight in zip(*row, strict=True) if weight]
    if not 1 < len(terms) <= _MOST_TERMS:
        return [f"sum      {channel.sum}"]
    words = " + ".join(str(term) for term in terms).replace("+ -", "- ")
    return textwrap.wrap(f"sum      {words} = {channel.sum}", _WIDTH, subsequent_indent=" " * 9)
