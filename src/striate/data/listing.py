"""The samples of a source before anything is decoded: one entry for each sample, sorted by path."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from striate.data.box_records import ImageBoxes
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
"""Names of splits that a source may use (in any case), and striate's name for each."""
UNCLEAR_SPLITS = frozenset(("eval", "evaluation"))
"""Names of folders that some people use for val and others for test."""


def is_split(name: str) -> bool:
    """Whether a folder of this name is meant as a split, not as a class."""
    return name.lower() in SPLIT_NAMES or name.lower() in UNCLEAR_SPLITS


_WHOLE = re.compile(r"-?[0-9]{1,300}")
_NO_TEXT = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control, lone surrogate, line and paragraph separator


@dataclass(frozen=True)
class Listing:
    """The N samples of a source in the order of their ids, which is the order of their paths.

    Samples either lie in files, whose bytes `read` gives, or in memory as `inputs`.
    """

    name: str
    source: str
    """The data argument: a name, or a path."""
    kind: Kind
    """The name of the medium."""
    annotation: Annotation
    paths: tuple[str, ...]
    """N paths, relative to the source."""
    labels: tuple[str, ...]
    """N texts: class name, number, or path of the mask."""
    given: tuple[str | None, ...]
    """N names of splits that the source gives; None where it gives none."""
    targets: np.ndarray | None
    """(N,) int64 class numbers, (N, T) float32 numbers, or (N, H, W) uint8 mask values; None where masks are files."""
    classes: tuple[str, ...] = ()
    indexed: bool = False
    """Whether classes are bare numbers of the source, which may be positions in a list of names that it lacks."""
    read: Callable[[int], bytes] | None = None
    """Returns the bytes of a sample; None where samples lie in memory."""
    read_mask: Callable[[int], bytes] | None = None
    """Returns the bytes of the mask of a sample; None where masks are not files."""
    inputs: np.ndarray | None = None
    """(N, C, H, W) uint8 for images, float32 otherwise; None where samples lie in files."""
    features: tuple[str, ...] = ()
    """Names of the input columns of a table."""
    target_names: tuple[str, ...] = ()
    """Names of the target columns, or of the points."""
    ignored: tuple[str, ...] = ()
    """Files and arrays of the source that are not used."""
    notes: tuple[str, ...] = ()
    """What was decided for the user, one sentence each."""
    groups: tuple[str | None, ...] = ()
    """N names of groups (a patient, a day) whose samples stay in one split; None where a sample has no group. Empty
    where the source has no groups."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further columns of a manifest as N texts each, for slices of an evaluation; nothing is learned from them."""
    findings: tuple[Finding, ...] = ()
    """What the source leaves open, and how it was read."""
    layout: Layout = "auto"
    """The order of axes in which arrays were read, where that was given or is in doubt."""
    class_level: int | None = None
    """Which folder of each path names the class, counted from 1 without folders of splits; None where labels are not
    folders."""
    values: tuple[int, ...] = ()
    """The value of each class in masks; empty where classes have no names."""
    ignore: int | None = None
    """The value in masks that is left out of loss and metrics."""
    colors: tuple[tuple[int, int, int], ...] = ()
    """(r, g, b) of the values 0, 1, … in mask files; empty where these hold values."""
    boxes: tuple[ImageBoxes, ...] = ()
    """N entries: the objects of each image; empty where the source has no boxes."""
    read_document: Callable[[str], Mapping[str, Any]] | None = None
    """Returns the content of an annotation file of `boxes`, as parsed JSON; None where these are not JSON."""
    skeleton: tuple[tuple[int, int], ...] = ()
    """Pairs of points that a line connects, where the source names them."""

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, ids: Sequence[int]) -> Listing:
        """The listing of only the samples `ids`."""

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
        """The names of the folders of each class at this level; empty where labels are not folders. The folder of the
        slices of one sample is not among them."""
        found: dict[str, set[str]] = {}
        for path, label in zip(self.paths, self.labels, strict=True) if self.class_level else ():
            parts = path.removesuffix("/*.dcm").split("/")
            # Given splits are folders, or those of an earlier run.
            place = level - 1 + (any(self.given) and parts[0].lower() in SPLIT_NAMES)
            if place < len(parts) - 1:
                found.setdefault(label, set()).add(parts[place])
        return found

    @property
    def medium(self) -> Medium:
        """The medium of the samples."""
        return medium_of(self.kind)


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in the order of class numbers: by value if all are integers, else by code point."""
    distinct = sorted(set(names))
    if all(_WHOLE.fullmatch(name) for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)


def class_numbers(labels: Iterable[str], classes: tuple[str, ...]) -> np.ndarray:
    """(N,) int64: the position of each label in `classes`."""
    position = {name: number for number, name in enumerate(classes)}
    return np.array([position[label] for label in labels], dtype=np.int64)


def as_number(text: str) -> float | None:
    """The finite number that a text is, within the range of float32; else None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) <= float(np.finfo(np.float32).max) else None


def is_class_name(name: str) -> bool:
    """Whether a name fits on a line of text."""
    return bool(name.strip()) and not any(unicodedata.category(letter) in _NO_TEXT for letter in name)


def check_classes(listing: Listing) -> Listing:
    """The listing, unchanged. Raises DataError if a class name does not fit on a line of text, as in classes.txt."""
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
