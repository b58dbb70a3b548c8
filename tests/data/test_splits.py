from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.data.splits import assign_splits
from striate.errors import ConfigError

SAMPLES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), max_size=150)
GIVEN = st.sampled_from([None, "train", "val", "test"])


def content(number):
    return number.to_bytes(16, "big")


def split(samples, given=None, val=0.1, test=0.2, seed=0):
    return assign_splits(
        [content(c) for c, _ in samples],
        [k for _, k in samples],
        given or [None] * len(samples),
        val_fraction=val,
        test_fraction=test,
        seed=seed,
    )


@given(SAMPLES, st.integers(0, 5), st.floats(0.01, 0.49), st.floats(0.01, 0.49))
def test_identical_bytes_are_never_in_two_splits_even_across_classes(samples, seed, val, test):
    where = defaultdict(set)
    for (number, _), name in zip(samples, split(samples, None, val, test, seed), strict=True):
        where[number].add(name)
    assert all(len(names) == 1 for names in where.values())


@given(
    st.dictionaries(st.integers(0, 10_000), st.integers(0, 3), max_size=200),
    st.dictionaries(st.integers(10_001, 20_000), st.integers(0, 3), max_size=5),
    st.integers(0, 5),
)
def test_adding_images_moves_at_most_two_of_the_others_each(before, added, seed):
    old = dict(zip(before, split(list(before.items()), seed=seed), strict=True))
    after = before | added
    new = dict(zip(after, split(list(after.items()), seed=seed), strict=True))
    moved = sum(old[number] != new[number] for number in old)
    assert moved <= 2 * len(added)


@given(
    st.dictionaries(st.integers(0, 10_000), st.integers(0, 3), max_size=120),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
)
def test_a_class_with_three_contents_is_in_every_split(samples, val, test):
    by_class = defaultdict(list)
    for (_, k), name in zip(samples.items(), split(list(samples.items()), None, val, test), strict=True):
        by_class[k].append(name)
    for names in by_class.values():
        assert "train" in names
        if len(names) >= 3:
            assert set(names) == {"train", "val", "test"}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2), GIVEN), max_size=80))
def test_given_splits_are_kept_and_made_ones_do_not_leak(samples):
    given = [g for _, _, g in samples]
    names = split([(c, k) for c, k, _ in samples], given)
    present = set(given) - {None}
    for name, fixed in zip(names, given, strict=True):
        # A given training sample may be drawn into a split that was not given; into a given one never.
        assert name == fixed or fixed is None or (fixed == "train" and name not in present)
    where = defaultdict(set)
    for (number, _, fixed), name in zip(samples, names, strict=True):
        if fixed is None or name not in present:
            where[number].add(name)
    assert all(len(found) == 1 for found in where.values())


def test_fractions_apply_to_distinct_contents():
    samples = [(n, 0) for n in range(100)] * 3
    names = split(samples)
    assert [names[:100].count(s) for s in ("train", "val", "test")] == [70, 10, 20]
    assert names[:100] == names[100:200] == names[200:]


def test_another_seed_gives_another_split_and_order_does_not_matter():
    samples = [(n, n % 2) for n in range(100)]
    assert split(samples) != split(samples, seed=1)
    assert split(samples[::-1]) == split(samples)[::-1]


def test_two_contents_are_one_to_train_and_one_to_test():
    assert sorted(split([(1, 0), (2, 0)])) == ["test", "train"]
    assert split([(1, 0)]) == ["train"]


def test_fractions_that_leave_nothing_to_train_on():
    with pytest.raises(ConfigError, match="a sum below 1"):
        split([(1, 0)], val=0.5, test=0.5)
    # A fraction that is not used cannot hurt.
    assert "train" in split([(n, 0) for n in range(9)], ["test"] + ["train"] * 8, val=0.5, test=0.5)
