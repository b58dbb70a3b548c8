"""Folds made by hand, and studies small enough to run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from striate.api import train_config
from striate.studies.cross_validation.fold import FoldResult
from striate.training.request import merge_request, read_config

CLASSES = ("left", "right")


def fold_result(repeat: int, fold: int, ids, decoded, metrics, **changes: Any) -> FoldResult:
    values: dict[str, Any] = {
        "repeat": repeat,
        "fold": fold,
        "seed": 7,
        "n_train": 8,
        "n_val": 2,
        "best_epoch": 1,
        "seconds": 0.5,
        "metrics": metrics,
        "history": ({"epoch": 1, "train_loss": 1.0, "val_loss": 1.0},),
        "ids": np.asarray(ids, np.int64),
        "decoded": np.asarray(decoded, np.float32),
        "baselines": {},
    }
    return FoldResult(**(values | changes))


def table(path: str = "t.npz", n: int = 60, classes: int = 3, **arrays: np.ndarray) -> str:
    """A table of noisy blobs that a small network learns, as an .npz; `arrays` replace some."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, 4)) + 2.0 * y[:, None]
    np.savez(path, **({"x": x, "y": y} | arrays))
    return path


def request(data: str, cv: str = "3x2", **fields: Any):
    base = {"cv": cv, "model.name": "fc(6) relu fc(3)", "budget.epochs": 3, "batch": 8}
    return merge_request(read_config(None), data=data, fields=base | fields)


def study(data: str, out: str, cv: str = "3x2", module=None, **fields: Any):
    return train_config(
        request(data, cv, **fields), module=module, out=Path(out), console=Console(stderr=True), quiet=True
    )


def rows(run: str | Path, name: str = "cv.csv") -> list[dict[str, str]]:
    """A table of a run, without what a clock said."""
    timed = {"seconds", "images_per_second", "data_wait", "augment_share"}
    with (Path(run) / name).open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in timed} for row in csv.DictReader(file)]
