"""predictions/<split>.npz of a run: the saved predictions of the network for each sample."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import RunError, pasted
from striate.runs.directory import RunDirectory, RunPath, open_run, path_of_run
from striate.runs.files import explained, write_atomic
from striate.runs.plain_files import is_there, make_folder, open_plain
from striate.wording import several

MOST_SAMPLES, MOST_VALUES = 200_000, 20_000_000
"""Predictions of larger splits are not saved. Before compression, a file has at most 40 MB of probabilities, or 80 MB
of numbers or masks (a byte per pixel), and ids, labels and paths."""
_MOST_PATHS = 100_000_000
_LONGEST_TASK = 4096  # a path and a name
_LEAST = -1e4  # a log-probability; float16 ends at -65504


@dataclass(frozen=True, eq=False)
class Predictions:
    """The saved predictions for the N samples of one split, in the order of the split."""

    task: str
    """Name of the task."""
    split: str
    """`val` or `test`."""
    classes: tuple[str, ...]
    """Class names; empty for tasks without classes."""
    ids: NDArray[np.int64]
    """(N,): positions in the listing of the source, the same in every run on the same data."""
    paths: tuple[str, ...]
    """N paths as in split.csv."""
    targets: NDArray[Any]
    """Classes: (N,) int64. Numbers: (N, T) float32, in the units of the data. Masks: (N, H, W) uint8; of volumes, (N,
    D, H, W). Other tasks: numbers with a row per sample."""
    predictions: NDArray[np.float32]
    """Classes: (N, K) float32 probabilities, saved as float16 logarithms: within 0.1 % above 0.4,
    within 1 % above 0.00005. Numbers and masks: as `targets`. Other tasks: numbers with a row per sample."""
    predicted: NDArray[np.int64] | None
    """The predicted classes. None for tasks other than classes."""
    groups: tuple[str, ...] = ()
    """The group of each sample, N texts; empty without groups."""


def write_predictions(run: RunDirectory, saved: Predictions) -> bool:
    """Write the file, unless the split is too large (`MOST_SAMPLES`, `MOST_VALUES`). Returns whether it was written.
    Raises RunError where writing fails."""
    paths = "\0".join(saved.paths).encode("utf-8", "surrogatepass")
    # Targets may be larger: many objects, for a few predictions.
    parts = (saved.predictions, saved.targets)
    bytes_of_predictions = max(part.size * min(4, part.itemsize) for part in parts)
    if len(saved.ids) > MOST_SAMPLES or bytes_of_predictions > 4 * MOST_VALUES or len(paths) > _MOST_PATHS:
        return False
    arrays: dict[str, NDArray[Any]] = {
        "task": _text(saved.task),
        "classes": _text("\0".join(saved.classes)),
        "ids": saved.ids,
        "paths": np.frombuffer(paths, np.uint8),
        "targets": saved.targets,
    }
    if any(saved.groups):
        arrays["groups"] = _text("\0".join(saved.groups))
    if saved.predicted is None:
        arrays["predictions"] = saved.predictions
    else:
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(saved.predictions.astype(np.float32)), _LEAST)
        arrays |= {"log_probabilities": logs.astype(np.float16), "predicted": saved.predicted}
    with explained(run.predictions):
        make_folder(run.predictions)
    write_atomic(
        run.predictions / f"{saved.split}.npz",
        lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
    )
    return True


def read_predictions(run: RunDirectory | RunPath, split: str) -> Predictions | None:
    """The predictions saved for `val` or `test`. None where there are none: a run of an earlier version, or too large a
    split. Raises RunError for a damaged file, and for one whose arrays do not fit its task."""
    run = run if isinstance(run, RunDirectory) else open_run(path_of_run(run))
    path = run.predictions / f"{split}.npz"
    if not is_there(path):
        return None
    try:
        arrays = _load(path)
        task, classes = _read_text(arrays["task"]), tuple(filter(None, _read_text(arrays["classes"]).split("\0")))
        n = len(arrays["ids"])
        paths = tuple(_read_text(arrays["paths"]).split("\0"))
        predicted = arrays.get("predicted")
        if predicted is None:
            predictions = arrays["predictions"]
        else:
            with np.errstate(all="ignore"):  # what is not finite is refused below
                predictions = np.exp(arrays["log_probabilities"].astype(np.float32))
                predictions /= predictions.sum(1, keepdims=True)
        groups = tuple(_read_text(arrays["groups"]).split("\0")) if "groups" in arrays else ()
        lengths = {
            n,
            len(paths),
            len(groups) or n,
            len(arrays["targets"]),
            len(predictions),
            n if predicted is None else len(predicted),
        }
        if len(lengths) > 1 or (predicted is not None and predictions.shape[1] != len(classes)):
            raise ValueError("arrays of different lengths")
        _require_task(task, classes, arrays["targets"], predictions, predicted)
        if arrays["ids"].dtype.kind not in "iu" or arrays["ids"].ndim != 1:
            raise ValueError("ids that are not whole numbers")
    except RunError:
        raise
    except Exception as error:  # every decompressor has errors of its own
        raise RunError(
            str(path),
            f"damaged ({type(error).__name__}: {str(error)[:200]})",
            "the predictions as striate wrote them",
            f"remove it, then: striate eval {pasted(run.path)}",
        ) from None
    return Predictions(task, split, classes, arrays["ids"], paths, arrays["targets"], predictions, predicted, groups)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays, after checking the size that they unpack to."""
    with open_plain(path) as file:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > 8 * MOST_VALUES + 32 * MOST_SAMPLES + 2 * _MOST_PATHS:
            raise ValueError(f"{several(unpacked, 'byte')} unpacked")
        file.seek(0)
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("a member that is not an array")  # numpy returns bytes for a member without a header
    return arrays


def _require_task(
    task: str,
    classes: tuple[str, ...],
    targets: NDArray[Any],
    predictions: NDArray[Any],
    predicted: NDArray[Any] | None,
) -> None:
    """Raise ValueError where the arrays do not fit each other: readers rely on it."""
    if not task or len(task) > _LONGEST_TASK:
        raise ValueError(f"a task {task[:40]!r}")
    if predicted is None:
        # Rows of objects, as many as an image has, or of several targets; the task checks more.
        rows = predictions.ndim in (2, 3) and predictions.dtype.kind == "f"
        if predictions.ndim == targets.ndim and predictions.shape != targets.shape and not rows:
            raise ValueError("predictions of another shape than their targets")
        images = targets.ndim == 4 and predictions.dtype.kind == "f"  # (N, C, H, W), of which masks have no C
        if targets.dtype == np.uint8 and predictions.dtype != np.uint8 and not images:
            raise ValueError("predictions that are not masks, for targets that are")
        if any(array.dtype.kind not in "fiu" for array in (predictions, targets)):
            raise ValueError("targets or predictions that are not numbers")
    else:
        _require_numbers(len(classes), targets, predicted)
    if not all(np.isfinite(array).all() for array in (predictions, targets)):
        raise ValueError("values that are NaN or Inf")


def _require_numbers(classes: int, *arrays: NDArray[Any]) -> None:
    """Raise ValueError where an array holds anything but class numbers: readers use them as indices."""
    for array in arrays:
        if (
            array.dtype.kind not in "iu"
            or array.ndim != 1
            or (array.size and not 0 <= array.min() <= array.max() < classes)
        ):
            raise ValueError("numbers that are not class numbers")


def _text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


def _read_text(array: NDArray[Any]) -> str:
    return array.tobytes().decode("utf-8", "surrogatepass")
