"""Which boxes a diagram of a network has: layers with what follows them, and modules where there are too many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from striate.account.ledger import Ledger, Row, Shape
from striate.account.table import module_output
from striate.wording import several, show_shape, show_sizes

MOST_BOXES = 28
"""More are not taken in at a glance."""
_FOLLOWERS = frozenset(
    (
        *("bn", "gn", "ln", "lrn", "lcn", "relu", "leaky", "prelu", "elu", "sigmoid", "tanh", "swish", "softmax"),
        *("ReLU6", "GELU", "Hardswish", "Hardsigmoid", "Identity", "StochasticDepth"),
        *("dropout", "Dropout2d", "Dropout3d"),
    )
)
"""Kinds that are named in the box of the layer before them."""


@dataclass(frozen=True)
class Box:
    """One box: its module's path, what it is, its output, its costs, how many layers are in it."""

    name: str
    text: str
    out_shape: Shape
    params: int
    macs: int
    layers: int

    @property
    def stage(self) -> str:
        """The first part of its path."""
        return self.name.split(".")[0]


def network_boxes(ledger: Ledger, most: int = MOST_BOXES) -> list[Box]:
    """The boxes of the layers that ran, in the order of execution.

    Normalizations and activations belong to the layer before; flattening has no box. Where that leaves more than
    `most`, layers are put together by as much of their path as needed; a network without a hierarchy keeps a box a
    layer.
    """
    units = _units([row for row in ledger.rows if row.executed and row.kind.lower() != "flatten"])
    deepest = max((unit[0].name.count(".") + 1 for unit in units), default=1)
    boxes = _boxes({str(index): [unit] for index, unit in enumerate(units)})
    for depth in range(deepest, 0, -1):
        if len(boxes) <= most:
            break
        groups: dict[str, list[list[Row]]] = {}
        for unit in units:
            groups.setdefault(".".join(unit[0].name.split(".")[:depth]), []).append(unit)
        boxes = _boxes(groups)
    return boxes


def _units(rows: Sequence[Row]) -> list[list[Row]]:
    """Each layer with the normalizations and activations behind it."""
    units: list[list[Row]] = []
    for row in rows:
        if units and row.kind in _FOLLOWERS and _continues(units[-1][-1], row):
            units[-1].append(row)
        else:
            units.append([row])
    return units


def _continues(before: Row, row: Row) -> bool:
    """Whether a layer takes up what the one before gave, in the same module or one around it."""
    parent = row.name.rpartition(".")[0]
    return row.in_shape == before.out_shape and (not parent or before.name.startswith(f"{parent}."))


def _boxes(groups: dict[str, list[list[Row]]]) -> list[Box]:
    following = [*[members[0][0] for members in groups.values()][1:], None]
    return [_box(name, members, after) for (name, members), after in zip(groups.items(), following, strict=False)]


def _box(name: str, units: Sequence[Sequence[Row]], following: Row | None) -> Box:
    rows = [row for unit in units for row in unit]
    alone = len(units) == 1
    return Box(
        rows[0].name if alone else name,
        _chain(rows) if alone else _inside(name, rows),
        rows[-1].out_shape if alone else module_output(rows, following),
        sum(row.params for row in rows),
        sum(row.macs for row in rows),
        len(rows),
    )


def _chain(rows: Sequence[Row]) -> str:
    """`conv 3×3 · bn · relu`; a kind that comes again at once is not repeated: `conv 1×1 · 3×3 /2 · 1×1`."""
    kinds = [_kind(row) for row in rows]
    again = [before.kind == row.kind and row.settings.get("kernel") for before, row in pairwise(rows)]
    return " · ".join(
        kind.removeprefix(f"{row.kind} ") if same else kind
        for kind, row, same in zip(kinds, rows, [False, *again], strict=False)
    )


def _kind(row: Row) -> str:
    """`conv 3×3 /2`: the kind with its window, and its stride where it has one."""
    kernel, stride = row.settings.get("kernel"), row.settings.get("stride")
    if not kernel:
        return row.kind
    step = f" /{show_sizes(stride)}" if stride and max(stride) > 1 else ""
    return f"{row.kind} {show_shape(kernel)}{step}"


def _inside(name: str, rows: Sequence[Row]) -> str:
    """`3 blocks, 32 layers`: modules one level further down that hold several layers are blocks."""
    depth = name.count(".") + 2
    parts: dict[str, int] = {}
    for row in rows:
        path = row.name.split(".")
        if len(path) > depth:
            parts[".".join(path[:depth])] = parts.get(".".join(path[:depth]), 0) + 1
    blocks = f"{several(len(parts), 'block')}, " if len(parts) > 1 else ""
    if not blocks and len(working := [row for row in rows if row.macs or row.settings.get("kernel")]) <= 4:
        return _chain(working) or several(len(rows), "layer")
    return f"{blocks}{several(len(rows), 'layer')}"
