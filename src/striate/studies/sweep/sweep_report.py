"""The one-page report of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from striate.errors import pasted
from striate.report.page import as_base64, page_environment
from striate.runs.environment import read_environment
from striate.runs.files import write_text
from striate.runs.plain_files import read_text
from striate.studies.sweep.journal import Journal, Trial
from striate.studies.sweep.search import Search, short
from striate.studies.sweep.space import Choices
from striate.studies.sweep.space import Dimension as SpaceDimension
from striate.studies.sweep.standing import Finalist, comparison, mean_and_deviation, selection_note
from striate.tasks.registry import metric_named, metric_text
from striate.visualize.page_parts import Picture, Table
from striate.visualize.sweep_figures import Dimension, Point, importance_figure, progress_figure, slices_figure
from striate.visualize.themed_svg import saved_picture
from striate.wording import several

RUNGS = ("a ninth of the epochs", "a third", "all epochs")
_OUTSIDE = "Triangles at the edge: worse than the axis shows."


def write_sweep_report(
    path: Path, journal: Journal, search: Search, metrics: dict[str, Any], standing: Sequence[Finalist]
) -> None:
    """Draw `plots/` and write report.html into the sweep's directory. Raises RunError."""
    environment = page_environment("striate.studies")
    study, winner = metrics["study"], standing[0].trial
    name = study["metric"]
    text = environment.get_template("sweep.html").render(
        title=f"Sweep on {study['data']}: {study['trials']} trials",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        result=f"{metric_named(name).name} {metric_text(name, metrics['test'][name])}",
        selection_note=selection_note(metrics),
        comparison=comparison(metrics, standing),
        choice=_choice(winner, metrics),
        finalists=_finalists(standing, metrics),
        pictures=_pictures(path / "plots", journal, search, study),
        image=as_base64,
        cost=_cost(study),
        halving="A trial continues if it is among the best third of the trials at the same number of epochs.",
        space=Table(
            "Search space", ("field", "values", "best"),
            tuple((d.field, d.text, short(winner.fields[d.field])) for d in search.space),
        ),
        trials=_trials(journal.trials(), study),
        environment=read_environment(path / "env.json"),
        config=read_text(path / "best.yaml"),
        command=f"striate train --config {pasted(path / 'best.yaml')}",
    )  # fmt: skip
    write_text(path / "report.html", text)


def _choice(winner: Trial, metrics: dict[str, Any]) -> str:
    fields = ", ".join(f"{name} {short(value)}" for name, value in winner.fields.items())
    name, seeds = metrics["study"]["metric"], len(metrics["study"]["seeds"])
    again = (
        f", mean ± standard deviation of {several(seeds, 'other seed')}"
        if metrics["val"][name]["std"] is not None
        else ""
    )
    value = f"{metric_named(name).name} {mean_and_deviation(metrics['val'], name)}"
    return f"Trial {winner.number}: {fields}. Validation {value}{again}."


def _finalists(standing: Sequence[Finalist], metrics: dict[str, Any]) -> Table:
    name, fields = metrics["study"]["metric"], list(metrics["study"]["over"])
    rows = []
    for finalist in standing:
        trial = finalist.trial
        label = f"{trial.number}{', the recipe' if trial.recipe else ''}"
        again = mean_and_deviation(finalist.val(), name) if finalist.repeated else "–"
        searched = metric_text(name, trial.rungs[-1].val[name])
        rows.append((label, *(short(trial.fields[f]) for f in fields), searched, again))
    columns = (
        "trial",
        *fields,
        f"val {metric_named(name).name} in the search",
        f"with {several(len(metrics['study']['seeds']), 'other seed')}",
    )
    return Table("Finalists, best first; ±: standard deviation over seeds", columns, tuple(rows))


def _trials(trials: Sequence[Trial], study: dict[str, Any]) -> Table:
    name, fields = study["metric"], list(study["over"])
    rows = []
    for trial in trials:
        last = trial.rungs[-1] if trial.rungs else None
        score = None if last is None or last.score is None else metric_text(name, last.val[name])
        seconds = round(sum(o.seconds for o in trial.rungs), 1)
        epochs = None if last is None else f"{last.epochs} of {trial.epochs}"
        label = f"{trial.number}{', the recipe' if trial.recipe else ''}"
        values = (short(trial.fields[f]) for f in fields)
        rows.append((label, *values, trial.state + (f": {trial.why}" if trial.why else ""), epochs, score, seconds))
    columns = ("trial", *fields, "state", "epochs", f"val {metric_named(name).name}", "seconds")
    return Table("Every trial; the metric is that of its longest training", columns, tuple(rows))


def _pictures(folder: Path, journal: Journal, search: Search, study: dict[str, Any]) -> list[Picture]:
    name, shown = search.headline, metric_named(search.headline).name
    scored = [
        (t, tuple(o.val[name] for o in t.rungs if o.score is not None))
        for t in journal.trials()
        if t.state != "refused"
    ]
    points = [Point(t.number, values, t.drawn) for t, values in scored if values]
    title, lower = f"{study['data']}, validation split, n = {study['n_val']:,}", not study["higher_is_better"]
    dimensions = [_drawn(d) for d in search.space]
    figure = progress_figure(points, RUNGS, metric=shown, title=title, lower=lower)
    caption = f"{title}. Every training; a trial that continues has a mark for each budget. {_OUTSIDE}"
    pictures = [saved_picture("Trials", caption, figure, folder / "trials.png")]
    figure = slices_figure(points, dimensions, RUNGS, metric=shown, title=title, lower=lower)
    caption = f"{title}. The same trainings against each field; compare marks of one color only. {_OUTSIDE}"
    pictures.append(saved_picture("Fields", caption, figure, folder / "fields.png", "samples"))
    shares = journal.importances(0) if len(search.space) > 1 else {}
    if shares:
        figure = importance_figure(shares, title="What explains the scores")
        caption = (
            f"{title}. Share of the variance of scores after {RUNGS[0]} that each field explains by itself and in its"
            " interactions (fANOVA), over all trials. It shows which fields matter, not which values are best."
        )
        pictures.append(saved_picture("Importance", caption, figure, folder / "importance.png"))
    return pictures


def _drawn(searched: SpaceDimension) -> Dimension:
    if isinstance(searched, Choices):
        return Dimension(searched.field, choices=searched.options)
    return Dimension(searched.field, searched.low, searched.high, searched.log, searched.integer)


def _cost(study: dict[str, Any]) -> str:
    return (
        f"The search trained {several(study['epochs_trained'], 'epoch')} in {study['search_seconds']:,.0f} seconds; "
        f"without pruning: {several(study['epochs_without_pruning'], 'epoch')}, about"
        f" {study['search_seconds_without_pruning']:,.0f} seconds."
    )
