"""Remarks on where parameters and computation are, and where memory is what takes the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from striate.account.ledger import Ledger, Row
from striate.account.wording import listed, percent, several, size_in_bytes
from striate.records import Finding

MOST = 0.9
"""Share of parameters or computation that "where most of it is" means."""
LOW_INTENSITY = 2.0
"""FLOPs a byte. Processors do ten and more in the time that they read a byte from memory."""


def cost_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Where 90 % of the parameters and of the computation are; layers that wait for memory."""
    yield from _most(ledger, "parameters", lambda row: row.params)
    yield from _most(ledger, "multiply–accumulates", lambda row: row.macs)
    yield from _waiting_for_memory(ledger)


def _most(ledger: Ledger, what: str, cost: Callable[[Row], int]) -> Iterator[Finding]:
    """Layers, or where these are too many the modules that they are in."""
    costly = [row for row in ledger.rows if cost(row)]
    total = sum(map(cost, costly))
    if len(costly) < 3:
        return
    deepest = max(row.name.count(".") for row in costly) + 1
    for depth in (None, *range(deepest - 1, 0, -1)):
        shares: dict[str, int] = {}
        for row in costly:
            name = row.name if depth is None else ".".join(row.name.split(".")[:depth])
            shares[name] = shares.get(name, 0) + cost(row)
        chosen = _fewest(shares, total)
        if len(chosen) <= 3 or depth == 1:
            break
    if len(chosen) > 4 or len(chosen) == len(shares):
        return
    parts = [f"{name} ({percent(shares[name], total)} %)" for name in chosen]
    yield Finding(
        f"account.most-{'parameters' if what == 'parameters' else 'computation'}",
        "note",
        listed(chosen, 4),
        f"{percent(sum(shares[name] for name in chosen), total)} % of the {what} are in {listed(parts, 4)}",
        f"the fewest {'layers' if depth is None else 'modules'} with {MOST:.0%}",
        "A network gets smaller here, or nowhere." if what == "parameters" else "It gets faster here, or nowhere.",
        "Look here first.",
    )


def _fewest(shares: dict[str, int], total: int) -> list[str]:
    """The fewest names that together have MOST of the total, in their order of execution."""
    chosen: list[str] = []
    for name in sorted(shares, key=lambda name: -shares[name]):
        if sum(shares[c] for c in chosen) >= MOST * total:
            break
        chosen.append(name)
    return [name for name in shares if name in chosen]


def _waiting_for_memory(ledger: Ledger) -> Iterator[Finding]:
    """Layers with products that move a large part of all bytes for few operations each."""
    moved = {row.name: row.weight_bytes + row.input_bytes + row.output_bytes for row in ledger.rows if row.executed}
    rows = [row for row in ledger.rows if row.executed and row.macs and row.intensity < LOW_INTENSITY]
    share, total = sum(moved[row.name] for row in rows), sum(moved.values())
    if not rows or share < total / 2:
        return
    lowest = min(row.intensity for row in rows)
    yield Finding(
        "account.low-intensity",
        "note",
        listed([row.name for row in rows]),
        f"{several(len(rows), 'layer')} move {size_in_bytes(share)} for one sample, {percent(share, total)} % of all "
        f"bytes, and do {lowest:.2g} FLOPs for each byte",
        f"{LOW_INTENSITY:g} FLOPs a byte",
        "With one sample at a time, reading the weights takes longer than computing with them.",
        "Larger batches: weights are read once a batch.",
    )
