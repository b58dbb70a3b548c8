"""predictions/<split>.npz of a run: the saved predictions of the network for each sample."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import RunError, pasted
from striate.runs.directory import RunDirectory, open_run
from striate.runs.files import explained, write_atomic
from striate.runs.plain_files import is_there, make_folder, open_plain
from striate.wording import several

MOST_SAMPLES, MOST_VALUES = 200_000, 20_000_000
"""Predictions of larger splits are not saved: a file has at most 40 MB of probabilities or 80 MB of numbers or masks (a
byte a pixel), beside ids, labels and paths, before it is compressed."""
_MOST_PATHS = 100_000_000
_LONGEST_TASK = 4096  # a path and a name
_LEAST = -1e4  # a log-probability; float16 ends at -65504


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for the samples of one split, in its order.

    `ids` (N,) int64 are positions in the source's listing, the same in every run on the same data; `paths` N texts
    as in split.csv. Classes: `targets` (N,) int64, `predicted` (N,) int64, `answers` (N, K) float32 probabilities,
    which were saved as float16 logarithms: within 0.1 % for those above 0.4, 1 % above 0.00005. Numbers: `targets` and
    `answers` (N, T) float32, in the units of the data; `predicted` is None, `classes` empty. Masks: `targets` and
    `answers` (N, H, W) uint8, of volumes (N, D, H, W). Of other tasks, arrays of numbers. `groups`: N texts, the group
    of each sample, empty where there are none.
    """

    task: str
    split: str
    classes: tuple[str, ...]
    ids: NDArray[np.int64]
    paths: tuple[str, ...]
    targets: NDArray[Any]
    answers: NDArray[np.float32]
    predicted: NDArray[np.int64] | None
    groups: tuple[str, ...] = ()


def write_predictions(run: RunDirectory, predictions: Predictions) -> bool:
    """Write the file, if the split is not too large to be saved (`MOST_SAMPLES`, `MOST_VALUES`); whether it was.

    Raises RunError where it cannot be written.
    """
    paths = "\0".join(predictions.paths).encode("utf-8", "surrogatepass")
    # Targets may be larger: objects in all pixels for a few predictions.
    parts = (predictions.answers, predictions.targets)
    bytes_of_answers = max(part.size * min(4, part.itemsize) for part in parts)
    if len(predictions.ids) > MOST_SAMPLES or bytes_of_answers > 4 * MOST_VALUES or len(paths) > _MOST_PATHS:
        return False
    arrays: dict[str, NDArray[Any]] = {
        "task": _text(predictions.task),
        "classes": _text("\0".join(predictions.classes)),
        "ids": predictions.ids,
        "paths": np.frombuffer(paths, np.uint8),
        "targets": predictions.targets,
    }
    if any(predictions.groups):
        arrays["groups"] = _text("\0".join(predictions.groups))
    if predictions.predicted is None:
        arrays["answers"] = predictions.answers
    else:
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(predictions.answers.astype(np.float32)), _LEAST)
        arrays |= {"log_probabilities": logs.astype(np.float16), "predicted": predictions.predicted}
    with explained(run.predictions):
        make_folder(run.predictions)
    write_atomic(
        run.predictions / f"{predictions.split}.npz",
        lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
    )
    return True


def read_predictions(run: RunDirectory | str | Path, split: str) -> Predictions | None:
    """The predictions that were saved for `val` or `test`; None where there are none: a run of an earlier version, or
    of a split too large. Raises RunError for a damaged file, and for one whose content is not that of a task."""
    run = run if isinstance(run, RunDirectory) else open_run(Path(run))
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
            answers = arrays["answers"]
        else:
            with np.errstate(all="ignore"):  # what is not finite is refused below
                answers = np.exp(arrays["log_probabilities"].astype(np.float32))
                answers /= answers.sum(1, keepdims=True)
        groups = tuple(_read_text(arrays["groups"]).split("\0")) if "groups" in arrays else ()
        lengths = {
            n,
            len(paths),
            len(groups) or n,
            len(arrays["targets"]),
            len(answers),
            n if predicted is None else len(predicted),
        }
        if len(lengths) > 1 or (predicted is not None and answers.shape[1] != len(classes)):
            raise ValueError("arrays of different lengths")
        _require_task(task, classes, arrays["targets"], answers, predicted)
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
    return Predictions(task, split, classes, arrays["ids"], paths, arrays["targets"], answers, predicted, groups)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays, after a look at how much they unpack to."""
    with open_plain(path) as file:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > 8 * MOST_VALUES + 32 * MOST_SAMPLES + 2 * _MOST_PATHS:
            raise ValueError(f"{several(unpacked, 'byte')} unpacked")
        file.seek(0)
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("a member that is not an array")  # numpy gives the bytes of what has no header of its own
    return arrays


def _require_task(
    task: str,
    classes: tuple[str, ...],
    targets: NDArray[Any],
    answers: NDArray[Any],
    predicted: NDArray[Any] | None,
) -> None:
    """Raise ValueError where the arrays do not belong together: who reads them computes with them as such."""
    if not task or len(task) > _LONGEST_TASK:
        raise ValueError(f"a task {task[:40]!r}")
    if predicted is None:
        # Of as many objects as an image happens to have, or of several targets; the task looks closer.
        rows = answers.ndim in (2, 3) and answers.dtype.kind == "f"
        if answers.ndim == targets.ndim and answers.shape != targets.shape and not rows:
            raise ValueError("predictions of another shape than their targets")
        images = targets.ndim == 4 and answers.dtype.kind == "f"  # (N, C, H, W), of which masks have no C
        if targets.dtype == np.uint8 and answers.dtype != np.uint8 and not images:
            raise ValueError("predictions that are not masks, for targets that are")
        if any(array.dtype.kind not in "fiu" for array in (answers, targets)):
            raise ValueError("targets or predictions that are not numbers")
    else:
        _require_numbers(len(classes), targets, predicted)
    if not all(np.isfinite(array).all() for array in (answers, targets)):
        raise ValueError("values that are NaN or Inf")


def _require_numbers(classes: int, *arrays: NDArray[Any]) -> None:
    """Raise ValueError where an array has anything but numbers of classes: who reads it takes names by them."""
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
