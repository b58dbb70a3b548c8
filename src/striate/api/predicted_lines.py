"""The lines that `striate predict` prints and writes, one for each prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.api.networks import load, with_rejection_of, with_rule_of
from striate.api.predicting import FilePrediction
from striate.data.media.every_medium import medium_of
from striate.errors import UsageError
from striate.runs.files import explained
from striate.tasks.views import Views
from striate.training.trained import Prediction, Trained
from striate.visualize.drawn_file import with_legend, write_drawn

Writer = Callable[[FilePrediction, Prediction], Mapping[str, Any]]
"""Writes a prediction, such as a mask, as a file of its own; returns the path as a field of the line."""


@dataclass(frozen=True)
class Predicting:
    """The options of `striate predict`; they can be sent to another process."""

    run: Path
    """A run directory, a checkpoint, or a file or folder of `striate export`."""
    calibrated: bool = False
    """Whether probabilities are calibrated."""
    views: Views | None = None
    """Test-time augmentation; None: that of the run."""
    cost: tuple[str, ...] = ()
    """Costs of classes, as texts `ill=10`."""
    threshold: tuple[str, ...] = ()
    """Thresholds of classes, as texts `ill=0.2`."""
    reject: float | None = None
    """A promised error rate; samples for which no single class can be predicted at it get none. None: every sample
    gets a class."""
    masks: Path | None = None
    """The folder for predicted masks; None: masks are not written."""
    draw: Path | None = None
    """The folder for pictures with predictions; None: they are not drawn."""
    tile: int | None = None
    """Side in pixels of the parts in which pictures are computed; None: pictures are computed in one piece."""
    every: float | None = None
    """Seconds between the windows of a recording; None: one window."""

    def load(self) -> Trained:
        """The network with these options. Raises StriateError for options that the network does not support."""
        trained = load(self.run, calibrated=True) if self.calibrated else load(self.run)
        trained = trained if self.views is None else trained.with_views(self.views)
        trained = with_rule_of(self.run, trained, list(self.cost) or None, list(self.threshold) or None)
        return with_rejection_of(self.run, trained, self.reject)

    def writers(self, trained: Trained) -> tuple[Writer, ...]:
        """The writers of masks and drawn pictures that the options request; their folders are created. Raises
        UsageError for a task or a medium without them."""
        masks = () if self.masks is None else (_mask_writer(trained, self.masks),)
        return masks if self.draw is None else (*masks, _drawer(trained, self.draw))


def line_of(predicted: FilePrediction, writers: tuple[Writer, ...]) -> dict[str, Any]:
    """One prediction as plain values: `path` and its fields, or `path` and `error`."""
    if predicted.prediction is None:
        return {"path": predicted.path, "error": predicted.error}
    span = {} if predicted.span is None else dict(zip(("start", "end"), predicted.span, strict=True))
    line = {"path": predicted.path, **span, **predicted.prediction.fields}
    for write in writers:
        line |= write(predicted, predicted.prediction)
    return line


def _mask_writer(trained: Trained, folder: Path) -> Writer:
    task = trained.task
    if not task.writes_files:
        raise task.no_files()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return lambda predicted, found: task.write_prediction(folder, predicted.path, found.decoded, found.placed)


def _drawer(trained: Trained, folder: Path) -> Writer:
    medium = medium_of(trained.preparation.kind)
    if not trained.task.draws and (trained.task.gives_vector or not medium.pictures):
        got = f"a run of the task {trained.task.name} for {medium.many}"
        raise UsageError("--draw", got, "predictions for pictures, other than embeddings", "leave out --draw")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)

    def write(predicted: FilePrediction, prediction: Prediction) -> dict[str, Any]:
        image = predicted.path if predicted.input is None else predicted.input
        drawn = with_legend(trained.drawn(image, prediction), trained.task.legend(prediction.decoded))
        return {"drawn": write_drawn(folder, predicted.path, drawn)}

    return write
