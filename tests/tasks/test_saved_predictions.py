"""Saved predictions are only read if they have the form of those of the task that they name."""

from __future__ import annotations

import numpy as np
import pytest

from striate.errors import RunError
from striate.runs.directory import RunDirectory
from striate.runs.predictions import Predictions, write_predictions
from striate.tasks.registry import saved_predictions

IDS, PATHS = np.arange(4), ("0", "1", "2", "3")
NUMBERS = np.ones((4, 2), np.float32)
LABELS = np.array([0, 1, 2, 0])
SHARES = np.full((4, 3), 1 / 3, np.float32)
MASKS = np.zeros((4, 5, 5), np.uint8)
MADE = {
    "classify": Predictions("classify", "test", ("a", "b", "c"), IDS, PATHS, LABELS, SHARES, LABELS),
    "regress": Predictions("regress", "test", (), IDS, PATHS, NUMBERS, NUMBERS, None),
    "segment": Predictions("segment", "test", ("0", "1"), IDS, PATHS, MASKS, MASKS, None),
}


def text(value):
    return np.frombuffer(value.encode(), np.uint8)


def written(folder, made, **changed):
    run = RunDirectory(folder)
    write_predictions(run, made)
    path = run.predictions / "test.npz"
    np.savez_compressed(path, **dict(np.load(path)) | changed)
    return run


@pytest.mark.parametrize("task", MADE)
def test_a_tasks_own_predictions_are_read(tmp_path, task):
    assert saved_predictions(written(tmp_path, MADE[task]), "test").task == task


def test_masks_of_volumes_are_read_too(tmp_path):
    volumes = np.zeros((4, 3, 5, 5), np.uint8)
    made = Predictions("segment", "test", ("0", "1"), IDS, PATHS, volumes, volumes, None)
    assert saved_predictions(written(tmp_path, made), "test").predictions.shape == volumes.shape


def test_where_there_are_none_there_are_none(tmp_path):
    assert saved_predictions(RunDirectory(tmp_path), "test") is None


@pytest.mark.parametrize(("task", "named"), [(a, b) for a in MADE for b in ("foo", *MADE) if a != b])
def test_predictions_of_another_task_are_refused(tmp_path, task, named):
    with pytest.raises(RunError, match=f"task '{named}'"):
        saved_predictions(written(tmp_path, MADE[task], task=text(named)), "test")


@pytest.mark.parametrize(
    "changed",
    [{"predictions": np.zeros((4, 3), np.float32)}, {"predictions": np.zeros(4)}, {"classes": text("a\0b")}],
    ids=str,
)
def test_numbers_that_are_none_for_their_targets_are_refused(tmp_path, changed):
    with pytest.raises(RunError, match="damaged"):
        saved_predictions(written(tmp_path, MADE["regress"], **changed), "test")
