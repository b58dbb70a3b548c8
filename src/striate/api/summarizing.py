"""What a network costs and sees, alone or beside another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from striate.account.comparison import LedgerComparison, compare_ledgers
from striate.account.field.effective import EffectiveField
from striate.account.ledger import Ledger, Shape
from striate.account.summarize import summarize, summarize_and_measure
from striate.errors import NoInputShape
from striate.runs.files import write_text


@dataclass(frozen=True)
class Summary:
    """A ledger, with the measured field and the comparison where they were asked for."""

    ledger: Ledger
    field: EffectiveField | None = None
    comparison: LedgerComparison | None = None

    def to_json(self) -> dict[str, Any]:
        """The ledger's object; with a comparison also `against`, `ratios` and `layers`."""
        return (self.comparison or self.ledger).to_json()


def summary(
    model: str | nn.Module,
    input_shape: Shape | None = None,
    *,
    outputs: int | None = None,
    against: str | nn.Module | None = None,
    effective: bool = False,
) -> Summary:
    """The account of `model`, and of `against`.

    Without a shape each has its own; a second network that has none takes that of the first.
    `effective`: their effective receptive fields are measured too; that takes some passes with real weights.
    Raises StriateError.
    """
    ledger, field = summarize_and_measure(model, input_shape, outputs=outputs, effective=effective)
    if against is None:
        return Summary(ledger, field)
    try:
        other = summarize(against, input_shape, outputs=outputs, effective=effective)
    except NoInputShape:
        other = summarize(against, ledger.input, outputs=outputs, effective=effective)
    return Summary(ledger, field, compare_ledgers(ledger, other))


def write_summary(summary: Summary, *, html: Path | None = None, svg: Path | None = None) -> None:
    """Write the page and the diagram, each at once. Raises RunError where a file cannot be written."""
    # Templates and drawing load only where they are needed.
    if html is not None:
        from striate.report.summary import summary_page

        write_text(html, summary_page(summary.ledger, summary.field, summary.comparison))
    if svg is not None:
        from striate.visualize.network_diagram import network_diagram

        write_text(svg, network_diagram(summary.ledger, summary.field))
