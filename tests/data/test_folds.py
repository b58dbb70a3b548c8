"""Folds are a partition, balanced, and never part what belongs together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data import folds as folds_module
from striate.data.folds import deal_folds, parse_folds, strata_of
from striate.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"), [("5x5", (5, 5)), ("10x1", (10, 1)), ("5", (5, 1)), (" 3 X 2 ", (3, 2)), ("2×4", (2, 4))]
)
def test_folds_and_repeats_are_read(text: str, expected: tuple[int, int]) -> None:
    assert parse_folds(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1x5", "1 fold"),
        ("0", "0 folds"),
        ("5x0", "0 repeats"),
        ("five", "5x5"),
        ("5x5x5", "FOLDSxREPEATS"),
        ("-5x2", "FOLDSxREPEATS"),
        ("5.5", "FOLDSxREPEATS"),
        ("", "FOLDSxREPEATS"),
        ("1001", "1,000"),
        ("5x1001", "1,000"),
        ("99999999999x1", "FOLDSxREPEATS"),
    ],
)
def test_what_is_no_number_of_folds_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_folds(text)
    words = caught.value.remedy.split()
    parse_folds(words[words.index("--cv") + 1].rstrip(":"))  # the remedy itself is right


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.lists(st.integers(6, 30), min_size=1, max_size=4))
def test_folds_of_single_samples_are_a_balanced_partition(folds: int, seed: int, sizes: list[int]) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    dealt = deal_folds(range(len(strata)), strata, folds, seed)
    assert set(dealt) == set(range(folds))  # each sample in exactly one fold, no fold empty
    for stratum in range(len(sizes)):
        counts = np.bincount(dealt[strata == stratum], minlength=folds)
        assert counts.max() - counts.min() <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 4), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=12, max_size=40))
def test_a_unit_is_never_parted(folds: int, seed: int, sizes: list[int]) -> None:
    units = np.repeat(np.arange(len(sizes)), sizes)
    strata = units % 2
    dealt = deal_folds(units.tolist(), strata, folds, seed)
    assert set(dealt) == set(range(folds))
    for unit in np.unique(units):
        assert len(set(dealt[units == unit])) == 1
    for stratum in (0, 1):
        counts = np.bincount(dealt[strata == stratum], minlength=folds)
        assert counts.max() - counts.min() <= 2 * max(sizes)


def test_many_units_are_not_parted_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds_module, "_BALANCED", 10)
    units = np.repeat(np.arange(100), 2)
    dealt = deal_folds(units.tolist(), units % 3, 5, 0)
    assert all(len(set(dealt[units == unit])) == 1 for unit in range(100))
    assert set(np.bincount(dealt)) <= {38, 40, 42}


def test_the_same_seed_deals_the_same_and_another_seed_another() -> None:
    strata = np.arange(60) % 3
    one, same, other = (deal_folds(range(60), strata, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_class_with_fewer_samples_than_folds_is_named_with_a_remedy() -> None:
    strata = np.array([0] * 20 + [1] * 3)
    with pytest.raises(ConfigError, match="the class rare") as caught:
        deal_folds(range(23), strata, 5, 0, names=("common", "rare"))
    assert "--cv 3x1" in caught.value.remedy
    assert set(deal_folds(range(23), strata, 3, 0)) == {0, 1, 2}


def test_equal_samples_count_as_one_of_their_class() -> None:
    strata = np.array([0] * 20 + [1] * 6)
    units = [*range(20), *[99] * 6]
    with pytest.raises(ConfigError, match="1 distinct samples or groups of the class rare"):
        deal_folds(units, strata, 5, 0, names=("common", "rare"))


def test_numbers_are_dealt_so_that_each_fold_has_low_and_high_ones() -> None:
    targets = np.random.default_rng(0).lognormal(size=(200, 1))
    strata = strata_of(targets, "number", 5)
    dealt = deal_folds(range(200), strata, 5, 0)
    quartile = np.quantile(targets, 0.75)
    for fold in range(5):
        assert 8 <= int((targets[dealt == fold] > quartile).sum()) <= 12  # 10 of 40


def test_several_numbers_count_alike_whatever_their_units() -> None:
    rng = np.random.default_rng(1)
    large, small = rng.normal(size=100) * 1e6, rng.normal(size=100)
    one = strata_of(np.stack([large, small], 1), "number", 5)
    assert np.array_equal(one, strata_of(np.stack([large / 1e6, small * 1e3], 1), "number", 5))


@pytest.mark.parametrize("targets", [np.ones((30, 1)), np.arange(12.0)[:, None]])
def test_equal_or_few_numbers_make_fewer_parts(targets: np.ndarray) -> None:
    dealt = deal_folds(range(len(targets)), strata_of(targets, "number", 5), 5, 0)
    counts = np.bincount(dealt, minlength=5)
    assert counts.max() - counts.min() <= 1


def test_numbers_of_few_groups_are_dealt_without_parting_them() -> None:
    units = np.repeat(np.arange(20), 10)  # each group has numbers of its own size: a tenth of them is two groups
    targets = (units + np.random.default_rng(0).uniform(0, 0.5, 200))[:, None]
    for repeat in range(5):
        dealt = deal_folds(units.tolist(), strata_of(targets, "number", 5, units.tolist()), 5, repeat)
        assert np.bincount(dealt).tolist() == [40] * 5
        assert all(len(set(dealt[units == unit])) == 1 for unit in range(20))
        high = [int((targets[dealt == fold] >= 10).sum()) for fold in range(5)]
        assert high == [20] * 5  # the upper half of the numbers, evenly


def test_a_number_that_few_samples_have_is_no_class() -> None:
    targets = np.array([0.0] * 3 + [1.0] * 97)[:, None]
    dealt = deal_folds(range(100), strata_of(targets, "number", 5), 5, 0)
    assert np.bincount(dealt).tolist() == [20] * 5


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.lists(st.tuples(st.integers(1, 9), st.floats(-9, 9, width=16)), min_size=6, max_size=30))
def test_numbers_are_always_dealt_where_there_is_a_group_for_each_fold(folds: int, groups) -> None:
    sizes, values = zip(*groups, strict=True)
    units = np.repeat(np.arange(len(groups)), sizes).tolist()
    targets = np.repeat(np.array(values), sizes)[:, None]
    dealt = deal_folds(units, strata_of(targets, "number", folds, units), folds, 0)
    assert set(dealt) == set(range(folds))
    assert all(len({fold for fold, u in zip(dealt, units, strict=True) if u == unit}) == 1 for unit in set(units))


def test_fewer_groups_than_folds_are_refused_for_numbers_too() -> None:
    units = np.repeat(np.arange(3), 10).tolist()
    with pytest.raises(ConfigError, match="3 distinct samples or groups") as caught:
        deal_folds(units, strata_of(np.arange(30.0)[:, None], "number", 5, units), 5, 0)
    assert "--cv 3x1" in caught.value.remedy
