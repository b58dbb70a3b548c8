"""Slices: what was planted is found, and what is chance is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from answers_made import assessed
from striate.data.dataset import SampleFacts
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import PlainMetrics, Slice, slice_lines
from striate.tasks.groups import sample_groups
from striate.tasks.metric import Metric
from striate.tasks.show import slices_section


def answers(n=800, *, wrong, seed=0):
    """Two classes; wrong where `wrong` (N,) is true."""
    truth = np.random.default_rng(seed).integers(0, 2, n)
    said = np.where(wrong, 1 - truth, truth)
    return truth, np.where(said[:, None] == np.arange(2), 0.8, 0.2).astype(np.float32)


def test_a_network_that_fails_in_the_dark_is_seen_to():
    rng = np.random.default_rng(0)
    brightness = rng.uniform(0, 255, 800).astype(np.float32)
    wrong = rng.random(800) < np.where(brightness < 60, 0.5, 0.05)
    figures = assessed(*answers(wrong=wrong), brightness=brightness)
    dark = next(entry for entry in figures.slices if entry.by == "brightness")
    assert dark.differs
    assert dark.name.startswith("0 to ")
    assert dark.value.value < 0.7
    assert not any(entry.differs for entry in figures.slices if entry.by == "class")


def test_columns_of_a_manifest_are_slices():
    rng = np.random.default_rng(1)
    camera = rng.choice(["old", "new", ""], 800)
    age = rng.uniform(20, 80, 800)
    wrong = rng.random(800) < np.where(camera == "old", 0.4, 0.1)
    columns = {"camera": tuple(camera), "age": tuple(f"{value:.2f}" for value in age)}
    slices = assessed(*answers(wrong=wrong), columns=columns).slices
    named = {(entry.by, entry.name): entry for entry in slices}
    assert named["camera", "old"].differs
    assert named["camera", "(empty)"].n == (camera == "").sum()
    ages = [entry for entry in slices if entry.by == "age"]
    assert len(ages) == 4
    assert sum(entry.n for entry in ages) == 800
    assert not any(entry.differs for entry in ages)


@pytest.mark.slow
def test_chance_is_not_taken_for_a_difference():
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        columns = {f"column {k}": tuple(rng.choice(["a", "b", "c"], 400)) for k in range(5)}
        figures = assessed(*answers(400, wrong=rng.random(400) < 0.2, seed=seed), columns=columns)
        found += any(entry.differs for entry in figures.slices)
    assert found <= 2


def test_small_pictures_are_a_slice_where_sizes_differ():
    sizes = ((32, 32),) * 200 + ((64, 48),) * 200
    wrong = np.arange(400) < 100
    slices = [entry for entry in assessed(*answers(400, wrong=wrong), sizes=sizes).slices if entry.by == "size"]
    assert [(entry.name, entry.n) for entry in slices] == [("32 px", 200), ("55 px", 200)]
    assert slices[0].differs
    assert assessed(*answers(400, wrong=wrong), sizes=((32, 32),) * 400).slices[0].by == "class"


def test_the_surest_differences_are_listed_whatever_they_are_by():
    found = [Slice("class", str(k), 30, Estimate(0.25), 0.5**k, differs=True) for k in range(10)]
    lines = slice_lines(found, Metric("mse", "mean squared error", higher_is_better=False))
    assert " mean squared error " in lines[0]
    assert [line.split()[1] for line in lines[1:9]] == list("98765432")
    assert lines[9] == "  … and 2 more with a larger p-value"
    assert (
        len({line.index(end) + len(end) for line, end in zip(lines[:2], ["squared error", "0.25"], strict=True)}) == 1
    )
    assert max(map(len, lines)) <= 80
    figures = PlainMetrics(Metric("mse"), 300, {"mse": Estimate(0.25)}, tuple(found))
    assert "class: 9" in slices_section(figures, Metric("mse"), "test")[0].sentences[0]


def test_quarters_have_names_of_their_own():
    brightness = np.repeat(np.array([34, 40.7, 41.1, 41.4], np.float32), 10)
    groups = sample_groups(SampleFacts(()), 40, brightness=brightness)
    assert [group.name for group in groups] == ["34", "40.7", "41.1", "41.4"]


@given(st.lists(st.floats(0, 255, width=32), min_size=20, max_size=60))
def test_quarters_hold_every_sample_once(brightness):
    groups = sample_groups(SampleFacts(()), len(brightness), brightness=np.array(brightness, np.float32))
    held = sum((group.members.astype(int) for group in groups), np.zeros(len(brightness), int))
    assert held.max(initial=0) <= 1


@given(st.lists(st.sampled_from(["a", "b", "", "1", "nan", "1e400"]), min_size=20, max_size=40))
def test_any_text_makes_groups(texts):
    for group in sample_groups(SampleFacts((), (), {"column": tuple(texts)}), len(texts)):
        assert 5 <= group.members.sum() < len(texts)
