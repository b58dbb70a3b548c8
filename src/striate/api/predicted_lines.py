"""Predictions for files as lines: what `striate predict` prints and writes for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.api.networks import load, with_rejection_of, with_rule_of
from striate.api.predicting import FileAnswer
from striate.data.media.every_medium import medium_of
from striate.errors import UsageError
from striate.runs.files import explained
from striate.tasks.views import Views
from striate.training.trained import Prediction, Trained
from striate.visualize.drawn_file import write_drawn

Writer = Callable[[FileAnswer, Prediction], Mapping[str, Any]]
"""Writes what is a file of its own of a prediction, and gives its path as a field."""


@dataclass(frozen=True)
class Predicting:
    """How files are predicted, with the options of `striate predict`; it can be sent to another process."""

    run: Path
    calibrated: bool = False
    views: Views | None = None
    cost: tuple[str, ...] = ()
    threshold: tuple[str, ...] = ()
    reject: float | None = None
    masks: Path | None = None
    draw: Path | None = None
    tile: int | None = None
    every: float | None = None

    def load(self) -> Trained:
        """The network that predicts so. Raises StriateError for options that do not suit it."""
        trained = load(self.run, calibrated=True) if self.calibrated else load(self.run)
        trained = trained if self.views is None else trained.with_views(self.views)
        trained = with_rule_of(self.run, trained, list(self.cost) or None, list(self.threshold) or None)
        return with_rejection_of(self.run, trained, self.reject)

    def writers(self, trained: Trained) -> tuple[Writer, ...]:
        """What writes masks and drawn pictures, where they are asked for; their folders are created. Raises UsageError
        for a task or a medium without them."""
        masks = () if self.masks is None else (_mask_writer(trained, self.masks),)
        return masks if self.draw is None else (*masks, _drawer(trained, self.draw))


def line_of(answer: FileAnswer, writers: tuple[Writer, ...]) -> dict[str, Any]:
    """One prediction as plain values: `path` and its fields, or `path` and `error`."""
    if answer.prediction is None:
        return {"path": answer.path, "error": answer.error}
    span = {} if answer.span is None else dict(zip(("start", "end"), answer.span, strict=True))
    line = {"path": answer.path, **span, **answer.prediction.fields}
    for write in writers:
        line |= write(answer, answer.prediction)
    return line


def _mask_writer(trained: Trained, folder: Path) -> Writer:
    task = trained.task
    if not task.writes_files:
        raise task.no_files()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return lambda answer, found: task.write_prediction(folder, answer.path, found.decoded, found.placed)


def _drawer(trained: Trained, folder: Path) -> Writer:
    medium = medium_of(trained.preparation.kind)
    if not trained.task.draws and (trained.task.gives_vector or not medium.pictures):
        got = f"a run of the task {trained.task.name} for {medium.many}"
        raise UsageError("--draw", got, "predictions for pictures, other than embeddings", "leave out --draw")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)

    def write(answer: FileAnswer, prediction: Prediction) -> dict[str, Any]:
        image = answer.path if answer.input is None else answer.input
        return {"drawn": write_drawn(folder, answer.path, trained.drawn(image, prediction))}

    return write
