"""The boxes of a network's diagram: a layer with its normalization and activation, or a module of a large network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from striate.account.ledger import Ledger, Row, Shape, module_output
from striate.wording import several, show_shape, show_sizes

_MOST_LAYERS = 4
"""Largest number of layers that are named one by one."""


def chain_text(rows: Sequence[Row]) -> str:
    """`conv 3×3 · bn · relu`; the same kind in a row is named once: `conv 1×1 · 3×3 /2 · 1×1`."""
    kinds = [_kind(row) for row in rows]
    again = [before.kind == row.kind and row.settings.get("kernel") for before, row in pairwise(rows)]
    return " · ".join(
        kind.removeprefix(f"{row.kind} ") if same else kind
        for kind, row, same in zip(kinds, rows, [False, *again], strict=False)
    )


def module_text(name: str, rows: Mapping[int, Row]) -> str:
    """`conv 1×1 · 3×3 · 1×1 | skip`, `4 branches, 19 layers`, `3 blocks, 32 layers`; `|` separates branches.

    `rows` are those of the module `name` by their positions; its submodules with several layers are blocks.
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
    """The chains of layers in a module that start from its input; empty if another chain starts inside."""
    chains = [working for chain in _chains(rows) if any(map(_works, working := [rows[place] for place in chain]))]
    if not all(_from_outside(chain[0], rows) for chain in chains):
        return ""
    skips = any(not _from_outside(row, rows) and any(s not in rows for s in row.inputs) for row in rows.values())
    return " | ".join([*(chain_text([row for row in chain if _works(row)]) for chain in chains), *["skip"] * skips])


def _chains(rows: Mapping[int, Row]) -> list[list[int]]:
    """Chains of layers: each layer has the output of the one before as its only input, and no other layer takes it."""
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


MOST_BOXES = 32
"""Largest readable number of boxes; a residual network of 18 layers still shows each of its sums."""
_FOLLOWERS = frozenset(
    (
        *("bn", "gn", "ln", "lrn", "lcn", "relu", "leaky", "prelu", "elu", "sigmoid", "tanh", "swish", "softmax"),
        *("ReLU6", "GELU", "Hardswish", "Hardsigmoid", "Identity", "StochasticDepth"),
        *("dropout", "Dropout2d", "Dropout3d"),
    )
)
"""Kinds that are named in the box of the layer before them."""
_Rows = Mapping[int, Row]


@dataclass(frozen=True)
class Box:
    """One box of the diagram."""

    name: str
    """The module's path."""
    text: str
    """What it is."""
    out_shape: Shape
    """Shape of its output."""
    params: int
    """Number of parameters."""
    macs: int
    """Multiply–accumulates."""
    layers: int
    """Number of layers in it."""
    inputs: tuple[int, ...] = ()
    """Positions of the boxes whose outputs it takes; −1 is the network's input."""
    rows: tuple[int, ...] = ()
    """Positions of its layers among the ledger's rows."""

    @property
    def stage(self) -> str:
        """The first part of its path."""
        return self.name.split(".")[0]


def network_boxes(ledger: Ledger, most: int = MOST_BOXES) -> list[Box]:
    """The boxes of the layers that ran, in the order of execution.

    Normalizations and activations belong to the layer before if they alone take its output; flattening has no box. If
    that leaves more than `most` boxes, layers are grouped by leading parts of their paths; a network without a
    hierarchy keeps a box for each layer.
    """
    rows = _drawn(ledger.rows)
    units = _units(rows)
    deepest = max((rows[unit[0]].name.count(".") + 1 for unit in units), default=1)
    boxes = _boxes(rows, {str(index): [unit] for index, unit in enumerate(units)})
    for depth in range(deepest, 0, -1):
        if len(boxes) <= most:
            break
        groups: dict[str, list[list[int]]] = {}
        for unit in units:
            groups.setdefault(".".join(rows[unit[0]].name.split(".")[:depth]), []).append(unit)
        boxes = _boxes(rows, groups)
    return boxes


def _drawn(rows: Sequence[Row]) -> dict[int, Row]:
    """The rows that are drawn, by their positions; consumers of a row that is not drawn get its inputs instead."""
    drawn: dict[int, Row] = {}
    passed: dict[int, Iterable[int]] = {-1: (-1,)}
    for place, row in enumerate(rows):
        inputs = tuple(sorted({source for taken in row.inputs for source in passed.get(taken, ())}))
        shown = row.executed and row.kind.lower() != "flatten"
        passed[place] = (place,) if shown else inputs
        if shown:
            drawn[place] = replace(row, inputs=inputs)
    return drawn


def _units(rows: _Rows) -> list[list[int]]:
    """Each layer with the normalizations and activations after it."""
    takers = Counter(source for row in rows.values() for source in row.inputs)
    units: list[list[int]] = []
    for place, row in rows.items():
        last = units[-1][-1] if units else -1
        alone = units and row.inputs == (last,) and takers[last] == 1
        if alone and row.kind in _FOLLOWERS and _within(rows[last], row):
            units[-1].append(place)
        else:
            units.append([place])
    return units


def _within(before: Row, row: Row) -> bool:
    """Whether a layer is in the same module as the one before, or in an enclosing one."""
    parent = row.name.rpartition(".")[0]
    return not parent or before.name.startswith(f"{parent}.")


def _boxes(rows: _Rows, groups: Mapping[str, list[list[int]]]) -> list[Box]:
    members = list(groups.values())
    box_of = {place: index for index, units in enumerate(members) for unit in units for place in unit} | {-1: -1}
    following = [*[rows[units[0][0]] for units in members[1:]], None]
    boxes = []
    for index, (name, units, after) in enumerate(zip(groups, members, following, strict=False)):
        places = [place for unit in units for place in unit]
        sources = {box_of[source] for place in places for source in rows[place].inputs}
        boxes.append(_box(name, {place: rows[place] for place in places}, len(units) == 1, after))
        boxes[-1] = replace(boxes[-1], inputs=tuple(sorted(sources - {index})))
    return boxes


def _box(name: str, inside: _Rows, alone: bool, following: Row | None) -> Box:
    rows = list(inside.values())
    return Box(
        rows[0].name if alone else name,
        chain_text(rows) if alone else module_text(name, inside),
        rows[-1].out_shape if alone else module_output(rows, following),
        sum(row.params for row in rows),
        sum(row.macs for row in rows),
        len(rows),
        rows=tuple(inside),
    )
