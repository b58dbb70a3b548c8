"""The account of a network as a table for the terminal; free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from striate.account.ledger import Ledger, Row
from striate.account.wording import (
    percent,
    scaled,
    several,
    shorten_middle,
    show_shape,
    show_sizes,
    size_in_bytes,
)

WIDTH = 80
_NAME, _KIND = 12, 9
"""So many letters at least of a layer's name; so many at most of its kind."""


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
    lines = group_rows(ledger.rows, depth)
    heads = ("layer", "kind", "output", "parameters", "%", "MACs", "%", "field")
    cells = [_cells(line, ledger) for line in lines]
    total = ("total", "", "", f"{ledger.params:,}", "", scaled(ledger.macs), "", "")
    widths = _widths([heads, *cells, total], width)
    ruled = "─" * min(width, sum(widths) + sum(_gaps()))
    parts = [_laid_out(heads, widths), ruled, *(_laid_out(row, widths) for row in cells), ruled]
    parts += [_laid_out(total, widths), "", *totals(ledger, width)]
    if remarks and ledger.remarks:
        parts += ["", *_remarks(ledger, width)]
    return "\n".join(part.rstrip() for part in parts)


def group_rows(rows: Sequence[Row], depth: int | None) -> list[Line]:
    """The rows as lines, those that agree in the first `depth` parts of their path as one; None: each by itself.

    A module's line has the output and receptive field of its layer that ran last.
    """
    groups: dict[str, list[Row]] = {}
    for index, row in enumerate(rows):
        key = f"{index}" if depth is None else ".".join(row.name.split(".")[:depth])
        groups.setdefault(key, []).append(row)
    lines = []
    for key, members in groups.items():
        last = next((row for row in reversed(members) if row.executed), members[-1])
        alone = len(members) == 1
        lines.append(
            Line(
                members[0].name if alone or depth is None else key,
                last.kind if alone else several(len(members), "layer"),
                last.out_shape,
                sum(row.params for row in members),
                sum(row.macs for row in members),
                last.receptive_field,
                any(row.executed for row in members),
            )
        )
    return lines


def totals(ledger: Ledger, width: int = WIDTH) -> list[str]:
    """The totals with their units in words, a line each, wrapped."""
    field = f"{show_sizes(ledger.receptive_field)}, jump {show_sizes(ledger.jump)} at the last map with neighbors"
    optimizers = ", ".join(f"{name} {size_in_bytes(count)}" for name, count in ledger.optimizer_bytes.items())
    facts = [
        ("network", f"{ledger.model}: {show_shape(ledger.input)} → {show_shape(ledger.output)}"),
        ("parameters", f"{ledger.params:,}, of these trainable {ledger.trainable:,}"),
        ("MACs", f"{ledger.macs:,} multiply–accumulates of convolutions and matrix products, biases excluded"),
        ("FLOPs", f"{ledger.flops:,} = 2 × MACs; besides, {scaled(sum(ledger.other_ops.values()))} other operations"),
        ("weights", f"{size_in_bytes(ledger.weight_bytes)}; in training, with gradients and optimizer: {optimizers}"),
        (
            "one sample",
            f"all outputs {size_in_bytes(ledger.activation_bytes)}; kept for training "
            f"{size_in_bytes(ledger.training_bytes)}; at one time in inference {size_in_bytes(ledger.inference_bytes)}",
        ),
        ("field", f"a unit sees {field} (input pixels)" if ledger.receptive_field else ""),
        ("effective", _effective(ledger)),
        ("uncounted", "; ".join(ledger.uncounted) or "nothing"),
    ]
    return [line for name, text in facts if text for line in _hanging(name, text, 12, width)]


def _effective(ledger: Ledger) -> str:
    if ledger.effective_receptive_field is None:
        return ""
    return f"{show_sizes([round(side, 1) for side in ledger.effective_receptive_field])} of these, measured"


def _cells(line: Line, ledger: Ledger) -> tuple[str, ...]:
    return (
        line.name,
        line.kind if line.executed else "not run",
        show_shape(line.out_shape),
        f"{line.params:,}",
        percent(line.params, ledger.params),
        scaled(line.macs) if line.macs else "–",
        percent(line.macs, ledger.macs),
        show_sizes(line.receptive_field),
    )


def _gaps() -> tuple[int, ...]:
    """Blanks after each column; a share stands close to its count."""
    return (2, 2, 2, 1, 2, 1, 2)


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """As wide as their cells; kinds are cut where it matters, and names get what is left."""
    natural = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rest = sum(natural[2:]) + sum(_gaps())
    natural[1] = min(natural[1], max(_KIND, width - rest - natural[0]))
    natural[0] = min(natural[0], max(_NAME, width - rest - natural[1]))
    return natural


def _laid_out(row: Sequence[str], widths: Sequence[int]) -> str:
    parts = []
    for column, (cell, wide) in enumerate(zip(row, widths, strict=True)):
        text = shorten_middle(cell, wide)
        parts.append(text.ljust(wide) if column < 3 else text.rjust(wide))
    return "".join(part + " " * gap for part, gap in zip(parts, (*_gaps(), 0), strict=True))


def _hanging(name: str, text: str, indent: int, width: int) -> list[str]:
    return wrap(
        text,
        width,
        initial_indent=name.ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=True,
        break_on_hyphens=False,
    )


def _remarks(ledger: Ledger, width: int) -> list[str]:
    lines = []
    for remark in ledger.remarks:
        text = f"{remark.where}: {remark.measured}. {remark.why} {remark.remedy}"
        lines += _hanging(remark.severity, text, 9, width)
    return lines
