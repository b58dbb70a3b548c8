"""Values of masks that a split lacks."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from striate.data.audit.masks import find_missing_mask_values


def found(train: dict[int, int], test: dict[int, int]):
    looks = SimpleNamespace(masks={0: Counter(train), 1: Counter(test)})
    listing = SimpleNamespace(source="scenes")
    return find_missing_mask_values(SimpleNamespace(looks=looks, listing=listing, splits={0: "train", 1: "test"}))


def test_a_value_that_a_split_lacks_is_named() -> None:
    marked = found({0: 90, 1: 5, 2: 5}, {0: 95, 1: 5, 255: 3})
    assert marked is not None
    finding = marked.finding
    assert (finding.code, finding.severity) == ("data.missing-class", "warning")
    assert finding.measured == "of 3 values of masks, test has no 2"


def test_what_was_never_shown_is_an_error_and_what_is_ignored_is_not_missed() -> None:
    marked = found({0: 100}, {0: 95, 1: 5})
    assert marked is not None
    assert marked.finding.severity == "error"
    assert found({0: 90, 1: 10, 255: 4}, {0: 95, 1: 5}) is None
