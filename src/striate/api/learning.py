"""What more labels would bring to a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from striate.api.networks import load
from striate.api.news import Announce
from striate.api.training import Run
from striate.runs.directory import open_run, read_metrics
from striate.runs.files import explained, write_atomic, write_json
from striate.studies.learning_curve.record import LearningCurve
from striate.studies.learning_curve.run import FinishedRun, measure_learning_curve
from striate.tasks.kept import kept_predictions
from striate.tasks.metric_names import metric_named
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data

_DPI = 120


def learning_curve(
    run: str | Path | Run, *, seeds: Sequence[int] | None = None, announce: Announce | None = None
) -> LearningCurve:
    """How good the network of a finished run would be with 1/8, 1/4 and 1/2 of its training samples, and, by a power
    law, with twice as many.

    The network is trained anew on each part, with the run's configuration; steps as in `steps_for`. `seeds`: three from
    that of the run on where that takes two minutes at most, else its own. Nothing is written.
    Raises RunError for a run that is not complete or has no network, DataError.
    """
    say = announce or (lambda _: None)
    opened = open_run(run.path if isinstance(run, Run) else Path(run))
    load(opened.path)  # says what is missing, where the network cannot be built again
    config, metrics = config_from_yaml(opened.config), read_metrics(opened)
    kept = kept_predictions(opened, "test")
    answers = None if kept is None else kept.answers if kept.predicted is None else kept.predicted
    finished = FinishedRun(
        config, int(metrics["steps"]), float(metrics["train_seconds"]), None if kept is None else kept.ids, answers
    )
    return measure_learning_curve(finished, read_data(config, announce)[1], seeds=seeds, announce=say)


def write_learning_curve(run: str | Path, found: LearningCurve) -> tuple[Path, Path]:
    """Write `learning-curve.json` and `plots/learning-curve.png` into the run; their paths. Raises RunError."""
    from striate.visualize.canvas import of_split, save_figure
    from striate.visualize.learning_curve import learning_curve_figure

    opened = open_run(Path(run))
    picture = opened.plots / "learning-curve.png"
    metric, title = metric_named(found.metric), of_split(found.data, "test", found.n_test)
    figure = learning_curve_figure(found.to_json(), title=title, name=metric.name, share=metric.is_share)

    def draw(path: Path) -> None:
        save_figure(figure, path, _DPI)

    with explained(opened.plots):
        opened.plots.mkdir(exist_ok=True)
    write_atomic(picture, draw)
    write_json(opened.learning_curve, found.to_json())
    return opened.learning_curve, picture
