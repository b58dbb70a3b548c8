"""What stands beside a box of a diagram: the layers in it, one behind the other or side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from striate.account.ledger import Row
from striate.wording import several, show_shape, show_sizes

_MOST_LAYERS = 4
"""So many are named one by one."""


def chain_text(rows: Sequence[Row]) -> str:
    """`conv 3×3 · bn · relu`; a kind that comes again at once is not repeated: `conv 1×1 · 3×3 /2 · 1×1`."""
    kinds = [_kind(row) for row in rows]
    again = [before.kind == row.kind and row.settings.get("kernel") for before, row in pairwise(rows)]
    return " · ".join(
        kind.removeprefix(f"{row.kind} ") if same else kind
        for kind, row, same in zip(kinds, rows, [False, *again], strict=False)
    )


def module_text(name: str, rows: Mapping[int, Row]) -> str:
    """`conv 1×1 · 3×3 · 1×1 | skip`, `4 branches, 19 layers`, `3 blocks, 32 layers`; what is side by side has a bar
    between.

    `rows` are those of the module `name` by their places; parts of it that hold several layers are blocks.
    """
    depth = name.count(".") + 2
    part_of = {place: ".".join(row.name.split(".")[:depth]) for place, row in rows.items()}
    within = Counter(part_of[place] for place, row in rows.items() if row.name.count(".") >= depth)
    layers = several(len(rows), "layer")
    if len(within) > 1:
        parallel = all(
            part_of.get(source, part_of[place]) == part_of[place]
            for place, row in rows.items()
            for source in row.inputs
        )
        return f"{several(len(within), 'branch', 'branches') if parallel else several(len(within), 'block')}, {layers}"
    if sum(_works(row) for row in rows.values()) > _MOST_LAYERS:
        return layers
    return _side_by_side(rows) or layers


def _side_by_side(rows: Mapping[int, Row]) -> str:
    """The chains of layers in a module that begin outside of it; nothing where others begin inside."""
    chains = [working for chain in _chains(rows) if any(map(_works, working := [rows[place] for place in chain]))]
    if not all(_from_outside(chain[0], rows) for chain in chains):
        return ""
    skips = any(not _from_outside(row, rows) and any(s not in rows for s in row.inputs) for row in rows.values())
    return " | ".join([*(chain_text([row for row in chain if _works(row)]) for chain in chains), *["skip"] * skips])


def _chains(rows: Mapping[int, Row]) -> list[list[int]]:
    """Layers one behind the other: each takes the output of the one before alone, and nothing else takes it."""
    takers = Counter(source for row in rows.values() for source in row.inputs)
    chains: dict[int, list[int]] = {}
    for place, row in rows.items():
        before = row.inputs[0] if len(row.inputs) == 1 else None
        chain = chains.pop(before, []) if before is not None and takers[before] == 1 else []
        chains[place] = [*chain, place]
    return list(chains.values())


def _from_outside(row: Row, rows: Mapping[int, Row]) -> bool:
    return not any(source in rows for source in row.inputs)


def _works(row: Row) -> bool:
    return bool(row.macs or row.settings.get("kernel"))


def _kind(row: Row) -> str:
    """`conv 3×3 /2`: the kind with its window, and its stride where it has one."""
    kernel, stride = row.settings.get("kernel"), row.settings.get("stride")
    if not kernel:
        return row.kind
    step = f" /{show_sizes(stride)}" if stride and max(stride) > 1 else ""
    return f"{row.kind} {show_shape(kernel)}{step}"
