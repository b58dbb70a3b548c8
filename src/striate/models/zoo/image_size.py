"""Which images a chain of convolutions and poolings can take: the arithmetic, and the error where nothing is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from striate.errors import ModelError, pasted
from striate.models.layer_strings.shapes import Shape
from striate.wording import show_shape


@dataclass(frozen=True)
class Window:
    """One convolution or pooling along one axis. `round_up`: a last, cut off window counts too (`ceil_mode`)."""

    kernel: int
    stride: int = 1
    padding: int = 0
    round_up: bool = False

    def fit(self, size: int) -> int:
        """How many windows fit `size` positions; 0 where none does."""
        room = size + 2 * self.padding - self.kernel
        if not self.round_up:
            return max(0, room // self.stride + 1)
        # One window fits that is up to `stride` − 1 positions larger; none begins in the padding at the end.
        windows = max(0, -(-room // self.stride) + 1)
        return windows - (windows > 0 and (windows - 1) * self.stride >= size + self.padding)


def chain_sizes(size: int, windows: Iterable[Window]) -> list[int]:
    """The size before and after each of the windows; ends with 0 where one does not fit."""
    sizes = [size]
    for window in windows:
        sizes.append(window.fit(sizes[-1]))
        if sizes[-1] == 0:
            break
    return sizes


def smallest_size(windows: tuple[Window, ...]) -> int:
    """The smallest size of which the windows leave at least one position."""
    return next(size for size in count(1) if chain_sizes(size, windows)[-1] > 0)


def check_image(name: str, input_shape: Shape, windows: tuple[Window, ...] = (), small_form: str = "") -> None:
    """ModelError unless `input_shape` is an image (C, H, W) of which `windows`, in this order, leave something.

    The remedy names the smallest size that fits, and a network of the zoo for the size that came: `small_form` where
    that is given.
    """
    if len(input_shape) != 3:
        remedy = "use --model small-cnn" if len(input_shape) > 1 else "use --model mlp"
        raise ModelError(name, f"inputs of {show_shape(input_shape)}", "images (channels, height, width)", remedy)
    height, width = input_shape[1:]
    smallest = smallest_size(windows)
    if min(height, width) >= smallest:
        return
    larger = max(height, smallest), max(width, smallest)
    size = str(smallest) if height == width else f"{larger[0]}x{larger[1]}"
    other = small_form or ("small-resnet" if min(height, width) >= 8 else "small-cnn")
    expected = f"images of at least {smallest}×{smallest}"
    remedy = f"use --size {size}, or another network: --model {pasted(other)}"
    raise ModelError(name, describe_chain(height, width, windows), expected, remedy)


def describe_chain(height: int, width: int, windows: tuple[Window, ...]) -> str:
    """Why an image is too small for the windows: `images of 20×62: 20 → 4 → 1, and no window of 3 fits into 1`."""
    *sizes, _ = chain_sizes(min(height, width), windows)
    chain = ": " + " → ".join(map(str, sizes)) if len(sizes) > 1 else ""
    last = windows[len(sizes) - 1]
    padded = f" with {last.padding} added on each side" if last.padding else ""
    return f"images of {height}×{width}{chain}, and no window of {last.kernel} fits into {sizes[-1]}{padded}"
