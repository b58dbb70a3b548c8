"""What the report says of a run: gathered from its files and from what training knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from striate.account.ledger import Ledger
from striate.account.remarks.teacher import teacher_remarks
from striate.doctor.own.curves import curve_findings, read_curves
from striate.errors import pasted
from striate.records import Finding
from striate.report.content import ModelFacts, ReportContent
from striate.report.summary import short_layer_table
from striate.runs.directory import RunDirectory
from striate.runs.environment import read_environment
from striate.runs.events import read_notes
from striate.tasks.evaluation import Evaluation
from striate.training.config_file import config_to_yaml
from striate.training.prepare import Prepared
from striate.visualize.network_diagram import network_diagram
from striate.visualize.page_parts import Picture, Table
from striate.wording import show_shape

_DRAWN = 150
"""Of networks with more layers the diagram would be longer than the rest of the page."""


def run_content(
    run: RunDirectory,
    prepared: Prepared,
    evaluations: Mapping[str, Evaluation],
    metrics: Mapping[str, Any],
    pictures: Sequence[Picture],
    ledger: Ledger,
    endings: tuple[str, ...],
) -> ReportContent:
    """Everything but what was measured apart; `endings` say how training ended, where not simply with its budget."""
    data, config = prepared.data, prepared.config
    notes = read_notes(run) + endings
    counts = tuple((name, len(split)) for name, split in data.splits.items())
    return ReportContent(
        title=f"{config.model.name} on {data.name}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        task=prepared.task.name,
        data=(f"{data.name} from {data.source}; each input is {show_shape(data.input_shape)}, {data.medium.a}.",),
        splits=Table("Samples in each split", ("split", "samples"), counts),
        model=_model_facts(config.model.name, notes, metrics, ledger),
        metrics={name: evaluation.metrics for name, evaluation in evaluations.items()},
        evaluation=evaluations["test"],
        history=[row.flat() for row in prepared.state.history],
        config=config_to_yaml(config),
        environment=read_environment(run.environment),
        command=f"striate train --config {pasted(run.config)} --out {pasted(f'{run.path}-again')}",
        findings=(*prepared.findings, *_of_the_end(run, prepared)),
        notes=notes,
        pictures=pictures,
        target_names=data.target_names,
    )


def _model_facts(name: str, notes: Sequence[str], metrics: Mapping[str, Any], ledger: Ledger) -> ModelFacts:
    chosen = f"model {name}: "
    reason = next((n.removeprefix(chosen) for n in notes if n.startswith(chosen)), "as the configuration says")
    return ModelFacts(
        name,
        reason,
        metrics["params"],
        metrics["macs"],
        short_layer_table(ledger),
        # Our own text, in which ElementTree has escaped every name.
        network_diagram(replace(ledger, model=name)) if len(ledger.rows) <= _DRAWN else "",
        teacher_remarks(ledger),
    )


def _of_the_end(run: RunDirectory, prepared: Prepared) -> tuple[Finding, ...]:
    """What the doctor reads from the curves of a training that is over."""
    known = {finding.code for finding in prepared.findings}
    found = curve_findings(read_curves(run, len(prepared.data.classes)))
    return tuple(finding for finding in found if finding.code not in known)
