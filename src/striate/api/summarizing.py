"""What a network costs and sees, alone or beside another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.account.comparison import LedgerComparison, compare_ledgers
from striate.account.field.effective import EffectiveField, measure_field
from striate.account.ledger import Ledger, Shape
from striate.account.summarize import summarize
from striate.errors import ModelError
from striate.models.build import build_model
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
    ledger, field = _account(model, input_shape, outputs, effective)
    if against is None:
        return Summary(ledger, field)
    try:
        other, _ = _account(against, input_shape, outputs, effective)
    except NoInputShape:
        other, _ = _account(against, ledger.input, outputs, effective)
    return Summary(ledger, field, compare_ledgers(ledger, other))


def _account(
    model: str | nn.Module, input_shape: Shape | None, outputs: int | None, effective: bool
) -> tuple[Ledger, EffectiveField | None]:
    ledger = _summarize(model, input_shape, outputs)
    if not effective:
        return ledger, None
    field = measure_field(model, ledger.input, outputs)
    return replace(ledger, effective_receptive_field=field.size), field


class NoInputShape(ModelError):
    """A network that has no shape of its own, where none was given."""


def _summarize(model: str | nn.Module, input_shape: Shape | None, outputs: int | None) -> Ledger:
    try:
        return summarize(model, input_shape, outputs=outputs)
    except ModelError as error:
        if input_shape is not None or error.got != "no input shape":
            raise
        missing = NoInputShape(error.where, error.got, error.expected, error.remedy)
    if isinstance(model, str):
        # A name that means nothing needs no shape but another name: building says so.
        try:
            with torch.device("meta"):
                build_model(model)
        except ModelError as error:
            if error.got != "no input shape":
                raise
    raise missing


def write_summary(summary: Summary, *, html: Path | None = None, svg: Path | None = None) -> None:
    """Write the page and the diagram, each at once. Raises RunError where a file cannot be written."""
    # Templates and drawing load only where they are needed.
    if html is not None:
        from striate.report.summary import summary_page

        write_text(html, summary_page(summary.ledger, summary.field, summary.comparison))
    if svg is not None:
        from striate.visualize.network_diagram import network_diagram

        write_text(svg, network_diagram(summary.ledger, summary.field))
