"""How one number of a network is computed, as plain frozen records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from striate.wording import formatted

if TYPE_CHECKING:
    import torch

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Patch:
    """What one channel of the input holds under the window, row by row, and the kernel that it meets."""

    channel: int
    """Number of the channel."""
    rows: tuple[int, ...]
    """Positions on the input map; those below 0 or beyond its end are padding."""
    columns: tuple[int, ...]
    """The same of the columns."""
    values: tuple[Numbers, ...]
    """The values under the window."""
    outside: tuple[tuple[bool, ...], ...]
    """Of every value, whether it is padding."""
    weights: tuple[Numbers, ...] | None = None
    """The kernel's part for this channel; None where there is no kernel."""
    sum: float | None = None
    """Sum of the products; None where there is no kernel."""
    winner: tuple[int, int] | None = None
    """Row and column within the patch of the value that is taken; None where none is."""


@dataclass(frozen=True)
class Term:
    """One input number of a sum."""

    label: str
    """What it is."""
    value: float
    """The number."""
    weight: float | None
    """None without a weight."""
    adds: float
    """What it adds to the sum."""


@dataclass(frozen=True)
class Line:
    """One step of the arithmetic."""

    label: str
    """What it is."""
    text: str
    """The formula."""
    value: float
    """Its result."""


@dataclass(frozen=True)
class UnitArithmetic:
    """How one number of a layer's output is computed."""

    kind: str
    """`convolution`, `window`, `terms`, `function` or `copy`; `none` where only the number is known."""
    words: str
    """What happens, in a sentence."""
    output: float
    """The network's own number."""
    value: float | None = None
    """The result of the arithmetic in double precision; None for kind `none`."""
    patches: tuple[Patch, ...] = ()
    """The windows; of the channels with the largest sums, where there are too many."""
    channels: tuple[tuple[int, float], ...] = ()
    """Channel and sum, of all channels."""
    terms: tuple[Term, ...] = ()
    """The largest terms."""
    rest_count: int = 0
    """Number of the terms that are not in `terms`."""
    rest_sum: float = 0.0
    """Sum of the terms that are not in `terms`."""
    lines: tuple[Line, ...] = ()
    """The steps from the sums to the result."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        # Not `asdict`, which copies thousands of numbers one by one.
        parts = {name: [vars(part) for part in getattr(self, name)] for name in ("patches", "terms", "lines")}
        return vars(self) | parts


@dataclass(frozen=True)
class InputRegion:
    """The region of the input that a unit depends on: first and last row and column, not cut at the border."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return asdict(self)


def some_terms(terms: Sequence[Term], total: float, count: int) -> dict[str, Any]:
    """The fields of a unit that is the sum `total` of `count` numbers, of which only these terms are listed."""
    rest = count - len(terms)
    return {
        "terms": tuple(terms),
        "rest_count": rest,
        "rest_sum": total - sum(term.adds for term in terms) if rest else 0.0,
    }


def broadcast_number(tensor: torch.Tensor, at: tuple[int, ...]) -> float:
    """The number of a tensor that is combined into the result at the place `at`, with broadcasting."""
    inner = at[len(at) - tensor.ndim :]
    return float(tensor[tuple(i if side > 1 else 0 for i, side in zip(inner, tensor.shape, strict=True))])


def written(value: float) -> str:
    """A number in a formula: five significant digits, and a true minus sign."""
    return formatted(value, ".5g")


def in_sum(value: float) -> str:
    """A number after an operator: in brackets if it is negative."""
    return f"({written(value)})" if value < 0 else written(value)
