"""A ledger in a notebook."""

from __future__ import annotations

from striate import notebook
from striate.account.ledger import Ledger
from striate.account.table import totals
from striate.wording import show_shape, show_sizes


def notebook_ledger(ledger: Ledger) -> str:
    """Totals, a row a layer, and the remarks as HTML."""
    facts = (tuple(part.strip() for part in line.strip().partition("  ")[::2]) for line in totals(ledger, 10_000))
    rows = (
        (
            *(row.name, row.kind if row.executed else f"{row.kind}, not run", show_shape(row.out_shape)),
            *(row.params, row.macs, show_sizes(row.receptive_field)),
        )
        for row in ledger.rows
    )
    return notebook.page(
        f"{ledger.model} on {show_shape(ledger.input)}",
        notebook.items(f"{name}: {said}" for name, said in facts),
        notebook.table(("layer", "kind", "output", "parameters", "MACs", "receptive field"), rows),
        *(remark._repr_html_() for remark in ledger.remarks),
    )
