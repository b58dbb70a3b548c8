"""Everything that a report says, as plain records; the template only arranges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from striate.evaluation.record import Evaluation
from striate.records import Finding

PictureKind = Literal["curves", "confusion", "scatter", "samples", "baselines", "signal"]


@dataclass(frozen=True)
class Picture:
    """A PNG with its title and caption; `kind` decides its section and which numbers go with it."""

    title: str
    caption: str
    path: Path
    kind: PictureKind


@dataclass(frozen=True)
class Table:
    """A table of texts and numbers; each row has a cell for each of `columns`, the first names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True)
class ModelFacts:
    """Which network, why this one, and what it costs: trained numbers, and multiply–accumulates an input.

    `macs` is None where they were not counted. `layers` has a row a layer.
    """

    name: str
    reason: str
    params: int
    macs: int | None
    layers: Table


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
    `signal`: strength of signal and gradient, a row a layer.
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
