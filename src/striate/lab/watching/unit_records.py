"""How one number of a network is computed, as plain frozen records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Patch:
    """What one channel of the input holds under the window, row by row, and the kernel that it meets.

    `rows`, `columns`: positions on the input map; those below 0 or beyond its end are padding, and `outside` says so
    for every value. `weights` is the kernel's part for this channel, `sum` that of the products; None where there is no
    kernel. `winner`: row and column within the patch of the value that is taken.
    """

    channel: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    values: tuple[Numbers, ...]
    outside: tuple[tuple[bool, ...], ...]
    weights: tuple[Numbers, ...] | None = None
    sum: float | None = None
    winner: tuple[int, int] | None = None


@dataclass(frozen=True)
class Term:
    """One number that goes in: what it is, what it is multiplied by (None: by nothing), and what it adds."""

    label: str
    value: float
    weight: float | None
    adds: float


@dataclass(frozen=True)
class Line:
    """One step of the arithmetic: what it is, written out, and its result."""

    label: str
    text: str
    value: float


@dataclass(frozen=True)
class UnitArithmetic:
    """How one number comes about.

    `kind` is `convolution`, `window`, `terms`, `function`, `copy` or, where nothing is told but the number, `none`;
    `words` say in a sentence what happens. `patches`: the windows, of the channels with the largest sums where there
    are too many; `channels`: channel and sum, of all. `terms`: the largest; `rest_count` others add `rest_sum`.
    `lines` go from there to the result. `value` is what all that comes to, in double precision; None for kind `none`.
    `output` is the network's own number.
    """

    kind: str
    words: str
    output: float
    value: float | None = None
    patches: tuple[Patch, ...] = ()
    channels: tuple[tuple[int, float], ...] = ()
    terms: tuple[Term, ...] = ()
    rest_count: int = 0
    rest_sum: float = 0.0
    lines: tuple[Line, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        # Not `asdict`, which copies thousands of numbers one by one.
        parts = {name: [vars(part) for part in getattr(self, name)] for name in ("patches", "terms", "lines")}
        return vars(self) | parts


@dataclass(frozen=True)
class Seen:
    """The part of the input that a unit depends on: first and last row and column, not cut at the border."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return asdict(self)


def some_terms(terms: Sequence[Term], total: float, count: int) -> dict[str, Any]:
    """The fields of a unit that is a sum of `count` numbers, `total` together, of which these terms are told."""
    rest = count - len(terms)
    return {
        "terms": tuple(terms),
        "rest_count": rest,
        "rest_sum": total - sum(term.adds for term in terms) if rest else 0.0,
    }


def broadcast_number(tensor: torch.Tensor, at: tuple[int, ...]) -> float:
    """The number of a tensor that meets the place `at` of a result, with broadcasting."""
    inner = at[len(at) - tensor.ndim :]
    return float(tensor[tuple(i if side > 1 else 0 for i, side in zip(inner, tensor.shape, strict=True))])


def written(value: float) -> str:
    """A number as it is shown within arithmetic: five significant digits, and a true minus sign."""
    return f"{value:.5g}".replace("-", "−")


def in_sum(value: float) -> str:
    """A number behind a plus sign or an operator: negative ones in brackets."""
    return f"({written(value)})" if value < 0 else written(value)
