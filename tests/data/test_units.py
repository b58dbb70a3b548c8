"""What belongs together stays together, and nothing else is moved by it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from striate.data.splits import find_units

SAMPLES = st.lists(st.tuples(st.integers(0, 12), st.sampled_from([None, "", "a", "b", "c"])), min_size=1, max_size=40)


def units(samples: list[tuple[int, str | None]]) -> list[bytes]:
    return find_units([bytes([content]) for content, _ in samples], [group for _, group in samples])


@given(SAMPLES)
def test_equal_contents_and_equal_groups_share_a_unit(samples) -> None:
    keys = units(samples)
    for (content, group), key in zip(samples, keys, strict=True):
        for (other, another), second in zip(samples, keys, strict=True):
            if content == other or (group and group == another):
                assert key == second


@given(SAMPLES)
def test_what_no_chain_of_contents_and_groups_connects_is_apart(samples) -> None:
    keys = units(samples)
    reached = {0}
    while True:
        more = {
            j
            for i in reached
            for j, (content, group) in enumerate(samples)
            if content == samples[i][0] or (group and group == samples[i][1])
        }
        if more <= reached:
            break
        reached |= more
    assert {i for i, key in enumerate(keys) if key == keys[0]} == reached


def test_without_groups_a_unit_is_the_content() -> None:
    assert find_units([b"x", b"y", b"x"], []) == [b"x", b"y", b"x"]
    assert find_units([b"x", b"y"], [None, ""]) == [b"x", b"y"]


def test_groups_that_share_a_content_are_one_and_keep_the_name_of_the_first() -> None:
    alone = find_units([b"1", b"2"], ["a", "a"])
    joined = find_units([b"1", b"2", b"2", b"3"], ["a", "a", "b", "b"])
    assert set(joined) == set(alone)
    # A further sample of a group moves nothing.
    assert find_units([b"1", b"2", b"9"], ["a", "a", "a"])[:2] == alone
