"""Runs on the same samples: what their difference is worth, and that it is only asked for where it has a meaning."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, root_mean_squared_error

from striate.errors import DataError
from striate.evaluation.compare_runs import RunPredictions, compare_predictions, short_names
from striate.statistics.paired import difference_of_classes, difference_of_rows, holm, mcnemar
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress
from striate.tasks.segment.task import Segment
from striate.wording import number


def rights(both, first, second, neither):
    """Two arrays of whether each is right, with so many samples of each sort."""
    pairs = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    return tuple(np.array(column, bool) for column in zip(*pairs, strict=True))


FIELDS = {"data.names": None, "data.group": None, "data.labels": None, "data.split_seed": 0}


def run(right, path="runs/a", samples=None, targets=None, **fields):
    """A run that predictions 0 where the truth is 0, as far as it is `right`."""
    n = len(right)
    targets = np.zeros(n, np.int64) if targets is None else targets
    values = {
        "path": path, "model": "mnist-cnn", "source": "mnist5k",
        "data_fields": FIELDS, "data": "made", "task": Classify, "classes": ("a", "b"),
        "samples": np.arange(n) if samples is None else samples, "targets": targets,
        "predictions": (~right).astype(np.int64),
        "value": float(right.mean()), "costs": {"params": 35_330}, "images": True,
    }  # fmt: skip
    return RunPredictions(**values | fields)


def headline_of(task, predictions, targets):
    return task.headline_metric().value(task.rows(predictions, targets))


def test_headlines_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    predictions, targets = rng.normal(5, 3, (2, 40, 3)).astype(np.float32)
    assert headline_of(Regress, predictions, targets) == pytest.approx(
        root_mean_squared_error(targets.ravel(), predictions.ravel())
    )
    said, true = rng.integers(0, 4, (2, 40))
    assert headline_of(Classify, said, true) == accuracy_score(true, said)


def test_sentences():
    ours, theirs = rights(880, 30, 8, 82)
    found = compare_predictions([run(ours, "runs/a"), run(theirs, "runs/b")], "test")
    low, high = (100 * end for end in (found.pairs[0].difference.interval.low, found.pairs[0].difference.interval.high))
    assert found.pairs[0].sentence == (
        f"a is better than b by 2.2 points (95 %: {low:.1f} to {high:.1f}; McNemar p = 0.0005): more than noise."
    )
    ours, theirs = rights(400, 22, 30, 48)
    found = compare_predictions([run(ours, "runs/a"), run(theirs, "runs/b")], "test")
    said = found.pairs[0].sentence
    assert said.startswith("b and a do not differ significantly on 500 images: b leads by 1.6 points (95 %: −")
    assert said.endswith("McNemar p = 0.332); detecting such a difference with a power of 80 % takes about 3,200.")
    ours, theirs = rights(400, 3, 3, 4)
    found = compare_predictions([run(ours, "runs/a", images=False), run(theirs, "runs/b", images=False)], "test")
    same = "both have the same accuracy, with different predictions for 6 samples"
    assert f"do not differ significantly on 410 samples: {same}" in found.pairs[0].sentence


@pytest.mark.slow
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(1, 60))
def test_the_verdict_is_the_tests_and_turning_the_runs_turns_the_difference(both, first, second, neither):
    ours, theirs = rights(both, first, second, neither)
    found, turned = difference_of_classes(ours, theirs), difference_of_classes(theirs, ours)
    assert found.p_value == mcnemar(first, second) == turned.p_value
    assert found.value == pytest.approx((first - second) / len(ours))
    assert found.interval.low <= found.value + 1e-9 or first + second < 20
    assert -1 <= found.interval.low < found.interval.high <= 1
    assert found.reversed().value == -found.value
    assert found.reversed().interval.low == -found.interval.high
    pair = compare_predictions([run(ours), run(theirs, "runs/b")], "test").pairs[0]
    assert pair.difference.value >= 0
    assert pair.better == ("runs/b" if second > first else "runs/a").removeprefix("runs/")
    assert pair.more_than_noise == (mcnemar(first, second) < 0.05) == ("more than noise" in pair.sentence)


def test_the_interval_is_that_of_scipys_bootstrap():
    ours, theirs = rights(500, 90, 60, 150)
    found = difference_of_classes(ours, theirs).interval
    rng = np.random.default_rng(0)
    lead = (ours.astype(np.int64) - theirs,)
    other = stats.bootstrap(lead, np.mean, n_resamples=4000, method="percentile", rng=rng, batch=500)
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.003)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.003)
    assert found.method == "paired bootstrap"


def test_few_differing_samples_leave_doubt():
    ours, theirs = rights(50, 0, 0, 0)
    found = difference_of_classes(ours, theirs)
    assert found.interval.low < -0.01 < 0.01 < found.interval.high
    assert found.interval.method == "Agresti and Min"
    assert found.needed() is None


def test_an_interval_rules_out_zero_where_the_test_does():
    """Four samples of 30 decide: drawn anew, one of them is there nearly always, but all lie on one side by chance once
    in eight."""
    theirs, ours = np.zeros(30), np.repeat([0.0, 1.0], [26, 4])
    found = difference_of_rows(theirs, ours, lambda first, second: float(second.mean() - first.mean()))
    assert found.p_value > 0.05
    assert found.interval.low <= 0 < found.interval.high
    assert found.interval.method == "paired permutation"
    plain = difference_of_rows(theirs, ours + 1, lambda first, second: float(second.mean() - first.mean()))
    assert plain.p_value < 0.05
    assert 0 < plain.interval.low < plain.value
    assert plain.interval.method == "paired bootstrap"


def test_runs_that_predict_the_same_have_no_interval():
    rows = np.random.default_rng(0).random(30)
    found = difference_of_rows(rows, rows.copy(), lambda first, second: float(second.mean() - first.mean()))
    assert (found.p_value, found.interval, found.variance) == (1.0, None, None)


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Pairs that differ on 6 % and 3 % of all: of 400 intervals about 95 % hold the 3 points."""
    rng = np.random.default_rng(0)
    held = dict.fromkeys((100, 1000), 0)
    for n in held:
        for _ in range(400):
            sort = rng.choice(3, n, p=[0.06, 0.03, 0.91])
            found = difference_of_classes(sort == 0, sort == 1).interval
            held[n] += found.low <= 0.03 <= found.high
    assert all(0.92 <= count / 400 <= 0.99 for count in held.values()), held


def test_so_many_samples_as_are_said_to_be_needed_show_it_four_times_in_five():
    ours, theirs = rights(900, 40, 25, 35)
    found = difference_of_classes(ours, theirs)
    needed, rng = found.needed(), np.random.default_rng(0)
    counts = rng.multinomial(needed, [0.04, 0.025, 0.935], 400)
    seen = np.mean([mcnemar(int(a), int(b)) < 0.05 for a, b, _ in counts])
    assert 0.72 <= seen <= 0.86


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_refuses_as_its_definition_says(p_values):
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        refused, places = set(), np.argsort(p_values, kind="stable")
        for rank, place in enumerate(places):
            if (len(p_values) - rank) * p_values[place] >= level:
                break
            refused.add(int(place))
        assert {k for k, p in enumerate(corrected) if p < level} == refused
    assert all(c >= p for c, p in zip(corrected, p_values, strict=True))


def test_several_runs_are_corrected_for():
    rng = np.random.default_rng(0)
    runs = [run(rng.random(300) < 0.9, f"runs/{name}") for name in "abcde"]
    found = compare_predictions(runs, "test")
    assert len(found.pairs) == len(list(combinations(runs, 2)))
    assert [pair.p_corrected for pair in found.pairs] == holm([pair.difference.p_value for pair in found.pairs])
    assert "after Holm" in str(found)
    assert "… and 6 pairs without" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80
    assert json.loads(json.dumps(found.to_json()))["pairs"][9]["sentence"] == found.pairs[9].sentence


def test_numbers():
    rng = np.random.default_rng(0)
    targets = rng.normal(20, 5, (200, 1)).astype(np.float32)
    good, bad = (targets + rng.normal(0, scale, targets.shape).astype(np.float32) for scale in (1, 3))
    rmse = [float(np.sqrt(((np.float64(x) - targets) ** 2).mean())) for x in (good, bad)]
    assert Regress.difference(Regress.rows(good, targets), Regress.rows(bad, targets)).value == pytest.approx(
        rmse[1] - rmse[0]
    )
    runs = [
        run(
            np.ones(200, bool),
            path,
            predictions=predictions,
            targets=targets,
            task=Regress,
            classes=(),
            value=r,
            images=False,
        )
        for path, predictions, r in zip(("x/good", "x/bad"), (good, bad), rmse, strict=True)
    ]
    compared = compare_predictions(runs, "test")
    pair = compared.pairs[0]
    assert pair.more_than_noise
    assert pair.sentence.startswith(f"good is better than bad by {rmse[1] - rmse[0]:.3g} of RMSE (95 %: ")
    for one, value in zip(compared.runs, rmse, strict=True):
        assert one.interval is not None
        assert one.interval.low < value < one.interval.high
        assert f"{number(one.interval.low)} to {number(one.interval.high)}" in str(compared)
    assert "train samples/s" in str(compared)


def test_masks():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (24, 8, 8)).astype(np.uint8)
    good, bad = (np.where(rng.random(targets.shape) < wrong, 1 - targets, targets) for wrong in (0.05, 0.3))
    targets[:, 0] = 255
    runs = [
        run(np.ones(24, bool), path, predictions=predictions, targets=targets, task=Segment, value=iou)
        for path, predictions, iou in (("bad", bad, 0.5), ("good", good, 0.9))
    ]
    pair = compare_predictions(runs, "test").pairs[0]
    task = Segment(("a", "b"))
    iou = [task.measure(torch.from_numpy(x), torch.from_numpy(targets))["iou"] for x in (good, bad)]
    assert pair.difference.value == pytest.approx(iou[0] - iou[1])
    assert pair.sentence.startswith(
        f"good is better than bad by {100 * (iou[0] - iou[1]):.1f} points of mean IoU (95 %: "
    )


def test_samples_are_matched_by_id():
    right = np.arange(40) % 3 > 0
    order = np.random.default_rng(0).permutation(40)
    found = compare_predictions([run(right), run(right[order], "runs/b", samples=np.arange(40)[order])], "test")
    assert found.pairs[0].difference.differing == 0


def test_samples_are_the_same_by_their_paths_wherever_others_are_missing():
    right = np.arange(40) % 3 > 0
    paths = np.array([f"cat/{number}.png" for number in range(40)])
    order = np.argsort(paths)
    found = compare_predictions([run(right, samples=paths), run(right[order], "runs/b", samples=paths[order])], "test")
    assert found.pairs[0].difference.differing == 0
    others = np.array([*paths[1:], "cat/40.png"])
    with pytest.raises(DataError, match="40 of made in runs/b; 39 are in both"):
        compare_predictions([run(right, samples=paths), run(right, "runs/b", samples=others)], "test")


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        ({"classes": ("a", "c")}, "different classes: a, b in runs/a, a, c in runs/b"),
        ({"classes": ("a", "c"), "data_fields": FIELDS | {"data.names": "label=kind"}}, "different classes"),
        ({"samples": np.arange(40) + 40, "data_fields": FIELDS | {"data.group": "day"}}, "0 are in both"),
        ({"classes": ("a", "b", "c")}, "different classes: a, b in runs/a, a, b, c in runs/b"),
        ({"task": Regress}, "the task classify, runs/b the task regress"),
        ({"samples": np.arange(40) + 10}, "40 test samples of made in runs/a, 40 of made in runs/b; 30 are in both"),
        ({"targets": (np.arange(40) < 3).astype(np.int64)}, "3 of 40 test samples with other labels in runs/b"),
    ],
)
def test_other_data_are_refused(fields, got):
    right = np.ones(40, bool)
    with pytest.raises(DataError) as refused:
        compare_predictions([run(right), run(right, "runs/b", **fields)], "test")
    assert got in refused.value.got
    other = "".join(f" --{name} null" for name, value in fields.get("data_fields", FIELDS).items() if value)
    command = f"striate train mnist5k --config runs/b/config.yaml{other} --out runs/b-same-data"
    each = "striate eval runs/a; striate eval runs/b"
    apart = "task" in fields or len(fields.get("classes", "ab")) != 2  # a network has its number of outputs
    assert refused.value.remedy.endswith(each if apart else command)


def test_names_are_as_short_as_they_can_be():
    assert short_names(["runs/a", "runs/b"]) == ["a", "b"]
    assert short_names(["one/a", "two/a", "two/b"]) == ["one/a", "two/a", "two/b"]
    assert short_names([".", "a"]) == [".", "a"]


def test_of_samples_in_groups_whole_groups_are_permuted_and_drawn():
    """Ten speakers of twenty recordings each, all of one right or wrong together: as if there were ten samples."""
    ours, theirs = np.repeat([1, 1, 1, 1, 1, 1, 0, 1, 1, 1], 20) > 0, np.repeat([1, 1, 0, 0, 0, 1, 1, 1, 1, 0], 20) > 0
    groups = [f"speaker {number // 20}" for number in range(200)]
    alone = compare_predictions([run(ours, "runs/a"), run(theirs, "runs/b")], "test").pairs[0]
    assert alone.more_than_noise
    pair = compare_predictions([run(ours, "runs/a", groups=groups), run(theirs, "runs/b")], "test").pairs[0]
    assert pair.difference.value == pytest.approx(alone.difference.value)
    assert pair.difference.differing == 100
    assert pair.difference.p_value == pytest.approx(mcnemar(4, 1))
    assert "paired permutation of 10 groups" in pair.sentence
    assert not pair.more_than_noise
    assert pair.difference.interval is None, "ten groups are too few for a bootstrap"


def test_groups_stay_with_their_samples_where_the_second_run_has_another_order():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, 300)) < [[0.9], [0.7]]
    groups, order = [f"{number % 60}" for number in range(300)], rng.permutation(300)
    first = run(ours, "runs/a", samples=np.arange(300))
    second = {"samples": order, "groups": [groups[place] for place in order]}
    found = compare_predictions([first, run(theirs[order], "runs/b", **second)], "test")
    other = compare_predictions([run(ours, "runs/a", groups=groups), run(theirs, "runs/b")], "test")
    assert found.pairs[0] == other.pairs[0]
    assert found.runs[0].interval == other.runs[0].interval
    assert found.runs[0].interval.method == "bootstrap over 60 groups"


@pytest.mark.slow
def test_a_bootstrap_of_groups_covers_the_truth_and_one_of_samples_does_not():
    rng, covered, alone = np.random.default_rng(1), 0, 0
    groups = [f"{number // 10}" for number in range(400)]
    for seed in range(60):
        rates = np.repeat(rng.beta(1, 1, (2, 40)), 10, axis=1)  # each group has a rate of its own
        ours, theirs = (rng.random((2, 400)) < rates).astype(float)
        for counted, names in ((True, groups), (False, ())):
            found = difference_of_rows(theirs, ours, lambda a, b: b.mean() - a.mean(), seed, names).interval
            held = found.low <= 0 <= found.high
            covered, alone = covered + (held and counted), alone + (held and not counted)
    assert covered >= 52
    assert alone <= 45
