"""Sets of labels as a task: read from columns, boxes and masks, split by their rarest label, measured as defined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from striate.data.annotations.label_sets import are_label_sets, rarest_label
from striate.data.audit.readings import find_readings
from striate.data.config import DataConfig
from striate.data.dataset import SampleFacts
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import ConfigError, DataError, UsageError
from striate.statistics.intervals import wilson
from striate.tasks.assessment import slice_lines
from striate.tasks.evaluation import Evaluation
from striate.tasks.multilabel.assess import sample_f1, set_estimates, set_metrics
from striate.tasks.multilabel.metrics import MAP
from striate.tasks.multilabel.ranking import RankedLabels, Ranking, best_threshold, best_thresholds
from striate.tasks.multilabel.show import label_pictures
from striate.tasks.multilabel.task import Multilabel


def ranked(n: int = 60, labels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and labels that they tell a little of."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, labels)) < 0.3).astype(np.float32)
    return np.round(rng.random((n, labels)) * 0.7 + 0.3 * truth, 1), truth


def _assessed(scores: np.ndarray, truth: np.ndarray, facts: SampleFacts, **fields: Any) -> Any:
    n, k = truth.shape
    task, ids = Multilabel(tuple("abcde"[:k]), **fields), np.arange(n)
    evaluation = Evaluation("made", "test", "multilabel", task.classes, n, {"n": n}, scores, truth, ids)
    return task.assess(evaluation, facts, None, ())


# Figures


def test_the_worst_samples_are_shown_with_predicted_and_true_labels() -> None:
    truth = np.array([[0, 0], [1, 1]] * 10, np.float32)
    found = _assessed(np.full((20, 2), 0.9), truth, SampleFacts(tuple(map(str, range(20)))))
    assert found.lines(None)[-1][1].split() == ["a,", "b", "true:", "no", "label", "0"]


def test_galleries_of_few_samples_share_none_and_name_no_file(tmp_path: Path) -> None:
    truth = np.array([[k % 2, k % 3 == 0] for k in range(12)], np.float32)
    scores = np.random.default_rng(0).random((12, 2))
    task, images = Multilabel(("a", "b")), np.zeros((12, 1, 4, 4), np.uint8)
    evaluation = Evaluation("made", "test", "multilabel", task.classes, 12, {"n": 12}, scores, truth, np.arange(12))
    names = tuple(map(str, range(12)))
    pictures = label_pictures(tmp_path, evaluation, images, scores > 0.5, names)
    chosen = [[tile.name for tile in picture.tiles] for picture in pictures[1:]]
    assert [len(one) for one in chosen] == [4, 4, 4]
    assert sorted(name for one in chosen for name in one) == sorted(names)
    assert not any(".png" in picture.caption for picture in pictures)


def test_average_precision_is_that_of_scikit_learn_with_ties_and_weights() -> None:
    scores, truth = ranked()
    truth[:, 2] = 0
    weights = np.random.default_rng(1).integers(0, 4, len(truth)).astype(float)
    found = Ranking(scores, truth).precisions()
    again = Ranking(scores, truth).precisions(weights)
    for k in (0, 1):
        assert found[k] == pytest.approx(average_precision_score(truth[:, k], scores[:, k]))
        assert again[k] == pytest.approx(average_precision_score(truth[:, k], scores[:, k], sample_weight=weights))
    assert np.isnan(found[2])
    assert np.isnan(again[2])


def test_each_sample_alone_is_measured_by_how_its_labels_are_ranked() -> None:
    scores, truth = ranked()
    each = RankedLabels(MAP, lambda *_: 0.0).each(np.concatenate([scores, truth], 1))
    assert each.mean() == pytest.approx(label_ranking_average_precision_score(truth, scores))


def test_means_are_over_the_labels_that_occur() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    scores = np.array([[0.9, 0.2, 0.6], [0.8, 0.7, 0.1], [0.1, 0.3, 0.2]])
    found = set_metrics(scores, truth, scores >= 0.5)
    assert found["ap"] == [1.0, 1.0, None]
    assert found["map"] == found["macro_f1"] == 1.0
    assert found["micro_f1"] == pytest.approx(2 * 3 / 7)
    assert found["exact_match"] == pytest.approx(2 / 3)
    assert sample_f1(truth, scores >= 0.5).tolist() == pytest.approx([2 / 3, 1, 1])


def test_intervals_hold_their_figures_and_are_wider_over_groups() -> None:
    scores, truth = ranked(120)
    scores, truth = np.repeat(scores[:30], 4, axis=0), np.repeat(truth[:30], 4, axis=0)
    said, groups = scores >= 0.6, [f"g{k // 4}" for k in range(120)]
    alone, grouped = (set_estimates(scores, truth, said, names)[0] for names in ((), groups))
    for name, figure in alone.items():
        assert figure.interval is not None
        assert figure.interval.low <= figure.value <= figure.interval.high
        wide = grouped[name].interval
        assert wide is not None
        assert wide.high - wide.low > figure.interval.high - figure.interval.low
    few = set_estimates(scores[:12], truth[:12], said[:12])[0]
    assert few["map"].interval is None
    assert few["exact_match"].interval == wilson(int((said[:12] == truth[:12]).all(1).sum()), 12)


def test_no_interval_is_empty_because_all_are_right_or_wrong() -> None:
    truth = np.zeros((60, 2))
    truth[:4, 0] = truth[10:30, 1] = 1
    for said in (truth > 0, truth > 2):
        figures, (rare, common) = set_estimates(truth * 0.9, truth, said)
        assert rare.value == common.value == 1
        assert rare.interval.high == 1
        assert rare.interval.low == pytest.approx(0.51, abs=0.005)  # Wilson of 4 of 4
        assert figures["map"].interval.low == pytest.approx((1 + rare.interval.low) / 2)
        assert all(figure.interval.high - figure.interval.low > 0.03 for figure in figures.values())
        assert RankedLabels(MAP, lambda *_: 0.0).estimate(Multilabel.rows(truth, truth)) == figures["map"]


def test_without_a_label_there_is_no_mean_over_labels() -> None:
    truth = np.zeros((30, 2))
    assert RankedLabels(MAP, lambda *_: 0.0).estimate(Multilabel.rows(truth, truth)).value is None
    figures, labels = set_estimates(truth, truth, truth > 0)
    assert figures["map"].value is figures["macro_f1"].value is labels[0].value is None
    assert figures["exact_match"].value == 1
    facts = SampleFacts(tuple(map(str, range(30))), columns={"camera": ("a", "b") * 15})
    slices = slice_lines([replace(one, differs=True) for one in _assessed(truth, truth, facts).slices], MAP)
    assert slices[1].split() == ["camera", "a", "15", "–", "–"]


# Thresholds


def test_a_threshold_has_the_best_f1() -> None:
    scores, truth = (part[:, 0] for part in ranked(80))
    chosen = best_threshold(scores, truth)

    def f1(low: float) -> float:
        said = scores >= low
        return 2 * (said & (truth > 0)).sum() / (said.sum() + truth.sum())

    assert f1(chosen) == pytest.approx(max(f1(low) for low in np.linspace(0, 1, 201)))
    assert best_threshold(scores, truth * 0) == 0.5


def test_what_given_thresholds_change_is_said() -> None:
    truth = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    scores = np.array([[0.9, 0.1], [0.3, 0.1], [0.3, 0.8], [0.1, 0.8]])
    facts = SampleFacts(("w", "x", "y", "z"))
    assert _assessed(scores, truth, facts).decision is None
    figures = _assessed(scores, truth, facts, thresholds=(0.5, 0.5), given=((0, 0.2),))
    effect, (row,) = figures.decision, figures.decision.classes
    assert (effect.differing, effect.accuracy_before.value, effect.accuracy.value) == (2, 0.75, 0.75)
    assert (row.name, row.recall_before.value, row.recall.value) == ("a", 0.5, 1.0)
    assert (row.precision_before.value, row.precision.value) == (1.0, pytest.approx(2 / 3))
    text = "\n".join(figures.lines(None)[0])
    assert "Predicted: a if its probability is at least 0.2. 2 of 4 predictions differ" in text
    assert "exact match" in text


def test_rare_labels_share_a_threshold_and_given_ones_stay() -> None:
    scores, truth = ranked(80)
    truth[:, 2] = 0
    truth[:2, 2] = 1
    found = best_thresholds(scores, truth)
    assert found[2] == best_threshold(scores.ravel(), truth.ravel())
    task = Multilabel(("a", "b", "c")).deciding(None, "b=0.9")
    settled = task.settled({"loss": 1.0, **{f"threshold_{n}": t for n, t in zip("abc", found, strict=True)}})
    assert settled.lowest.tolist() == [found[0], 0.9, found[2]]
    assert Multilabel.from_state(settled.state()) == settled
    described = settled.describe(torch.tensor([0.99, 0.89, 0.0]))
    assert described["labels"] == [["a", pytest.approx(0.99)]]
    assert set(described["probabilities"]) == {"a", "b", "c"}
    with pytest.raises(UsageError, match=r"1\.5 for 'a'"):
        task.deciding(None, "a=1.5")
    with pytest.raises(UsageError, match="thresholds, one per label"):
        task.deciding("a=3", None)


# Losses


def test_losses_are_those_of_the_definitions() -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(0, 3, (9, 4)), (rng.random((9, 4)) < 0.4).astype(float)
    p = 1 / (1 + np.exp(-logits))
    q = np.maximum(p - 0.05, 0)
    plain = -(truth * np.log(p) + (1 - truth) * np.log(1 - p))
    uneven = -(truth * (1 - p) * np.log(p) + (1 - truth) * q**4 * np.log(1 - q))
    outputs, targets = torch.from_numpy(logits).float(), torch.from_numpy(truth).float()
    names = ("a", "b", "c", "d")
    assert float(Multilabel(names).loss(outputs, targets)) == pytest.approx(plain.mean(), rel=1e-5)
    asymmetric = Multilabel(names, "asymmetric", positive=1.0)
    assert float(asymmetric.loss(outputs, targets)) == pytest.approx(uneven.mean(), rel=1e-5)
    weighted = Multilabel(names, shares=(0.1, 0.5, 0.5, 0.5))
    factors = np.where(truth > 0, 1, 1.0) * [1, 1, 1, 1]
    factors[:, 0] = np.where(truth[:, 0] > 0, 5, 0.5 / 0.9)
    assert float(weighted.loss(outputs, targets)) == pytest.approx((factors * plain).mean(), rel=1e-5)
    far = torch.full((2, 4), 200.0, requires_grad=True)
    asymmetric.loss(far, torch.zeros(2, 4)).backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()


# Reading


def _table(folder: Path, header: str, rows: list[str]) -> DataConfig:
    lines = [header]
    for number, row in enumerate(rows):
        Image.effect_noise((6, 6), 20 + number % 60).resize((6, 6)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{row}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return DataConfig(source=str(folder / "t.csv"))


def test_a_column_labels_is_read_with_empty_sets(tmp_path: Path) -> None:
    config = _table(tmp_path, "path,labels,camera", ["cat| dog,1", ",2", "dog|dog,1", "bird,2"] * 8)
    listing = list_source(config)
    assert listing.annotation == "labels"
    assert listing.classes == ("bird", "cat", "dog")
    assert sorted(set(listing.labels)) == ["", "bird", "cat|dog", "dog"]
    assert list(listing.columns) == ["camera"]
    data = load_dataset(config)
    assert data.splits["train"].targets.dtype == torch.float32
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 20, "val": 4, "test": 8}
    assert "3 labels, 1 per sample: dog (16)" in data.annotated
    assert "8 samples have none" in data.annotated


@pytest.mark.parametrize("between", [";", ", "])
def test_a_column_labels_is_read_with_other_separators_where_there_is_no_doubt(tmp_path: Path, between: str) -> None:
    listing = list_source(_table(tmp_path, "path,labels", [f'"cat{between}dog"', "dog", "bird"] * 4))
    assert listing.classes == ("bird", "cat", "dog")
    assert "several per sample" in listing.notes[-1]
    other = list_source(_table(tmp_path, "path,labels", [f'"cat{between}dog"', "hen", "bird"] * 4))
    assert other.classes == ("bird", f"cat{between}dog", "hen")


def test_joined_names_of_classes_are_labels_where_there_is_no_doubt(tmp_path: Path) -> None:
    assert are_label_sets(("a|b", "b"))
    assert not are_label_sets(("a|b", "c"))
    config = _table(tmp_path, "path,label", ["a|b", "b", "c"] * 4)
    found = list_source(config)
    assert found.annotation == "labels"
    assert "--task classify" in found.notes[-1]
    assert not find_readings(found)
    assert list_source(config, "class").classes == ("a|b", "b", "c")
    doubtful = _table(tmp_path, "path,label", ["yes|no", "c"] * 6)
    (said,) = find_readings(list_source(doubtful))
    assert said.remedy.settings == {"task.name": "multilabel"}
    assert list_source(doubtful, "labels").classes == ("c", "no", "yes")


def test_arrays_of_zero_and_one_are_labels_unless_each_row_has_one() -> None:
    from striate.data.sources.arrays import list_arrays

    x, several = np.zeros((12, 5)), np.tile([[1, 1, 0], [0, 1, 0]], (6, 1))
    for y in (several, several.astype(float), several.astype(bool)):
        found = list_arrays("made", "made", {None: (x, y)}, class_names=("a", "b", "c"))
        assert (found.annotation, found.classes, found.labels[0]) == ("labels", ("a", "b", "c"), "a|b")
    assert list_arrays("made", "made", {None: (x, np.eye(3)[np.arange(12) % 3])}).annotation == "number"


def test_which_classes_are_there_follows_from_boxes_and_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rows, expected = ["path,x_min,y_min,x_max,y_max,label"], []
    for number in range(9):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "images" / f"{number}.png")
        mask, own = np.zeros((8, 8), np.uint8), [name for bit, name in ((1, "b"), (2, "c")) if number & bit]
        for name in own:
            left = 4 * (name == "c")
            mask[:, left : left + 3] = 1 if name == "b" else 2
            rows.append(f"images/{number}.png,{left},0,{left + 3},8,{name}")
        rows += [] if own else [f"images/{number}.png,,,,,"]
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        expected.append("|".join(own))
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "masks" / "classes.txt").unlink(missing_ok=True)
    (tmp_path / "classes.txt").write_text("background\nb\nc\n")
    for source in (tmp_path / "boxes.csv", tmp_path):
        found = list_source(DataConfig(source=str(source)), "labels")
        assert found.classes == ("b", "c")
        assert list(found.labels) == expected
    with pytest.raises(DataError, match="path,labels"):
        list_source(DataConfig(source="boston"), "labels")


def test_labels_that_never_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the same labels for each of"):
        load_dataset(_table(tmp_path, "path,labels", ["a|b"] * 12))


def test_splits_have_their_share_of_rare_labels_and_stay_when_images_come(tmp_path: Path) -> None:
    rows = [("rare|common" if k % 10 == 0 else "common" if k % 2 else "other|common") for k in range(200)]
    x = np.random.default_rng(0).integers(0, 255, (220, 1, 4, 4)).astype(np.uint8)
    truth = np.array([[name in row.split("|") for name in ("rare", "common", "other")] for row in rows + rows[:20]])
    assert rarest_label(truth[:1].repeat(2, 0) * [1, 1, 1]).tolist() == [0, 0]
    splits = []
    for count in (200, 220):
        np.savez(tmp_path / "d.npz", x=x[:count], y=truth[:count].astype(np.int64))
        data = load_dataset(DataConfig(source=str(tmp_path / "d.npz")))
        splits.append({row.path: row.split for row in data.rows})
        shares = [float(part.targets[:, 0].mean()) for part in data.splits.values()]
        assert shares == pytest.approx([0.1] * 3, abs=0.02)
    assert sum(splits[0][path] != splits[1][path] for path in splits[0]) <= 6


# Refused


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(UsageError, match="no temperature"):
        Multilabel(("a", "b")).calibrated(2.0)
    with pytest.raises(UsageError, match="a label: a and b"):
        Multilabel(("a", "b")).explained_part(torch.zeros(2), "c")
    from striate.training.prepare import prepare
    from striate.training.request import merge_request, read_config

    fields = {"task.name": "multilabel", "task.label_smoothing": 0.1}
    config = merge_request(read_config(None), data="iris", fields=fields)
    with pytest.raises(ConfigError, match="label_smoothing"):
        prepare(config)


def test_undecided_labels_are_turned_down_with_the_promised_rate() -> None:
    def samples(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        truth = (rng.random((n, 3)) < (0.4, 0.3, 0.002)).astype(np.float32)
        return 1 / (1 + np.exp(-rng.normal(2 * truth - 1, 1))), truth

    task = Multilabel(("cat", "dog", "owl")).rejecting(0.05, lambda: samples(4000, 0))
    probabilities, truth = samples(4000, 1)
    told = [task.describe(torch.from_numpy(row)) for row in probabilities]
    sure = np.array([[name in dict(one["labels"]) for name in task.classes] for one in told])
    open_ = np.array([[name in one["undecided"] for name in task.classes] for one in told])
    for k in range(2):
        there = truth[:, k] > 0
        assert abs((~sure[there, k] & ~open_[there, k]).mean() - 0.05) < 0.02
        assert abs(sure[~there, k].mean() - 0.05) < 0.02
    assert 0.1 < open_[:, 0].mean() < 0.6  # the two kinds overlap
    assert (sure | open_)[:, 2].all(), "too few have the third label for saying of any that it is not there"
    first = next(one for one in told if one["undecided"])
    assert first["reason"].startswith("undecided: ")
    assert first["reason"] in task.line(first)
    with pytest.raises(UsageError, match="--reject"):
        task.rejecting(0.05, lambda: samples(10, 0))
