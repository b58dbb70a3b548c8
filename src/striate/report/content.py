"""Everything that a report says, as plain records; the template only arranges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from striate.records import Finding
from striate.tasks.evaluation import Evaluation
from striate.tasks.figures import Assessment
from striate.visualize.page_parts import Picture, Section, Table


@dataclass(frozen=True)
class ModelFacts:
    """Which network, why this one, and what it costs: trained numbers, and multiply–accumulates an input.

    `macs` is None where they were not counted. `layers` has a row a layer, `diagram` is an SVG of them, and `remarks`
    are what a teacher would say.
    """

    name: str
    reason: str
    params: int
    macs: int | None
    layers: Table
    diagram: str = ""
    remarks: Sequence[Finding] = ()


@dataclass(frozen=True)
class Worth:
    """Is the network worth it? Its figures beside those of its baselines, a sentence on each difference, and how each
    baseline was made."""

    table: Table
    sentences: Sequence[str]
    explanations: Sequence[str]


@dataclass(frozen=True)
class ReportContent:
    """All of a run that its report shows.

    `created`: when, as text. `data`: a sentence each about the data. `metrics`: of each split, under the keys of
    metrics.json. `evaluation`: the test split's, or None where there is none. `history`: a row an epoch, as in
    metrics.csv. `config`: config.yaml as text. `command`: what repeats the run when pasted.
    `target_names` name the numbers of a regression. `worth` is None where no baselines were asked for.
    `signal`: strength of signal and gradient, a row a layer. `assessment`: the record of evaluation.json.
    `answer`: the result in one figure and its sentence; `tables` and `sections` are those of the task.
    """

    title: str
    created: str
    task: str
    data: Sequence[str]
    splits: Table
    model: ModelFacts
    metrics: Mapping[str, Mapping[str, Any]]
    evaluation: Evaluation | None
    history: Sequence[Mapping[str, float | None]]
    config: str
    environment: Mapping[str, object]
    command: str
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    target_names: Sequence[str] = ()
    worth: Worth | None = None
    signal: Table | None = None
    assessment: Assessment | None = None
    answer: tuple[str, str] | None = None
    tables: Mapping[str, Table | None] = field(default_factory=dict)
    sections: Sequence[Section] = ()
