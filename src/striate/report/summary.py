"""The model summary as one HTML page."""

from __future__ import annotations

from striate.account.comparison import LedgerComparison, show_ratio
from striate.account.field.effective import EffectiveField
from striate.account.ledger import SHORT_COLUMNS, Ledger, Row, short_rows, totals
from striate.report.page import page_environment
from striate.visualize.network_diagram import network_diagram
from striate.visualize.page_parts import Table
from striate.wording import percent_of, show_shape, show_sizes

# The most important columns come first: most screens need to scroll to the rest.
_COLUMNS = (
    *("layer", "kind", "input", "output", "parameters", "MACs", "receptive field", "jump", "left over"),
    *("first center", "trainable", "% of parameters", "% of MACs", "other operations", "weights, bytes"),
    *("output, bytes", "saved for backward, bytes", "FLOPs a byte"),
)


def summary_page(
    ledger: Ledger, field: EffectiveField | None = None, comparison: LedgerComparison | None = None
) -> str:
    """The page as HTML text without external files: totals, remarks, diagram, every layer with all columns.

    `field` is drawn with the diagram; `comparison` compares the network with another one.
    """
    page = page_environment().get_template("summary.html")
    return page.render(
        ledger=ledger,
        facts=[_fact(line) for line in totals(ledger, width=10_000)],
        # Our own text, in which ElementTree has escaped every name.
        diagram=network_diagram(ledger, field),
        layers=layer_table(ledger),
        totals=_totals(comparison) if comparison else None,
        pairs=_pairs(comparison) if comparison else None,
        against=comparison.second.model if comparison else None,
        size=show_shape(ledger.input),
    )


def layer_table(ledger: Ledger) -> Table:
    """A row for each layer with all of its entries in the ledger, and a last row with the sums."""
    sums: tuple[str | int | float | None, ...] = (
        *("total", "", show_shape(ledger.input), show_shape(ledger.output), ledger.params, ledger.macs),
        *("", "", "", "", ledger.trainable, "", "", sum(ledger.other_ops.values())),
        *(sum(row.weight_bytes for row in ledger.rows), ledger.activation_bytes, ledger.training_bytes, ""),
    )
    rows = tuple(_cells(row, ledger) for row in ledger.rows)
    return Table("Layers in the order of execution; sizes of one sample", _COLUMNS, (*rows, sums))


def short_layer_table(ledger: Ledger) -> Table:
    """A row for each layer: kind, output, parameters, multiply–accumulates and receptive field."""
    return Table("Layers in the order of execution", SHORT_COLUMNS, tuple(short_rows(ledger)))


def _cells(row: Row, ledger: Ledger) -> tuple[str | int | float | None, ...]:
    return (
        *(row.name, row.kind if row.executed else f"{row.kind}, not run"),
        *(show_shape(row.in_shape), show_shape(row.out_shape)),
        *(row.params, row.macs, show_sizes(row.receptive_field), show_sizes(row.jump), show_sizes(row.leftover)),
        *(show_sizes(row.center), row.trainable),
        *(percent_of(row.params, ledger.params), percent_of(row.macs, ledger.macs), row.other_ops),
        *(row.weight_bytes, row.output_bytes, row.saved_bytes, float(f"{row.intensity:.3g}")),
    )


def _fact(line: str) -> tuple[str, str]:
    """A line of totals as its name and its text."""
    name, _, text = line.partition("  ")
    return name.strip(), text.strip()


def _totals(comparison: LedgerComparison) -> Table:
    rows = tuple((t.name, *t.shown, show_ratio(t.first, t.second)) for t in comparison.totals)
    columns = ("total", comparison.first.model, comparison.second.model, "ratio")
    return Table(f"{comparison.first.model} and {comparison.second.model}", columns, rows)


def _pairs(comparison: LedgerComparison) -> Table:
    columns = ("layer", "its counterpart", "parameters", "its parameters", "MACs", "its MACs")
    rows = []
    for pair in comparison.pairs:
        a, b = pair.first, pair.second
        if any(row and (row.params or row.macs) for row in (a, b)):
            rows.append(
                (
                    *(a.name if a else "–", b.name if b else "–"),
                    *(a.params if a else None, b.params if b else None, a.macs if a else None, b.macs if b else None),
                )
            )
    return Table("Layers with parameters or products", columns, tuple(rows))
