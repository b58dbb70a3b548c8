"""A run that is served: from the bytes of a picture to the line that `predict --json` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Placement
from striate.errors import DataError, RunError
from striate.evaluation.written_inference import written_inference
from striate.inference.predictor import Predictor, batch_size
from striate.models.weights.named import TENSORS
from striate.runs.checkpoint import without_checkpoint
from striate.runs.directory import open_run
from striate.training.trained import Read, Trained

MOST_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded, also if the training accepted them."""
_MOST_AT_ONCE = 32
"""Pictures of a batch at most: with many clients, others are decoded while a batch is computed."""

Load = Callable[[Path], Trained]


@dataclass(frozen=True)
class ReadPicture:
    """An input that a client sent."""

    path: str
    """The name of the input."""
    read: Read
    """The input as the network takes it."""
    placed: Placement | None
    """Where the file lies in the input; None for numbers."""


@dataclass(frozen=True)
class ServedRun:
    """A loaded run. Predictions equal those of `striate predict`."""

    name: str
    """The name that requests use."""
    path: Path
    """The run directory, checkpoint, or exported file."""
    trained: Trained
    """The network."""
    predictor: Predictor
    """The backend."""
    stamp: tuple[int, int, int]
    """Changes with the weights file."""
    since: float = field(default_factory=monotonic)
    """When it was loaded, by `monotonic`."""

    @property
    def at_once(self) -> int:
        """Largest number of pictures in a batch."""
        return min(_MOST_AT_ONCE, batch_size(self.trained.preparation.input_shape))

    def read_picture(self, data: bytes, name: str) -> ReadPicture:
        """Read the bytes of a picture file. Raises DataError for bytes that cannot be read, and for a network that
        takes no files."""
        trained = self.trained
        medium, preparation = medium_of(trained.preparation.kind), trained.preparation
        if not medium.suffixes:
            error = medium.no_files("the bytes of a file", preparation)
            raise DataError(name, error.got, f'{error.expected}, as JSON: {{"inputs": [one, …]}}', "send JSON")
        preparation = replace(preparation, max_pixels=min(MOST_PIXELS, preparation.max_pixels))
        placed = None
        if trained.task.needs_placement:
            size = medium.size_of(medium.header(data, name, max_pixels=preparation.max_pixels))
            placed = None if size is None else medium.placement(size, preparation)
        return ReadPicture(name, trained.read_bytes(data, name, preparation), placed)

    def read_numbers(self, values: Any, name: str) -> ReadPicture:
        """Read one input from nested lists of numbers, as `predict` takes arrays. Raises DataError."""
        shape, medium = self.trained.preparation.input_shape, medium_of(self.trained.preparation.kind)
        try:
            array = np.asarray(values, object)
            if not {int, float}.issuperset(map(type, array.flat)):  # NumPy takes "1", true and null for numbers
                raise TypeError
            array = array.astype(np.float64)
        except OverflowError:  # a whole number above 1e308
            array = np.full(array.shape, np.inf)
        except (TypeError, ValueError):
            got = "values that are not numbers, or lists of different lengths"
            raise DataError(name, got, f"lists of numbers of shape {shape}", "send numbers") from None
        if medium.dtype == "uint8" and array.size and not bool(((array % 1 == 0) & (array >= 0) & (array < 256)).all()):
            raise DataError(name, "numbers that are not bytes", "whole numbers from 0 to 255", "send pixels as bytes")
        with np.errstate(over="ignore"):
            try:
                raw = self.trained.prepare(array.astype(medium.dtype))
            except DataError as error:  # its remedy is for Python
                expected = error.expected + ", or the bytes of a file without JSON" * bool(medium.suffixes)
                raise DataError(name, error.got, expected, "send numbers of this shape") from None
        if not np.isfinite(raw).all():  # a null is NaN, and 1e39 is Inf in the network's float32
            raise DataError(name, "numbers that are NaN or Inf", "numbers below 3.4e38", "leave the input out")
        return ReadPicture(name, (raw, None), None)

    def predict(self, pictures: Sequence[ReadPicture]) -> list[dict[str, Any]]:
        """A line for each input, in order; inputs of one shape are computed together."""
        order = sorted(range(len(pictures)), key=lambda i: (pictures[i].read[0].shape, pictures[i].read[1] or ()))
        inputs, placed = [pictures[i].read for i in order], [pictures[i].placed for i in order]
        found = self.trained.predict_batch(inputs, self.predictor, placed)
        lines = {i: {"path": pictures[i].path, **one.fields} for i, one in zip(order, found, strict=True)}
        return [lines[i] for i in range(len(pictures))]

    def about(self) -> dict[str, Any]:
        """Facts about the run for clients."""
        shape, task = self.trained.preparation.input_shape, self.trained.task
        facts = {"run": self.name, "task": task.name, "classes": list(self.trained.classes), "input_shape": list(shape)}
        return facts | {
            "computed": self.predictor.plan.backend.name,
            "loaded_seconds_ago": round(monotonic() - self.since, 1),
        }


def open_served(path: Path, load: Load, name: str = "") -> ServedRun:
    """Load the run at `path`, a directory or a checkpoint, with the backend that the run recorded, if torch has it.
    Raises StriateError where it cannot be loaded."""
    stamp, trained = weights_stamp(path), load(path)
    written = None
    if path.is_dir():
        try:
            written = written_inference(open_run(path))
        except RunError:
            written = None
    shape = trained.preparation.input_shape
    kind = torch.uint8 if medium_of(trained.preparation.kind).dtype == "uint8" else torch.float32
    predictor = trained.planned(lambda count: torch.zeros(count, *shape, dtype=kind), 1, recorded=written)
    return ServedRun(name or path.name, path, trained, predictor, stamp)


def weights_stamp(path: Path) -> tuple[int, int, int]:
    """A value that changes when the weights file is replaced or written: of a run its best checkpoint, of a hub's
    folder its tensors. Raises RunError without such a file."""
    file = path / "checkpoints" / "best.pt" if path.is_dir() else path
    if path.is_dir() and (path / TENSORS).is_file() and not file.exists():
        file = path / TENSORS
    try:
        status = file.stat()
    except OSError:
        raise without_checkpoint(open_run(path), file) from None
    return status.st_mtime_ns, status.st_size, status.st_ino
