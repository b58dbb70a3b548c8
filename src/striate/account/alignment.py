"""Which layers of two networks correspond to each other; free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from striate.account.ledger import Row

_Worth = Callable[[Row, Row], int]
_NAMED, _ALIKE = 1001, 1000  # as many pairs as can be; among as many, those with the same names


@dataclass(frozen=True)
class Pair:
    """A layer of each network that corresponds to the other; None where there is none."""

    first: Row | None
    second: Row | None


def align(first: Sequence[Row], second: Sequence[Row]) -> list[Pair]:
    """Rows that correspond, in the order of both: by name and kind where most names agree, else by kind.

    A longest common subsequence: first of the rows with parameters or products, then of those between them.
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
    """All rows between two anchors; those with parameters or products have no counterpart there."""
    a = b = 0
    for i, j in [*_common(first, second, worth), (len(first), len(second))]:
        yield from (Pair(row, None) for row in first[a:i])
        yield from (Pair(None, row) for row in second[b:j])
        if i < len(first):
            yield Pair(first[i], second[j])
        a, b = i + 1, j + 1


def _common(first: Sequence[Row], second: Sequence[Row], worth: _Worth) -> list[tuple[int, int]]:
    """The places of the pairs that are worth the most together, the earliest ones among equals."""
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
