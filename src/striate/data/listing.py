"""What a source holds, before anything is decoded: one sample an entry, sorted by path."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from striate.data.box_records import Boxed
from striate.data.config import Layout
from striate.data.dataset import Annotation, Kind
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Medium
from striate.errors import DataError
from striate.records import Finding

SPLIT_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val", "dev": "val"},
}
"""Spellings of a split that a source may use (in any case), and the name each is kept under."""
UNCLEAR_SPLITS = frozenset(("eval", "evaluation"))
"""Names of folders that somebody means as a split, some as val and some as test."""


def is_split(name: str) -> bool:
    """Whether a folder of this name is meant as a split, not as a class."""
    return name.lower() in SPLIT_NAMES or name.lower() in UNCLEAR_SPLITS


_WHOLE = re.compile(r"-?[0-9]{1,300}")
_NO_TEXT = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control, lone surrogate, line and paragraph separator


@dataclass(frozen=True)
class Listing:
    """Samples of a source in the order of their ids, which is the order of their paths.

    `paths`, `labels` and `given` (a split's name or None) have one entry a sample; a label is text (class name,
    number, or the mask's path). `targets`: (N,) int64 class numbers, (N, T) float32 numbers, (N, H, W) uint8 mask
    values, or None where masks are files. Samples are bytes to be had by `read(i)` (with `read_mask(i)`), or lie
    in memory as `inputs`: (N, C, H, W) uint8 for images, float32 otherwise. `indexed` is true where the classes
    are bare numbers of the source, which may stand for positions in somebody else's list of names. `groups` says what
    each sample is of (a patient, a day; None where that is unknown), and is empty where the source has no groups.
    `columns` are further columns of a manifest as texts, for slices of an evaluation; nothing is learned from them.
    `findings` are what the source itself leaves open, and how it was read; `layout` is the order of axes in which
    arrays were read, where that was given or is in doubt.
    Of masks: `values` of `classes`, where they have names, the value to `ignore`, and the `colors` (r, g, b) that stand
    for the values 0, 1, … in the files, where they do.
    `class_level` says which folder of each path names the class, from 1, folders of splits not counted; None where
    labels are not folders. `boxes`: what the source says of the objects of each image, where it has boxes; `skeleton`:
    pairs of points that are joined, where it says them.
    """

    name: str
    source: str
    kind: Kind
    annotation: Annotation
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    given: tuple[str | None, ...]
    targets: np.ndarray | None
    classes: tuple[str, ...] = ()
    indexed: bool = False
    read: Callable[[int], bytes] | None = None
    read_mask: Callable[[int], bytes] | None = None
    inputs: np.ndarray | None = None
    features: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    groups: tuple[str | None, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    layout: Layout = "auto"
    class_level: int | None = None
    values: tuple[int, ...] = ()
    ignore: int | None = None
    colors: tuple[tuple[int, int, int], ...] = ()
    boxes: tuple[Boxed, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, ids: Sequence[int]) -> Listing:
        """The listing of these samples alone."""

        def reader(read: Callable[[int], bytes] | None) -> Callable[[int], bytes] | None:
            return None if read is None else lambda number: read(ids[number])

        def rows(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in ids) if values else values

        return replace(
            self,
            paths=rows(self.paths),
            labels=rows(self.labels),
            given=rows(self.given),
            targets=None if self.targets is None else self.targets[list(ids)],
            read=reader(self.read),
            read_mask=reader(self.read_mask),
            inputs=None if self.inputs is None else self.inputs[list(ids)],
            groups=rows(self.groups),
            columns={name: rows(values) for name, values in self.columns.items()},
            boxes=rows(self.boxes),
        )

    @property
    def has_one_class_each(self) -> bool:
        """Whether each sample has one class."""
        return self.annotation in ("class", "identity")

    @property
    def has_masks(self) -> bool:
        """Whether labels are masks."""
        return self.annotation == "mask"

    @property
    def has_numbers(self) -> bool:
        """Whether labels are numbers."""
        return self.annotation == "number"

    def folders_at(self, level: int) -> dict[str, set[str]]:
        """Of each class the names of its folders at this level; empty where labels are not folders."""
        found: dict[str, set[str]] = {}
        place = level - 1 + any(self.given)
        for path, label in zip(self.paths, self.labels, strict=True) if self.class_level else ():
            parts = path.split("/")
            if place < len(parts) - 1:
                found.setdefault(label, set()).add(parts[place])
        return found

    @property
    def medium(self) -> Medium:
        """What a sample is."""
        return medium_of(self.kind)


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in the order of class numbers: by value if all are whole numbers, else by code point."""
    distinct = sorted(set(names))
    if all(_WHOLE.fullmatch(name) for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)


def class_numbers(labels: Iterable[str], classes: tuple[str, ...]) -> np.ndarray:
    """(N,) int64: the position of each label in `classes`."""
    position = {name: number for number, name in enumerate(classes)}
    return np.array([position[label] for label in labels], dtype=np.int64)


def as_number(text: str) -> float | None:
    """The finite number that a label spells, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) <= float(np.finfo(np.float32).max) else None


def is_class_name(name: str) -> bool:
    """Whether a name fits on a line of text."""
    return bool(name.strip()) and not any(unicodedata.category(letter) in _NO_TEXT for letter in name)


def check_classes(listing: Listing) -> Listing:
    """The listing, if every class name fits on a line of text (classes.txt has a line each). Raises DataError."""
    for name in listing.classes:
        if not is_class_name(name):
            first = listing.paths[listing.labels.index(name)] if name in listing.labels else "classes.txt"
            raise DataError(
                f"data {listing.source}, {first}",
                f"the class name {name!r}",
                "names on one line, without control characters or broken Unicode",
                "rename the class (its folder, or the label in the manifest or array)",
            )
    return listing
