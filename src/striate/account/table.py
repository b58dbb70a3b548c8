"""The account of a network as a table for the terminal; free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap

from striate.account.ledger import Ledger, Row, Shape
from striate.errors import one_line
from striate.wording import (
    percent_of,
    scaled,
    several,
    shorten_middle,
    shorten_path,
    show_shape,
    show_sizes,
    size_in_bytes,
)

WIDTH = 80
_NAME, _KIND = 14, 9
"""So many letters at least of a layer's name, and of its kind, where the table is too wide."""
_SIDES = ("left", "left", "left", "right", "right", "right", "right", "right")
_GAPS = (2, 2, 2, 1, 2, 1, 2)  # a share stands close to its count


@dataclass(frozen=True)
class Line:
    """One line of the table: a layer, or a module with all layers in it."""

    name: str
    kind: str
    out_shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: tuple[int, ...]
    executed: bool = True


def ledger_table(ledger: Ledger, width: int = WIDTH, *, depth: int | None = None, remarks: bool = True) -> str:
    """The ledger as text of at most `width` columns: a line a layer, totals, and what a teacher would say.

    `depth`: layers are summed up by the first so many parts of their path (1: `layer1`, `layer2`, …).
    """
    heads = ("layer", "kind", "output", "parameters", "%", "MACs", "%", "field")
    cells = [_cells(line, ledger) for line in group_rows(ledger.rows, depth)]
    total = ("total", "", "", f"{ledger.params:,}", "", scaled(ledger.macs), "", "")
    table = laid_out(_with_short_kinds([heads, *cells, total], width), _SIDES, width, _GAPS)
    *above, last = table.split("\n")
    parts = [*above, above[1], last, "", *totals(ledger, width)]
    if remarks and ledger.remarks:
        parts += ["", *_remarks(ledger, width)]
    return "\n".join(parts)


def group_rows(rows: Sequence[Row], depth: int | None) -> list[Line]:
    """The rows as lines, those that agree in the first `depth` parts of their path as one; None: each by itself.

    A module's line has its output, and the largest receptive field in it.
    """
    groups: dict[str, list[Row]] = {}
    for index, row in enumerate(rows):
        key = f"{index}" if depth is None else ".".join(row.name.split(".")[:depth])
        groups.setdefault(key, []).append(row)
    firsts = [next((row for row in members if row.executed), None) for members in groups.values()]
    lines = []
    for (key, members), following in zip(groups.items(), [*firsts[1:], None], strict=False):
        ran = [row for row in members if row.executed] or members
        alone = len(members) == 1
        lines.append(
            Line(
                members[0].name if alone or depth is None else key,
                ran[-1].kind if alone else several(len(members), "layer"),
                module_output(ran, following),
                sum(row.params for row in members),
                sum(row.macs for row in members),
                _widest(ran),
                any(row.executed for row in members),
            )
        )
    return lines


def module_output(rows: Sequence[Row], following: Row | None) -> Shape:
    """The shape that a module with these layers gives: that of its last layer, or, where branches meet in it, that of
    the input of the layer that runs after it."""
    last = rows[-1].out_shape
    branches = any(before.out_shape != after.in_shape for before, after in pairwise(rows))
    return following.in_shape if branches and following and following.in_shape[1:] == last[1:] else last


def _widest(rows: Sequence[Row]) -> Shape:
    """The receptive field of the last layer, or of a branch that sees more."""
    fields = [row.receptive_field for row in rows if len(row.receptive_field) == len(rows[-1].receptive_field)]
    return tuple(max(sides) for sides in zip(*fields, strict=True))


def totals(ledger: Ledger, width: int = WIDTH) -> list[str]:
    """The totals with their units in words, a line each, wrapped."""
    field, jump = show_shape(ledger.receptive_field), show_sizes(ledger.jump)
    optimizers = ", ".join(f"{name} {size_in_bytes(count)}" for name, count in ledger.optimizer_bytes.items())
    facts = [
        ("network", f"{ledger.model}: {show_shape(ledger.input)} → {show_shape(ledger.output)}"),
        ("parameters", f"{ledger.params:,}, of these trainable {ledger.trainable:,}"),
        ("MACs", f"{ledger.macs:,} multiply–accumulates of convolutions and matrix products, biases excluded"),
        ("FLOPs", f"{ledger.flops:,} = 2 × MACs; besides, {scaled(sum(ledger.other_ops.values()))} other operations"),
        ("weights", f"{size_in_bytes(ledger.weight_bytes)}; in training, with gradients and optimizer: {optimizers}"),
        (
            "one sample",
            f"all outputs {size_in_bytes(ledger.activation_bytes)}; training keeps "
            f"{size_in_bytes(ledger.training_bytes)}; inference, at one time, {size_in_bytes(ledger.inference_bytes)}",
        ),
        (
            "field",
            f"a unit of the last map sees {field} of the input; neighbors are {jump} apart" if any(ledger.jump) else "",
        ),
        ("effective", _effective(ledger)),
        ("uncounted", "; ".join(ledger.uncounted) or "nothing"),
    ]
    return [line for name, text in facts if text for line in _hanging(name, text, 12, width)]


def _effective(ledger: Ledger) -> str:
    if ledger.effective_receptive_field is None:
        return ""
    size = show_shape([round(side) for side in ledger.effective_receptive_field])
    return f"{size} of these hold 95.45 % of the unit's gradient, as measured"


def _cells(line: Line, ledger: Ledger) -> tuple[str, ...]:
    return (
        line.name,
        line.kind if line.executed else "not run",
        show_shape(line.out_shape),
        f"{line.params:,}",
        percent_of(line.params, ledger.params),
        scaled(line.macs) if line.macs else "–",
        percent_of(line.macs, ledger.macs),
        show_sizes(line.receptive_field),
    )


def _with_short_kinds(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The rows with kinds shortened as far as the names, which tell more, need the room."""
    wide = [max(len(row[column]) for row in rows) for column in range(len(_SIDES))]
    room = max(_KIND, width - sum(_GAPS) - sum(wide) + wide[1])
    return [[row[0], shorten_middle(row[1], room), *row[2:]] for row in rows]


def laid_out(
    rows: Sequence[Sequence[str]], sides: Sequence[str], width: int = WIDTH, gaps: Sequence[int] | None = None
) -> str:
    """Rows of cells as columns with a rule under the first row; `sides` are `left` or `right`, one a column.

    The first column gives way where all is wider than `width`: its cells, paths of modules, are shortened.
    """
    gaps = gaps or (2,) * (len(sides) - 1)
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    widths[0] = min(widths[0], max(_NAME, width - sum(widths[1:]) - sum(gaps)))
    lines = []
    for row in rows:
        cells = [shorten_path(row[0], widths[0]), *row[1:]]
        placed = [c.ljust(w) if side == "left" else c.rjust(w) for c, w, side in zip(cells, widths, sides, strict=True)]
        lines.append("".join(c + " " * gap for c, gap in zip(placed, (*gaps, 0), strict=True)).rstrip())
    return "\n".join([lines[0], "─" * (sum(widths) + sum(gaps)), *lines[1:]])


def _hanging(name: str, text: str, indent: int, width: int) -> list[str]:
    # A percent sign stays with its number.
    lines = wrap(
        one_line(text).replace(" %", "\u00a0%"),
        width,
        initial_indent=name.ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=True,
        break_on_hyphens=False,
    )
    return [line.replace("\u00a0", " ") for line in lines]


def _remarks(ledger: Ledger, width: int) -> list[str]:
    lines = []
    for remark in ledger.remarks:
        text = f"{remark.where}: {remark.measured}. {remark.why} {remark.remedy}"
        lines += _hanging(remark.severity, text, 9, width)
    return lines
