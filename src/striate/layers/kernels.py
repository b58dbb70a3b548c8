"""The classic filters as exact whole numbers, by name, and the check of a kernel's form; free of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.errors import UsageError

Rows = tuple[tuple[int, ...], ...]

LONGEST_SIDE = 99
"""Largest number of rows and columns of a kernel."""


@dataclass(frozen=True)
class Kernel:
    """Whole numbers, row by row, and what their sum of products is divided by: the weight at (r, c) is
    `weights[r][c] / divisor`. Both sides are odd, so that the kernel has a center. `name` is empty for one's own.
    `decimals`: to how many its numbers were rounded; None where they are exact."""

    weights: Rows
    divisor: int = 1
    name: str = ""
    decimals: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.weights), len(self.weights[0])

    @property
    def center(self) -> tuple[int, int]:
        """Row and column of the weight that meets the pixel itself."""
        return len(self.weights) // 2, len(self.weights[0]) // 2

    @property
    def total(self) -> int:
        """The sum of the whole numbers. If it equals `divisor`, the filter does not change an area of constant gray."""
        return sum(map(sum, self.weights))

    @property
    def reach(self) -> int:
        """The sum of their absolute values: 255 × reach bounds every sum of products over a picture."""
        return sum(abs(weight) for row in self.weights for weight in row)

    def __str__(self) -> str:
        rows = "; ".join(" ".join(map(str, row)) for row in self.weights)
        return rows if self.divisor == 1 else f"{rows} /{self.divisor}"


_MEAN: Rows = ((1, 1, 1),) * 3
_SOBEL_X: Rows = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_PREWITT_X: Rows = ((-1, 0, 1),) * 3
_VERTICAL_EDGE: Rows = ((1, 0, -1),) * 3
_GAUSSIAN_5: Rows = (
    (1, 4, 7, 4, 1),
    (4, 16, 26, 16, 4),
    (7, 26, 41, 26, 7),
    (4, 16, 26, 16, 4),
    (1, 4, 7, 4, 1),
)


def _transposed(rows: Rows) -> Rows:
    return tuple(zip(*rows, strict=True))


_ALL = (
    Kernel(((0, 0, 0), (0, 1, 0), (0, 0, 0)), 1, "identity"),
    Kernel(_MEAN, 9, "mean3"),
    Kernel(((1, 2, 1), (2, 4, 2), (1, 2, 1)), 16, "blur3"),
    Kernel(_GAUSSIAN_5, 273, "gaussian5"),
    Kernel(((0, -1, 0), (-1, 5, -1), (0, -1, 0)), 1, "sharpen"),
    Kernel(_SOBEL_X, 1, "sobel-x"),
    Kernel(_transposed(_SOBEL_X), 1, "sobel-y"),
    Kernel(((2, 1, 0), (1, 0, -1), (0, -1, -2)), 1, "sobel-diagonal"),
    Kernel(_PREWITT_X, 1, "prewitt-x"),
    Kernel(_transposed(_PREWITT_X), 1, "prewitt-y"),
    Kernel(_VERTICAL_EDGE, 1, "vertical-edge"),
    Kernel(_transposed(_VERTICAL_EDGE), 1, "horizontal-edge"),
    Kernel(((0, 1, 0), (1, -4, 1), (0, 1, 0)), 1, "laplacian"),
    Kernel(((-2, -1, 0), (-1, 1, 1), (0, 1, 2)), 1, "emboss"),
)

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _ALL}
"""The named kernels, to be applied by cross-correlation, without a flip."""

PURPOSES: dict[str, str] = {
    "identity": "the picture itself",
    "mean3": "blur: the mean of 3 × 3 pixels",
    "blur3": "blur: near pixels count more",
    "gaussian5": "blur: a Gaussian bell over 5 × 5 pixels",
    "sharpen": "what differs from its four neighbors, made stronger",
    "sobel-x": "brighter to the right: vertical edges",
    "sobel-y": "brighter downward: horizontal edges",
    "sobel-diagonal": "brighter toward the upper left",
    "prewitt-x": "as sobel-x, all three rows alike",
    "prewitt-y": "as sobel-y, all three columns alike",
    "vertical-edge": "brighter to the left",
    "horizontal-edge": "brighter upward",
    "laplacian": "what is darker than its four neighbors",
    "emboss": "relief, lit from the upper left",
}
"""The effect of each named kernel, in a few words."""


Words = Sequence[Sequence[str]]


def as_argument(words: Words) -> str:
    """A kernel as an argument in Python: `kernel=[[0, 1, -1]]`."""
    rows = [f"[{', '.join(row)}]" for row in words]
    return f"kernel=[{', '.join(rows)}]"


def check_form(
    rows: Sequence[Sequence[object]], where: str = "kernel", written: Callable[[Words], str] = as_argument
) -> None:
    """Raise UsageError where rows of numbers are not a kernel: ragged, empty, of even sides, or too large.

    `written` converts a kernel to the text that the remedy tells the user to type.
    """
    lengths = [len(row) for row in rows]
    example = written([["0", "-1", "0"], ["-1", "5", "-1"], ["0", "-1", "0"]])
    if not lengths or max(lengths) == 0:
        raise UsageError(where, "a kernel without numbers", "rows of numbers", example)
    if len(set(lengths)) > 1:
        got = f"rows of {', '.join(map(str, lengths[:12]))} numbers" + (", …" if len(lengths) > 12 else "")
        filled = [[*row, *["0"] * (max(lengths) - len(row))] for row in rows]
        remedy = written(_with_zeros(filled))
        raise UsageError(
            where, got, "rows of the same length", remedy if len(remedy) <= 200 else "fill the short rows with zeros"
        )
    got = f"{len(lengths)} × {lengths[0]} numbers"
    if max(len(lengths), lengths[0]) > LONGEST_SIDE:
        expected = f"sides of at most {LONGEST_SIDE}"
        raise UsageError(where, got, expected, "filter twice with a smaller kernel, or make the picture smaller first")
    if len(lengths) % 2 == 0 or lengths[0] % 2 == 0:
        remedy = written(_with_zeros(rows))
        remedy = remedy if len(remedy) <= 200 else "add a row or column of zeros before the first"
        raise UsageError(where, got, "odd sides, so that one weight is in the center", remedy)


def _with_zeros(rows: Sequence[Sequence[object]]) -> Words:
    """The kernel with a row or column of zeros before its first, so that its sides are odd."""
    words = [["0"] * (1 - len(row) % 2) + [str(number) for number in row] for row in rows]
    return words if len(words) % 2 else [["0"] * len(words[0]), *words]
