"""Which rows of numbers are a kernel: rectangular, with odd sides; free of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from striate.errors import UsageError
from striate.layers.kernels import LONGEST_SIDE

Words = Sequence[Sequence[str]]


def as_argument(words: Words) -> str:
    """A kernel as an argument in Python: `kernel=[[0, 1, -1]]`."""
    rows = [f"[{', '.join(row)}]" for row in words]
    return f"kernel=[{', '.join(rows)}]"


def check_form(
    rows: Sequence[Sequence[object]], where: str = "kernel", written: Callable[[Words], str] = as_argument
) -> None:
    """Raise UsageError where rows of numbers are no kernel: ragged, empty, of even sides, or too large.

    `written` gives a kernel as the reader of the remedy types it.
    """
    lengths = [len(row) for row in rows]
    example = written([["0", "-1", "0"], ["-1", "5", "-1"], ["0", "-1", "0"]])
    if not lengths or max(lengths) == 0:
        raise UsageError(where, "a kernel without numbers", "rows of numbers", example)
    if len(set(lengths)) > 1:
        got = f"rows of {', '.join(map(str, lengths[:12]))} numbers" + (", …" if len(lengths) > 12 else "")
        raise UsageError(where, got, "rows of the same length", example)
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
