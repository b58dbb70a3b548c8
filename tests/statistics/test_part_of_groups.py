"""A part of samples against all others, where samples of a group are alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from striate.statistics.part_of_groups import part_differs

GROUPS, OF_EACH, TRIALS = 30, 8, 200


def _made(random: np.random.Generator, by_group: bool, effect: float = 0.0):
    """Values that are alike within groups, members, and the groups' names."""
    units = np.repeat(np.arange(GROUPS), OF_EACH)
    members = (random.random(GROUPS) < 0.4)[units] if by_group else random.random(len(units)) < 0.4
    values = random.normal(size=GROUPS)[units] + 0.3 * random.normal(size=len(units)) + effect * members
    return values, members, [f"g{unit}" for unit in units]


@pytest.mark.parametrize("by_group", [True, False])
def test_chance_is_reported_as_rarely_as_it_says(by_group):
    random = np.random.default_rng(0)
    made = [_made(random, by_group) for _ in range(TRIALS)]
    wrong = np.mean([part_differs(*one) < 0.05 for one in made])
    assert wrong <= 0.09
    if by_group:
        plain = np.mean([mannwhitneyu(values[some], values[~some]).pvalue < 0.05 for values, some, _ in made])
        assert plain > 0.3, "a test of single samples takes groups for evidence"


@pytest.mark.parametrize(("by_group", "effect"), [(True, 2.0), (False, 0.5)])
def test_a_true_difference_is_seen(by_group, effect):
    random = np.random.default_rng(1)
    found = [part_differs(*_made(random, by_group, effect)) for _ in range(40)]
    assert np.mean(np.array(found) < 0.01) > 0.8


def test_one_group_alone_is_never_more_than_one_of_so_many():
    values, groups = np.repeat([9.0, *np.linspace(0, 1, 24)], 4), np.repeat(np.arange(25), 4).astype(str).tolist()
    members = np.arange(100) < 4
    assert 1 / 25 <= part_differs(values, members, groups) < 0.1
    divided = np.arange(100) < 2
    assert part_differs(values, divided, groups) == 1, "half of a group: nothing to compare its group with"


def test_equal_values_do_not_differ():
    values, members, groups = _made(np.random.default_rng(2), True)
    assert part_differs(np.zeros_like(values), members, groups) == 1
