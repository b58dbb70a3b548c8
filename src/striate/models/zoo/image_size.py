"""Which images a chain of convolutions and poolings can take: the arithmetic, and the error where nothing is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from striate.errors import InputMisfit, pasted
from striate.layers.axis_windows import AxisWindows
from striate.models.layer_strings.shapes import Shape
from striate.wording import show_shape


@dataclass(frozen=True)
class Slide:
    """One convolution or pooling along an axis of any size. `round_up`: a last, cut off window counts too
    (`ceil_mode`)."""

    kernel: int
    stride: int = 1
    padding: int = 0
    round_up: bool = False

    def fit(self, size: int) -> int:
        """How many windows fit `size` positions; 0 where none does."""
        return AxisWindows(size, self.kernel, self.stride, self.padding, self.padding, round_up=self.round_up).count


def chain_sizes(size: int, windows: Iterable[Slide]) -> list[int]:
    """The size before and after each of the windows; ends with 0 where one does not fit."""
    sizes = [size]
    for window in windows:
        sizes.append(window.fit(sizes[-1]))
        if sizes[-1] == 0:
            break
    return sizes


def smallest_size(windows: tuple[Slide, ...]) -> int:
    """The smallest size of which the windows leave at least one position."""
    return next(size for size in count(1) if chain_sizes(size, windows)[-1] > 0)


def check_image(name: str, input_shape: Shape, windows: tuple[Slide, ...] = (), small_form: str = "") -> None:
    """InputMisfit unless `input_shape` is an image (C, H, W) of which `windows`, in this order, leave something.

    The remedy names the smallest size that fits, and a network of the zoo for the size that came: `small_form` where
    that is given.
    """
    if len(input_shape) != 3:
        raise no_image(name, input_shape)
    height, width = input_shape[1:]
    smallest = smallest_size(windows)
    if min(height, width) >= smallest:
        return
    larger = max(height, smallest), max(width, smallest)
    size = str(smallest) if height == width else f"{larger[0]}x{larger[1]}"
    other = small_form or ("small-resnet" if min(height, width) >= 8 else "small-cnn")
    expected = f"images of at least {smallest}×{smallest}"
    remedy = f"use --size {size}, or another network: --model {pasted(other)}"
    got, fitting = describe_chain(height, width, windows), (input_shape[0], *larger)
    raise InputMisfit(name, got, expected, remedy, fitting=fitting, instead=other)


def no_image(
    name: str, input_shape: Shape, expected: str = "images (channels, height, width)", other: str = "small-cnn"
) -> InputMisfit:
    """The error for a table, a signal, a volume (`other` takes the latter two), or a whole batch."""
    got = f"inputs of {show_shape(input_shape)}"
    if len(input_shape) == 4 and input_shape[0] == 1 and input_shape[1] in (1, 3):
        fitting = input_shape[1:]
        remedy = f"give the shape without the batch: {fitting}"
        return InputMisfit(name, got, expected, remedy, fitting=fitting)
    other = other if len(input_shape) > 1 else "mlp"
    return InputMisfit(name, got, expected, f"use --model {other}", instead=other)


def describe_chain(height: int, width: int, windows: tuple[Slide, ...]) -> str:
    """Why an image is too small for the windows: `images of 20×62: 20 → 4 → 1, and no window of 3 fits into 1`."""
    *sizes, _ = chain_sizes(min(height, width), windows)
    chain = ": " + " → ".join(map(str, sizes)) if len(sizes) > 1 else ""
    last = windows[len(sizes) - 1]
    padded = f" with {last.padding} added on each side" if last.padding else ""
    return f"images of {height}×{width}{chain}, and no window of {last.kernel} fits into {sizes[-1]}{padded}"
