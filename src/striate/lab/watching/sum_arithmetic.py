"""The arithmetic of sums over many numbers: fully connected layers, matrix products, softmax, means over any axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from striate.lab.watching.pass_recorder import Call
from striate.lab.watching.unit_records import Line, Term, UnitArithmetic, broadcast_number, in_sum, some_terms, written
from striate.wording import several

Array = NDArray[np.float64]
MOST_TERMS = 100
"""Largest number of terms in a record; it has only the sum of further ones."""


def explain_product(call: Call, at: tuple[int, ...], before: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (i, j) of a matrix product, such as that of a fully connected layer.

    `before`: the shape of the maps that were flattened to the input, which gives its numbers names; () without maps.
    """
    found = _factors(call, at)
    if found is None:
        return None
    values, weights, offset = found
    adds = values * weights
    order = np.argsort(-np.abs(adds), kind="stable")[:MOST_TERMS]
    names = _Names(before, len(values))
    terms = tuple(Term(names.of(int(i)), float(values[i]), float(weights[i]), float(adds[i])) for i in order)
    total = float(adds.sum())
    lines = [Line("sum of all products", several(len(values), "product"), total)]
    value = total
    if offset is not None:
        value += offset
        lines.append(Line("with the bias", f"{written(total)} + {in_sum(offset)}", value))
    words = f"The sum of the {several(len(values), 'input')}, each multiplied by its own weight."
    parts = some_terms(terms, total, len(values))
    return UnitArithmetic("terms", words, float(call.out[at]), value, lines=tuple(lines), **parts)


def _factors(call: Call, at: tuple[int, ...]) -> tuple[Array, Array, float | None] | None:
    """The factors of the products, and the bias."""
    scale, offset = 1.0, None
    if call.name == "addmm":
        left, right, bias = call.tensor("mat1"), call.tensor("mat2"), call.tensor("self")
        scale = float(call.get("alpha", 1))
        if bias is not None:
            offset = broadcast_number(bias, at) * float(call.get("beta", 1))
    elif call.name == "mm":
        left, right = call.tensor("self"), call.tensor("mat2")
    elif call.name == "bmm":
        left, right = call.tensor("self"), call.tensor("mat2")
        if left is not None and right is not None:
            left, right, at = left[at[0]], right[at[0]], at[1:]
    else:
        return None
    if left is None or right is None or len(at) != 2:
        return None
    return left[at[0]].double().numpy(), right[:, at[1]].double().numpy() * scale, offset


class _Names:
    """The names of the numbers of a vector: places on the maps that it was flattened from."""

    def __init__(self, before: tuple[int, ...], count: int) -> None:
        fitting = len(before) == 3 and math.prod(before) == count and math.prod(before[1:]) > 1
        self.before = before if fitting else ()

    def of(self, place: int) -> str:
        """`map 3, row 2, column 5`, or `number 17`."""
        if not self.before:
            return f"number {place}"
        channel, row, column = np.unravel_index(place, self.before)
        return f"map {channel}, row {row}, column {column}"


def explain_softmax(call: Call, at: tuple[int, ...], labels: Sequence[str]) -> UnitArithmetic | None:
    """The number at a place of a softmax, or of its logarithm: exponentials, their sum, the quotient."""
    x = call.tensor("self")
    if x is None:
        return None
    dim = int(call.get("dim", 1)) % x.ndim
    row: tuple[int | slice, ...] = (*at[:dim], slice(None), *at[dim + 1 :])
    values = x[row].double().numpy()
    largest = float(values.max())
    powers = np.exp(values - largest)
    own, total = at[dim], float(powers.sum())
    order = [own, *(int(i) for i in np.argsort(-powers, kind="stable")[: MOST_TERMS - 1] if int(i) != own)]
    names = labels if len(labels) == len(values) else [f"number {i}" for i in range(len(values))]
    terms = tuple(Term(names[i], float(values[i]), None, float(powers[i])) for i in order)
    rest = len(values) - len(terms)
    share = float(powers[own]) / total
    lines = [
        Line("its exponential", f"exp({written(float(values[own]))} − {in_sum(largest)})", float(powers[own])),
        Line("sum of all", several(len(values), "exponential"), total),
        Line("share", f"{written(float(powers[own]))} / {written(total)}", share),
    ]
    value = share
    if call.name == "_log_softmax":
        value = float(values[own]) - largest - math.log(total)
        lines.append(Line("logarithm", f"ln {written(share)}", value))
    words = (
        f"The largest number, {written(largest)}, is subtracted from each number before its exponential: that changes "
        "no share and keeps the numbers small. The share is the exponential divided by the sum of all."
    )
    shown = sum(term.adds for term in terms)
    return UnitArithmetic(
        *("terms", words, float(call.out[at]), value),
        terms=terms,
        rest_count=rest,
        rest_sum=total - shown if rest else 0.0,
        lines=tuple(lines),
    )


def explain_reduction(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at a place of a mean, sum or maximum over some axes."""
    x = call.tensor("self")
    if x is None:
        return None
    given = call.get("dim")
    dims = list(range(x.ndim)) if given in (None, []) else [given] if isinstance(given, int) else list(given)
    gone = {dim % x.ndim for dim in dims}
    remaining = iter(at if call.out.ndim < x.ndim else [i for d, i in enumerate(at) if d not in gone])
    row = tuple(slice(None) if dim in gone else next(remaining) for dim in range(x.ndim))
    values = x[row].double().numpy().ravel()
    order = np.argsort(-np.abs(values), kind="stable")[:MOST_TERMS]
    terms = tuple(Term(f"number {i}", float(values[i]), None, float(values[i])) for i in order)
    total, rest = float(values.sum()), len(values) - len(terms)
    count = several(len(values), "number")
    if call.name in ("amax", "max"):
        value = float(values.max())
        lines = [Line("largest", f"of {count}", value)]
    else:
        lines = [Line("sum", f"of {count}", total)]
        value = total
        if call.name == "mean":
            value = total / len(values)
            lines.append(Line("mean", f"{written(total)} / {len(values)}", value))
    return UnitArithmetic(
        *("terms", f"Computed from {count}.", float(call.out[at]), value),
        terms=terms,
        rest_count=rest,
        rest_sum=total - sum(term.adds for term in terms) if rest else 0.0,
        lines=tuple(lines),
    )


def explain_channels(
    x: torch.Tensor, output: torch.Tensor, at: tuple[int, ...], first: int, last: int, *, squares: bool
) -> UnitArithmetic:
    """The number at (0, c, …) computed from maps `first` to `last` at the same place: the root of the sum of their
    squares, or the largest."""
    values = [float(x[(0, channel, *at[2:])]) for channel in range(first, last + 1)]
    if squares:
        total = sum(v * v for v in values)
        terms = tuple(Term(f"map {first + i}, squared", v, v, v * v) for i, v in enumerate(values))
        lines: tuple[Line, ...] = (
            Line("sum of squares", f"maps {first} to {last}", total),
            Line("root", f"√{written(total)}", math.sqrt(total)),
        )
        words = f"The root of the sum of squares of maps {first} to {last} at the same place."
    else:
        terms = tuple(Term(f"map {first + i}", v, None, v) for i, v in enumerate(values))
        lines = (Line("largest", f"maps {first} to {last}", max(values)),)
        words = f"The largest of maps {first} to {last} at the same place."
    return UnitArithmetic("terms", words, float(output[at]), lines[-1].value, terms=terms, lines=lines)


def explain_distance(x: torch.Tensor, codes: Sequence[float], output: float) -> UnitArithmetic:
    """Minus the squared distance of a vector x (F,) to a code of that length."""
    values = x.double().numpy()
    apart = values - np.asarray(codes, np.float64)
    order = np.argsort(-np.abs(apart), kind="stable")[:MOST_TERMS]
    terms = tuple(
        Term(f"number {i} minus {codes[i]:g}", float(apart[i]), float(apart[i]), float(apart[i] ** 2)) for i in order
    )
    total = float(np.square(apart).sum())
    lines = (
        Line("sum of squares", several(len(values), "difference"), total),
        Line("result", f"−{written(total)}", -total),
    )
    words = "Minus the squared distance between what goes in and this output's code."
    return UnitArithmetic("terms", words, output, -total, lines=lines, **some_terms(terms, total, len(values)))
