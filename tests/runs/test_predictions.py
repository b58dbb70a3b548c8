"""Answers of each sample are kept, read back, and bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import striate.runs.predictions as kept
from striate.errors import RunError
from striate.runs.directory import RunDirectory
from striate.runs.predictions import Predictions, read_predictions, write_predictions
from striate.tasks.registry import task_class


def made(n=50, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 8, (n, classes))
    answers = np.exp(logits - logits.max(1, keepdims=True)).astype(np.float32)
    answers /= answers.sum(1, keepdims=True)
    paths = tuple(f"größe/{i} \n🙂.png" for i in range(n))
    names = tuple(f"class {k}" for k in range(classes))
    ids, targets = np.arange(n)[::-1].copy(), rng.integers(0, classes, n)
    return Predictions("classify", "test", names, ids, paths, targets, answers, answers.argmax(1))


def test_what_was_written_is_read(tmp_path):
    run, written = RunDirectory(tmp_path), made()
    assert write_predictions(run, written)
    read = read_predictions(run, "test")
    assert read is not None
    assert (read.task, read.split, read.classes, read.paths) == ("classify", "test", written.classes, written.paths)
    for name in ("ids", "targets", "predicted"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    large = written.predictions > 5e-5
    np.testing.assert_allclose(read.predictions[large], written.predictions[large], rtol=0.01)
    np.testing.assert_allclose(read.predictions.sum(1), 1, rtol=1e-5)
    likely = written.predictions > 0.4
    np.testing.assert_allclose(read.predictions[likely], written.predictions[likely], rtol=0.001)
    assert read_predictions(run, "val") is None
    (tmp_path / "config.yaml").touch()
    np.testing.assert_array_equal(read_predictions(str(tmp_path), "test").ids, written.ids)
    with pytest.raises(RunError):
        read_predictions(tmp_path / "none", "test")


def test_a_probability_of_zero_stays_none(tmp_path):
    answers = np.array([[1, 0], [0.5, 0.5]], np.float32)
    given = Predictions(
        "classify", "val", ("a", "b"), np.arange(2), ("x", "y"), np.array([0, 1]), answers, np.zeros(2, int)
    )
    write_predictions(RunDirectory(tmp_path), given)
    np.testing.assert_array_equal(read_predictions(RunDirectory(tmp_path), "val").predictions, answers)


def test_numbers_are_kept_as_they_are(tmp_path):
    answers = np.array([[1.5, 1e9], [-2.25, 3e-9]], np.float32)
    given = Predictions("regress", "val", (), np.arange(2), ("0", "1"), answers + 1, answers, None)
    write_predictions(RunDirectory(tmp_path), given)
    read = read_predictions(RunDirectory(tmp_path), "val")
    np.testing.assert_array_equal(read.predictions, answers)
    assert read.predicted is None
    assert read.classes == ()


def test_a_large_split_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_VALUES", 349)
    assert not write_predictions(RunDirectory(tmp_path), made(50, 7))
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("damage", ["cut", "text", "shorter", "beyond"])
def test_a_damaged_file_is_named(tmp_path, damage):
    run = RunDirectory(tmp_path)
    write_predictions(run, made())
    path = run.predictions / "test.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("no archive")
    else:
        arrays = dict(np.load(path))
        changed = {"ids": arrays["ids"][:-1]} if damage == "shorter" else {"predicted": arrays["predicted"] + 7}
        np.savez_compressed(path, **arrays | changed)
    with pytest.raises(RunError, match=r"test\.npz\n.*damaged"):
        read_predictions(run, "test")


def _text(text):
    return np.frombuffer(text.encode(), np.uint8)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"log_probabilities": np.full((50, 7), np.nan, np.float16)}, "NaN or Inf"),
        ({"log_probabilities": np.full((50, 7), np.inf, np.float16)}, "NaN or Inf"),
        ({"task": _text("")}, "task ''"),
        ({"classes": _text("a\0b")}, "different lengths"),
        ({"ids": np.linspace(0, 1, 50)}, "not whole numbers"),
    ],
)
def test_answers_that_are_none_of_the_task_are_refused(tmp_path, changed, said):
    run = RunDirectory(tmp_path)
    write_predictions(run, made())
    path = run.predictions / "test.npz"
    np.savez_compressed(path, **dict(np.load(path)) | changed)
    with pytest.raises(RunError, match=said):
        read_predictions(run, "test")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"predictions": np.full((2, 2), np.nan, np.float32)}, "NaN or Inf"),
        ({"targets": np.array([["a", "b"], ["c", "d"]])}, "that are not numbers"),
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path, changed, said):
    run, answers = RunDirectory(tmp_path), np.ones((2, 2), np.float32)
    write_predictions(run, Predictions("regress", "test", (), np.arange(2), ("0", "1"), answers, answers, None))
    path = run.predictions / "test.npz"
    np.savez_compressed(path, **dict(np.load(path)) | changed)
    with pytest.raises(RunError, match=said):
        read_predictions(run, "test")


def test_the_task_sees_that_numbers_are_not_those_of_its_targets() -> None:
    answers = np.ones((2, 2), np.float32)
    given = Predictions("regress", "test", (), np.arange(2), ("0", "1"), answers, answers, None)
    assert task_class("regress").accepts_saved(given)
    assert not task_class("regress").accepts_saved(replace(given, predictions=np.ones((2, 3), np.float32)))


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    write_predictions(run, made())
    monkeypatch.setattr(kept, "MOST_VALUES", 1)
    monkeypatch.setattr(kept, "MOST_SAMPLES", 1)
    monkeypatch.setattr(kept, "_MOST_PATHS", 1)
    with pytest.raises(RunError, match="bytes unpacked"):
        read_predictions(run, "test")


def masks(n=12, side=20):
    rng = np.random.default_rng(0)
    truth, said = (rng.integers(0, 3, (n, side, side)).astype(np.uint8) for _ in range(2))
    truth[0, 0] = 255
    paths = tuple(f"images/{k}.png" for k in range(n))
    return Predictions("segment", "test", ("0", "1", "2"), np.arange(n), paths, truth, said, None)


def test_masks_are_kept_as_they_are_and_counted_in_bytes(tmp_path, monkeypatch):
    run, written = RunDirectory(tmp_path), masks()
    monkeypatch.setattr(kept, "MOST_VALUES", 12 * 20 * 20 // 4)
    assert write_predictions(run, written)
    read = read_predictions(run, "test")
    for name in ("targets", "predictions", "ids"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype
    assert read.predicted is None
    monkeypatch.setattr(kept, "MOST_VALUES", 12 * 20 * 20 // 4 - 1)
    assert not write_predictions(run, written)


@pytest.mark.parametrize("other", [np.zeros((12, 20, 19), np.uint8), np.zeros((12, 20, 20), np.float32)])
def test_masks_of_another_shape_or_type_are_refused(tmp_path, other):
    run, written = RunDirectory(tmp_path), masks()
    write_predictions(run, Predictions(**{**vars(written), "predictions": other}))
    with pytest.raises(RunError, match="damaged"):
        read_predictions(run, "test")
