"""The size of training images is a function of the step alone: it grows, in few stages, and ends full."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.training.config import ScheduleConfig
from striate.training.progressive_resizing import image_size, smaller_sizes, stages

SIDES = st.integers(4, 300)
SHARES = st.floats(0.25, 1)


@pytest.mark.parametrize(
    ("first", "full", "sizes"),
    [
        (0.75, (32, 32), ((24, 24), (28, 28))),
        (0.75, (28, 28), ((20, 20), (24, 24))),
        (0.5, (224, 224), ((112, 112), (140, 140), (168, 168), (196, 196))),
        (0.5, (160, 120), ((80, 60), (100, 76), (120, 92), (140, 104))),
        (1.0, (32, 32), ()),
        (0.98, (32, 32), ()),
        (0.25, (8, 8), ((4, 4),)),
    ],
)
def test_sizes_of_known_images(first, full, sizes) -> None:
    assert smaller_sizes(first, full) == sizes


@given(SHARES, SIDES, SIDES)
def test_smaller_sizes_grow_and_are_few_and_on_the_grid(first, height, width) -> None:
    sizes = smaller_sizes(first, (height, width))
    assert len(sizes) <= 4
    growing = [*sizes, (height, width)]
    for one, two in pairwise(growing):
        assert one != two
        assert one[0] <= two[0]
        assert one[1] <= two[1]
    for size in sizes:
        for side, whole in zip(size, (height, width), strict=True):
            assert side == whole or (side % 4 == 0 and side >= 4)


@given(SHARES, st.floats(0.01, 0.99), st.integers(1, 500), SIDES, SIDES)
def test_stages_cover_every_step_once_and_end_full(first, full_from, steps, height, width) -> None:
    schedule = ScheduleConfig(first_size=first, full_size_from=full_from)
    plan = stages(schedule, steps, (height, width))
    assert [stage.first for stage in plan] == [0, *(stage.end for stage in plan[:-1])]
    assert plan[-1].end == steps
    assert plan[-1].size is None
    sizes = [image_size(schedule, step, steps, (height, width)) for step in range(steps)]
    assert [size for stage in plan for size in [stage.size] * (stage.end - stage.first)] == sizes
    assert all(size is None for size in sizes[int(full_from * steps) + 1 :])


def test_what_is_no_image_and_what_does_not_grow_have_one_stage() -> None:
    assert [s.size for s in stages(ScheduleConfig(first_size=0.5), 10, None)] == [None]
    assert [s.size for s in stages(ScheduleConfig(), 10, (32, 32))] == [None]
    assert image_size(ScheduleConfig(first_size=1.0), 0, 10, (32, 32)) is None
    assert image_size(ScheduleConfig(first_size=0.5), 0, 10, (32, 32)) == (16, 16)


def test_half_way_they_are_full_where_nothing_is_said_from_sixty_percent_on() -> None:
    schedule = ScheduleConfig(first_size=0.5)
    assert image_size(schedule, 59, 100, (32, 32)) is not None
    assert image_size(schedule, 60, 100, (32, 32)) is None
