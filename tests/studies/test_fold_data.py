"""Nothing of what a fold holds out is known to what is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_folds import request, table

from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.errors import ConfigError
from striate.studies.cross_validation.fold_data import deal_repeats, fold_dataset, pool_samples
from striate.studies.cross_validation.plan_cross_validation import plan_cross_validation


def test_all_samples_take_part_where_striate_would_split_whatever_it_would_choose() -> None:
    pools = [pool_samples(load_dataset(DataConfig(source=table(), split_seed=seed))) for seed in (0, 1)]
    assert len(pools[0]) == 60
    for pool in pools:
        assert pool.samples.ids.tolist() == list(range(60))
        assert pool.left_out == 0
    assert torch.equal(pools[0].samples.inputs, pools[1].samples.inputs)
    assert pools[0].contents == pools[1].contents


def test_a_given_test_split_takes_no_part() -> None:
    x, y = np.random.default_rng(0).normal(size=(90, 4)), np.arange(90) % 3
    np.savez("g.npz", x_train=x[:50], y_train=y[:50], x_val=x[50:60], y_val=y[50:60], x_test=x[60:], y_test=y[60:])
    data = load_dataset(DataConfig(source="g.npz"))
    pool = pool_samples(data)
    assert (len(pool), pool.left_out) == (60, 30)
    assert not set(pool.samples.ids.tolist()) & set(data.splits["test"].ids.tolist())


def test_the_parts_of_a_fold_are_a_partition_and_hold_equal_samples_together() -> None:
    x = np.random.default_rng(0).normal(size=(30, 4)).repeat(2, 0)  # each sample twice
    pool = pool_samples(load_dataset(DataConfig(source=table(x=x, y=np.arange(30).repeat(2) % 3))))
    dealt = deal_repeats(pool, 3, 2, 0)
    assert not np.array_equal(dealt[0], dealt[1])
    for repeat in range(2):
        for fold in range(3):
            data = fold_dataset(pool, dealt[repeat] == fold, repeat=repeat, fold=fold, split_seed=0, val=0.2)
            ids = [set(data.splits[name].ids.tolist()) for name in ("train", "val", "test")]
            assert sum(map(len, ids)) == len(set.union(*ids)) == 60
            assert ids[2] == set(np.flatnonzero(dealt[repeat] == fold).tolist())
            pairs = [{i // 2 for i in part} for part in ids]
            assert not pairs[0] & pairs[1]
            assert not (pairs[0] | pairs[1]) & pairs[2]


def test_every_sample_is_held_out_once_a_repeat() -> None:
    pool = pool_samples(load_dataset(DataConfig(source=table())))
    dealt = deal_repeats(pool, 5, 3, 0)
    assert dealt.shape == (3, 60)
    assert all(np.bincount(row).tolist() == [12] * 5 for row in dealt)


def test_the_share_for_validation_is_of_what_is_not_held_out() -> None:
    pool = pool_samples(load_dataset(DataConfig(source=table())))
    held = deal_repeats(pool, 3, 1, 0)[0] == 0
    sizes = {
        val: len(fold_dataset(pool, held, repeat=0, fold=0, split_seed=0, val=val).splits["val"]) for val in (0.1, 0.5)
    }
    assert sizes == {0.1: 3, 0.5: 21}  # of each of three classes 13 or 14 are left


def test_a_fold_without_samples_to_validate_on_is_refused() -> None:
    pool = pool_samples(load_dataset(DataConfig(source=table(n=9))))
    dealt = deal_repeats(pool, 3, 1, 0)[0]
    with pytest.raises(ConfigError, match="no samples left to validate"):
        fold_dataset(pool, dealt < 2, repeat=0, fold=0, split_seed=0, val=0.1)


@pytest.mark.parametrize("annotation", ["class", "number"])
def test_figures_for_normalization_do_not_know_what_is_held_out(annotation: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), np.arange(60) % 3
    x[7] = 1e6  # the planted outlier
    targets = y if annotation == "class" else np.where(np.arange(60) == 7, 1e6, rng.normal(size=60))
    fields = {} if annotation == "class" else {"model.name": "fc(6) relu fc(1)"}
    study = plan_cross_validation(request(table(x=x, y=targets), "5x1", **fields))
    seen = []
    for fold in range(5):
        prepared = study.prepare(0, fold)
        part = next(n for n, split in prepared.data.splits.items() if 7 in split.ids.tolist())
        known = max(map(abs, prepared.normalization.mean)) > 100
        assert known == (part == "train")
        if annotation == "number":
            assert (abs(prepared.task.mean[0]) > 100) == (part == "train")
        seen.append(part)
    assert seen.count("test") == 1
    assert "train" in seen


def test_class_weights_are_those_of_the_training_part() -> None:
    y = np.array([0] * 40 + [1] * 20)
    config = request(table(y=y), "5x1", **{"task.class_weights": "balanced", "model.name": "fc(6) relu fc(2)"})
    prepared = plan_cross_validation(config).prepare(0, 2)
    counts = prepared.data.splits["train"].targets.bincount().double()
    expected = counts.sum() / (2 * counts)
    assert prepared.task.class_weights == pytest.approx(expected.tolist())
