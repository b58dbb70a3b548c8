"""Everything that a report says, as plain records; the template only arranges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from striate.evaluation.assessment.record import Assessment
from striate.evaluation.record import Evaluation
from striate.records import Finding

PictureKind = Literal["curves", "confusion", "scatter", "samples", "baselines", "signal", "filters"]


@dataclass(frozen=True)
class SampleTile:
    """One sample of a gallery: its image as a PNG in base64, shown at `width` × `height`, `enlarged` from fewer pixels;
    its `name`, and in words what was answered, what is true, and where it matters the next probable answer."""

    png: str
    width: int
    height: int
    enlarged: bool
    name: str
    answer: str
    truth: str
    right: bool
    next: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG with its title and caption; `kind` decides its section and which numbers go with it.

    A page shows instead of the PNG: `panels`, the same as SVG in the page's colors, or `tiles`, the samples one by one.
    """

    title: str
    caption: str
    path: Path
    kind: PictureKind
    panels: tuple[str, ...] = ()
    tiles: tuple[SampleTile, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of texts and numbers; each row has a cell for each of `columns`, the first names the row. `shades`: how
    dark each cell of a matrix is, from 0 to 10, without the names of the rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    shades: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading of its own: sentences, tables, charts (SVG) with their caption, and the tables
    `behind` them."""

    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[str, ...] = ()
    caption: str = ""
    behind: tuple[Table, ...] = ()


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
