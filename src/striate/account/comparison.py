"""The comparison of two ledgers: totals with their ratios, and which layers correspond to each other; free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from striate.account.ledger import Ledger, Row
from striate.account.table import WIDTH, laid_out
from striate.errors import one_line
from striate.wording import scaled, several, shorten_middle, show_shape, size_in_bytes

_Worth = Callable[[Row, Row], int]
_NAMED, _ALIKE = 1001, 1000  # first the number of pairs counts, then how many of them have the same name


@dataclass(frozen=True)
class Pair:
    """Two layers that correspond to each other; one of them is None where a layer has no counterpart."""

    first: Row | None
    second: Row | None


def align(first: Sequence[Row], second: Sequence[Row]) -> list[Pair]:
    """Rows that correspond, in the order of execution: by name and kind if most names agree, else by kind.

    The pairs are a longest common subsequence: first of the rows with parameters or products, then of the rows between.
    """
    shared = {(row.name, row.kind) for row in first} & {(row.name, row.kind) for row in second}
    by_name = 2 * len(shared) >= min(len(first), len(second))

    def worth(a: Row, b: Row) -> int:
        if a.kind != b.kind or (by_name and a.name != b.name):
            return 0
        return _NAMED if a.name == b.name else _ALIKE

    working = [[place for place, row in enumerate(rows) if row.params or row.macs] for rows in (first, second)]
    anchors = _common([first[k] for k in working[0]], [second[k] for k in working[1]], worth)
    pairs: list[Pair] = []
    a = b = 0
    for i, j in [*((working[0][i], working[1][j]) for i, j in anchors), (len(first), len(second))]:
        pairs += _between(first[a:i], second[b:j], worth)
        if i < len(first):
            pairs.append(Pair(first[i], second[j]))
        a, b = i + 1, j + 1
    return pairs


def _between(first: Sequence[Row], second: Sequence[Row], worth: _Worth) -> Iterator[Pair]:
    """All rows between two pairs; those with parameters or products have no counterpart there."""
    a = b = 0
    for i, j in [*_common(first, second, worth), (len(first), len(second))]:
        yield from (Pair(row, None) for row in first[a:i])
        yield from (Pair(None, row) for row in second[b:j])
        if i < len(first):
            yield Pair(first[i], second[j])
        a, b = i + 1, j + 1


def _common(first: Sequence[Row], second: Sequence[Row], worth: _Worth) -> list[tuple[int, int]]:
    """Indices of the pairs with the largest sum of `worth`; of equal sums, the earliest pairs."""
    best = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i in reversed(range(len(first))):
        below, here = best[i + 1], best[i]
        for j in reversed(range(len(second))):
            value = worth(first[i], second[j])
            here[j] = max(below[j], here[j + 1], value + below[j + 1] if value else 0)
    pairs, i, j = [], 0, 0
    while i < len(first) and j < len(second):
        value = worth(first[i], second[j])
        if value and best[i][j] == value + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


_LETTERS = 10  # letters shown of each of two names in one cell: the last ones

_TOTALS: tuple[tuple[str, Callable[[Ledger], int], Callable[[int], str]], ...] = (
    ("layers", lambda ledger: len(ledger.rows), "{:,}".format),
    ("parameters", lambda ledger: ledger.params, "{:,}".format),
    ("trainable", lambda ledger: ledger.trainable, "{:,}".format),
    ("MACs", lambda ledger: ledger.macs, scaled),
    ("FLOPs", lambda ledger: ledger.flops, scaled),
    ("weights", lambda ledger: ledger.weight_bytes, size_in_bytes),
    ("all outputs", lambda ledger: ledger.activation_bytes, size_in_bytes),
    ("saved for backward", lambda ledger: ledger.training_bytes, size_in_bytes),
    ("inference, at its peak", lambda ledger: ledger.inference_bytes, size_in_bytes),
    ("receptive field", lambda ledger: max(ledger.receptive_field, default=0), "{:,}".format),
)


@dataclass(frozen=True)
class Total:
    """One total of both networks; `ratio` is the first over the second, None where the second is 0."""

    name: str
    first: int
    second: int
    ratio: float | None
    shown: tuple[str, str]


@dataclass(frozen=True)
class LedgerComparison:
    """The comparison of two networks. `pairs` has every row of both, in the order of execution."""

    first: Ledger
    second: Ledger
    totals: tuple[Total, ...]
    pairs: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the first ledger, with `against`: the object of the second, `ratios`: totals of the first
        over those of the second, `layers`: pairs of names of corresponding layers."""
        return self.first.to_json() | {
            "against": self.second.to_json(),
            "ratios": {total.name: total.ratio for total in self.totals},
            "layers": [[row.name if row else None for row in (pair.first, pair.second)] for pair in self.pairs],
        }

    def __str__(self) -> str:
        return comparison_table(self)


def compare_ledgers(first: Ledger, second: Ledger) -> LedgerComparison:
    """Compare two networks: totals, and which layers correspond."""
    totals = []
    for name, of, show in _TOTALS:
        a, b = of(first), of(second)
        totals.append(Total(name, a, b, a / b if b else None, (show(a), show(b))))
    fields = first.effective_receptive_field, second.effective_receptive_field
    if fields[0] and fields[1]:
        sides = round(max(fields[0])), round(max(fields[1]))
        totals.append(Total("effective field", *sides, sides[0] / sides[1], (str(sides[0]), str(sides[1]))))
    return LedgerComparison(first, second, tuple(totals), tuple(align(first.rows, second.rows)))


def comparison_table(comparison: LedgerComparison, width: int = WIDTH) -> str:
    """The comparison as text of at most `width` columns: totals, then the layers with parameters or products."""
    first, second = comparison.first, comparison.second
    name = max(16, (width - 38) // 2)
    short = shorten_middle(first.model, name), shorten_middle(second.model, name)
    alike = short[0] == short[1]  # the shortened names are equal, or the names are
    one, other = ("A", "B") if alike else short
    heads = ("", one, other, "ratio")
    totals = [(total.name, *total.shown, show_ratio(total.first, total.second)) for total in comparison.totals]
    shape = ("input", show_shape(first.input), show_shape(second.input), "")
    parts = [*_wrapped(f"A: {first.model}", width), *_wrapped(f"B: {second.model}", width), ""] if alike else []
    parts.append(laid_out([heads, shape, *totals], ("left", "right", "right", "right"), width))
    layers = [_layer(pair) for pair in comparison.pairs if any(row and (row.params or row.macs) for row in _rows(pair))]
    if layers:
        columns = ("layer", "parameters", "against", "ratio", "MACs", "against", "ratio")
        parts += ["", laid_out([columns, *layers], ("left", *["right"] * 6), width)]
        hidden = len(comparison.pairs) - len(layers)
        parts += ["", *_wrapped(f"Ratios: {one} over {other}. +: only in {one}. −: only in {other}.", width)]
        if hidden:
            parts.append(f"{several(hidden, 'layer')} without parameters and products are not listed.")
    return "\n".join(parts)


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(one_line(text), width, subsequent_indent="   ", break_on_hyphens=False)


def show_ratio(first: float, second: float) -> str:
    """`2.18`, `0.05`, `4000 M`; a dash where the second number is 0."""
    if not second:
        return "–"
    ratio = first / second
    return scaled(ratio) if ratio >= 1000 else f"{ratio:.3g}"


def _rows(pair: Pair) -> tuple[Row | None, Row | None]:
    return pair.first, pair.second


def _layer(pair: Pair) -> tuple[str, ...]:
    a, b = pair.first, pair.second
    names = list(dict.fromkeys(row.name for row in (a, b) if row))
    tails = [n if len(n) <= _LETTERS or len(names) == 1 else f"…{n[1 - _LETTERS :]}" for n in names]
    name = " / ".join(tails) if a and b else f"{'+' if a else '−'} {names[0]}"
    counts = [(row.params, row.macs) if row else (0, 0) for row in (a, b)]
    cells: list[str] = []
    for k, show in enumerate(("{:,}".format, scaled)):
        x, y = counts[0][k], counts[1][k]
        cells += [show(x) if a and x else "–", show(y) if b and y else "–", show_ratio(x, y) if x and y else ""]
    return (name, *cells)
