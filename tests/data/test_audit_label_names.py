"""Names of classes: one class under two names is noticed, different words are not."""

from __future__ import annotations

import numpy as np
import pytest

from striate.data.audit.classes import find_suspicious_names
from striate.data.audit.quick import quick_evidence
from striate.data.config import DataConfig
from striate.data.listing import Listing, class_numbers, order_classes
from striate.data.scan import Scan


def finding(*labels: str, annotation: str = "class") -> str:
    classes = order_classes(labels)
    paths = tuple(map(str, range(len(labels))))
    given = (None,) * len(labels)
    listing = Listing(
        "set",
        "set",
        "image",
        annotation,
        paths,
        labels,
        given,
        class_numbers(labels, classes),
        classes,
        inputs=np.zeros(1),
    )
    found = find_suspicious_names(quick_evidence(listing, Scan({}, {}, {}, {}), {}, {}, DataConfig()))
    return "" if found is None else found.finding.measured


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("cat", "cats"), ("Cat", "cat"), ("cat ", "cat"), ("berry", "berries"), ("box", "boxes"), ("bus", "buses")],
        *[("traffic light", "traffic_light"), ("café", "cafe"), ("t-shirt", "T Shirt"), ("potato", "potatoes")],
    ],
)
def test_one_class_under_two_names(one: str, other: str) -> None:
    assert repr(one) in finding(one, other, "zebra")
    assert repr(other) in finding(one, other, "zebra")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[
            ("cat", "car"),
            ("1", "11"),
            ("class1", "class2"),
            ("glass", "gla"),
            ("man", "woman"),
            ("dandelion", "daisy"),
        ],
        *[("-1", "1"), ("1.0", "10")],
    ],
)
def test_different_classes(one: str, other: str) -> None:
    assert finding(one, other) == ""


def test_a_typing_mistake_is_a_rare_name_one_letter_off() -> None:
    assert "one letter apart" in finding(*["dandelion"] * 10, "dandelon")
    assert "one letter apart" in finding(*["dandelion"] * 10, "dandeloin")
    assert finding(*["pullover"] * 10, *["pushover"] * 10) == ""
    assert finding(*["mouses"] * 10, *["houses"] * 9) == ""


@pytest.mark.parametrize("name", ["New Folder", "unknown", "misc", " rose"])
def test_names_that_are_none(name: str) -> None:
    assert repr(name) in finding(name, "daisy")


def test_names_of_boxes_and_masks_are_compared_too() -> None:
    assert "'Cat' and 'cat'" in finding("Cat", "cat", annotation="box")
    assert not finding("none", "sample", "simple", annotation="mask")
    assert not finding("Cat", "cat", annotation="identity")
