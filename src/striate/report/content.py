"""The content of a report as plain records, gathered from the files of a run and from its training; the template only
arranges it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from striate.account.ledger import Ledger
from striate.account.remarks.parts import teacher_remarks
from striate.doctor.in_options import in_options
from striate.doctor.run_curves import TOO_SHORT, curve_findings, ended_early, read_curves
from striate.errors import pasted
from striate.records import Finding, Remedy
from striate.report.summary import short_layer_table
from striate.runs.directory import RunDirectory
from striate.runs.environment import read_environment
from striate.runs.events import read_notes
from striate.tasks.assessment import Assessment
from striate.tasks.evaluation import Evaluation
from striate.tasks.task import TRAIN_LONGER
from striate.training.code_fields import how_to_repeat, how_to_train_longer
from striate.training.config import BudgetConfig, Config
from striate.training.config_file import config_to_yaml
from striate.training.prepare import Prepared
from striate.visualize.network_diagram import network_diagram
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import duration, several, short_number

_LONGER = 5
"""Factor on epochs or minutes in the advice to train for longer."""


@dataclass(frozen=True)
class ModelFacts:
    """Which network, why this one, and what it costs."""

    name: str
    """The network by name."""
    reason: str
    """Why this network."""
    params: int
    """Number of trained parameters."""
    macs: int | None
    """Multiply–accumulates an input; None where they were not counted."""
    layers: Table
    """A row a layer."""
    diagram: str = ""
    """An SVG of the layers."""
    remarks: Sequence[Finding] = ()
    """Remarks on the design of the network."""


@dataclass(frozen=True)
class BaselineContent:
    """The comparison of the network with its baselines."""

    table: Table
    """The metrics of the network and of its baselines."""
    sentences: Sequence[str]
    """The difference from each baseline."""
    explanations: Sequence[str]
    """How each baseline was fitted."""
    strongest: str
    """The difference from the best baseline."""


@dataclass(frozen=True)
class ReportContent:
    """All of a run that its report shows."""

    title: str
    """Title of the page."""
    created: str
    """When, as text."""
    task: str
    """The task by name."""
    data: Sequence[str]
    """What there is to say about the data, a sentence each."""
    splits: Table
    """The number of samples of each split."""
    model: ModelFacts
    """The network."""
    metrics: Mapping[str, Mapping[str, Any]]
    """Of each split, under the keys of metrics.json."""
    evaluation: Evaluation | None
    """The test split's; None where there is none."""
    history: Sequence[Mapping[str, float | None]]
    """A row an epoch, as in metrics.csv."""
    config: str
    """config.yaml as text."""
    environment: Mapping[str, object]
    """env.json."""
    command: str
    """Repeats the run when pasted."""
    findings: Sequence[Finding] = ()
    """Of data, training and predictions."""
    notes: Sequence[str] = ()
    """What was decided, a sentence each."""
    pictures: Sequence[Picture] = ()
    """The plots."""
    baselines: BaselineContent | None = None
    """None where no baselines were requested."""
    offers: Sequence[str] = ()
    """What helps without training again, a sentence each."""
    signal: Table | None = None
    """Strength of signal and gradient, a row a layer; None where it was not measured."""
    assessment: Assessment | None = None
    """The record of evaluation.json; None where there is none."""
    answer: tuple[str, str] | None = None
    """The result in one metric, and its sentence; None where there is none."""
    tables: Mapping[str, Table | None] = field(default_factory=dict)
    """Those of the task."""
    sections: Sequence[Section] = ()
    """Those of the task."""


_DRAWN = 150
"""Largest number of layers for a diagram, which would otherwise be longer than the rest of the page."""


def run_content(
    run: RunDirectory,
    prepared: Prepared,
    evaluations: Mapping[str, Evaluation],
    metrics: Mapping[str, Any],
    pictures: Sequence[Picture],
    ledger: Ledger,
    endings: tuple[str, ...],
    noticed: tuple[Finding, ...],
) -> ReportContent:
    """The content without separate measurements; `endings` say how training ended if not with its budget, and `noticed`
    are `end_findings`."""
    data, config = prepared.data, prepared.config
    notes = read_notes(run) + endings
    counts = tuple((name, len(split)) for name, split in data.splits.items())
    named = data.name if data.name == data.source else f"{data.name} from {data.source}"
    return ReportContent(
        title=data.name,
        created=f"{_training(prepared, metrics)}. {datetime.now(UTC):%Y-%m-%d %H:%M UTC}",
        task=prepared.task.name,
        data=(f"{named}: {data.inputs_in_words}.",),
        splits=Table("Samples in each split", ("split", "samples"), counts),
        model=_model_facts(config.model.name, notes, metrics, ledger),
        metrics={name: metrics[name] for name in evaluations},
        evaluation=evaluations.get("test"),
        history=[row.flat() for row in prepared.state.history],
        config=config_to_yaml(config),
        environment=read_environment(run.environment),
        command=how_to_repeat(run, config),
        findings=(*prepared.findings, *noticed),
        notes=notes,
        pictures=pictures,
    )


def _training(prepared: Prepared, metrics: Mapping[str, Any]) -> str:
    """The network, the epochs and samples, and the time of training, in words."""
    passes, samples = metrics["epochs"], len(prepared.data.splits["train"])
    made = f"{short_number(passes)} {'epoch' if passes == 1 else 'epochs'} of {several(samples, 'training sample')}"
    seconds = metrics["train_seconds"]
    return f"{prepared.config.model.name}, {made} in {duration(seconds) if seconds >= 1 else 'less than a second'}"


def _model_facts(name: str, notes: Sequence[str], metrics: Mapping[str, Any], ledger: Ledger) -> ModelFacts:
    chosen = f"model {name}: "
    reason = next((n.removeprefix(chosen) for n in notes if n.startswith(chosen)), "chosen in the configuration")
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


def end_findings(
    run: RunDirectory, prepared: Prepared, val: Evaluation, test: Evaluation, passes: float
) -> tuple[Finding, ...]:
    """The findings of the curves of a finished training, after `passes` epochs, and of its predictions."""
    known = {finding.code for finding in prepared.findings}
    of_validation = prepared.task.validation_findings(val.decoded, val.targets, str(run.path))
    of_predictions = (*prepared.task.prediction_findings(test), *of_validation)
    curves = read_curves(run, prepared.task.guessed_classes, passes)
    found = *of_predictions, *curve_findings(curves)
    new = [in_options(finding, prepared.config) for finding in found if finding.code not in known]
    if any(finding.code == TOO_SHORT for finding in new):
        return tuple(new)  # this finding has the command of a longer training: another one would have other epochs
    return tuple(_with_command(finding, run, prepared.config, passes, early=ended_early(curves)) for finding in new)


def _longer_budget(budget: BudgetConfig, passes: float) -> str:
    return (
        f"--epochs {math.ceil(_LONGER * passes)}"
        if budget.minutes is None
        else f"--minutes {_LONGER * budget.minutes:g}"
    )


def _with_command(finding: Finding, run: RunDirectory, config: Config, passes: float, *, early: bool) -> Finding:
    """The finding with the command of a longer training, if that is its advice and the data and the network have names.
    A training that ended `early` did not use up its budget, so the command leaves out what ended it."""
    remedy = finding.remedy
    if not isinstance(remedy, Remedy) or remedy.advice != TRAIN_LONGER or remedy.command:
        return finding
    budget, text = _longer_budget(config.budget, passes), str(remedy)
    ends = {"patience": "0"} if early and config.budget.patience else {}
    ends |= {"target": "null"} if early and config.budget.target is not None else {}
    if ends:
        budget = " ".join(f"--{name} {off}" for name, off in ends.items())
        text = f"{remedy}, without the {' and the '.join(ends)} that ended this training"
    command = how_to_train_longer(run, config, budget)
    text = f"{text}." if command is None else f"{text}: {command}"
    if ends and command is not None and config.optim.name != "local-rule":
        text += (
            f"; or use another learning rate than {config.optim.lr:g}: striate lr-find --config {pasted(run.config)}"
        )
    return replace(finding, remedy=Remedy(text, settings=remedy.settings, advice=remedy.advice))
