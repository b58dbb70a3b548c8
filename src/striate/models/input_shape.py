"""Read the shape of one input from what a user gives; free of torch."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable

from striate.errors import ModelError
from striate.wording import several, type_of

Shape = tuple[int, ...]

MAX_ACTIVATIONS = 10**9
_EXAMPLE = "give the shape of one input without the batch, such as (1, 28, 28)"


def read_input_shape(given: object) -> Shape:
    """The shape (F,), (C, L), (C, H, W) or (C, D, H, W) from a sequence of whole numbers, each at least 1.

    Raises ModelError for anything else, with the shape that was probably meant.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable) or hasattr(given, "shape"):
        raise _error(*_no_sequence(given))
    entries = list(given)
    try:
        shape = tuple(operator.index(entry) for entry in entries)
    except TypeError:
        shape = ()
    if not shape or any(isinstance(entry, bool) for entry in entries) or min(shape) < 1 or len(shape) > 4:
        batch = len(shape) == 5 and shape[0] == 1
        raise _error(str(tuple(entries))[:80], f"leave out the batch: {shape[1:]}" if batch else _EXAMPLE)
    if math.prod(shape) > MAX_ACTIVATIONS:
        raise _error(str(shape), _EXAMPLE)
    return shape


def _error(got: str, remedy: str) -> ModelError:
    expected = (
        f"(features,), or (channels, then 1 to 3 spatial sizes), each at least 1, at most {MAX_ACTIVATIONS:,} values"
    )
    return ModelError("input shape", got, expected, remedy)


def _no_sequence(given: object) -> tuple[str, str]:
    """A description of the object, and the shape to give instead."""
    shape = tuple(getattr(given, "shape", ()))
    if shape:
        values = given.tolist() if len(shape) == 1 < shape[0] <= 4 and hasattr(given, "tolist") else []
        if values and all(type(value) is int and value > 0 for value in values):
            return f"{type_of(given)} of {several(len(values), 'number')}", f"give {tuple(values)}"
        if str(getattr(given, "dtype", "")).startswith("torch.int"):
            return f"{type_of(given)} of whole numbers of shape {shape}", "give (x,), a tuple with this example x"
        single = f"{shape[1:]}, its shape without the batch" if len(shape) > 1 else f"{shape}, its shape"
        return f"{type_of(given)} of shape {shape}", f"give {single}"
    if isinstance(given, int) and not isinstance(given, bool):
        return f"the number {given}", f"({given},) for a table; (1, {given}, {given}) for a gray picture"
    if isinstance(given, str):
        numbers = re.split(r"\s*[x×,]\s*", given.strip().lower())
        if all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
            return f"the text {given[:60]!r}", f"give {tuple(map(int, numbers))}"
    return f"a {type(given).__name__}" + (f", {given[:60]!r}" if isinstance(given, str) else ""), _EXAMPLE
