"""One class per sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind
from striate.data.annotations.label_sets import split_labels, with_label_sets
from striate.data.listing import Listing, class_numbers, order_classes
from striate.data.media.medium import Preparation
from striate.errors import DataError, OtherClassesError
from striate.wording import several

_LONGEST = 120
"""Characters of class names and counts in a line."""


class Classes(AnnotationKind):
    """(N,) int64 class numbers."""

    name: ClassVar[str] = "class"
    word: ClassVar[str] = "classes"
    texts: ClassVar[str] = "class names"
    task: ClassVar[str] = "classify"
    share: ClassVar[str] = " of each class"

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """Classes from integers, or from one label per sample."""
        if has.name == "number":
            assert listing.targets is not None
            if not are_one_hot(listing.targets):
                return _as_classes(listing)
            listing = has.present_classes(listing)
        if listing.annotation == "labels" and listing.targets is not None and (listing.targets.sum(1) == 1).all():
            return replace(listing, annotation=self.name, targets=listing.targets.argmax(1))
        raise self.none_of(listing, has)

    def present_classes(self, listing: Listing) -> Listing:
        """The labels in the name of the class, `cat|dog`, or the class itself."""
        return with_label_sets(listing, [split_labels(label) for label in listing.labels])

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """`3 classes: ash (12), elm (12), oak (9)`; where there are many, the first of them and the range of counts."""
        counts = Counter(listing.labels[number] for number in ids)
        sizes, each = [counts[name] for name in listing.classes], ""
        named = [f"{name} ({counts[name]:,})" for name in listing.classes]
        low, high = min(sizes), max(sizes)
        if low == high:
            named, each = list(listing.classes), f" of {several(low, 'sample')}{' each' if len(sizes) > 1 else ''}"
        ends = accumulate(len(name) + 2 for name in named)
        shown = max(1, sum(end <= _LONGEST for end in ends))
        if shown < len(named):
            each = each or f" of {low:,} to {several(high, 'sample')}"
            named = [*named[:shown], f"… and {len(named) - shown:,} more"]
        return f"{several(len(sizes), 'class', 'classes')}{each}: {', '.join(named)}"

    def split_strata(self, listing: Listing, ids: Sequence[int]) -> list[int]:
        """The class."""
        assert listing.targets is not None
        numbers: list[int] = listing.targets[list(ids)].tolist()
        return numbers

    def strata(self, targets: NDArray[Any], folds: int, units: Sequence[Hashable] = ()) -> NDArray[np.int64]:
        """The class."""
        del folds, units
        return targets.astype(np.int64)

    def match(
        self, listing: Listing, classes: tuple[str, ...], preparation: Preparation
    ) -> tuple[Listing, tuple[str, ...]]:
        """By name; bare numbers that match no name are positions."""
        del preparation
        labels = listing.labels
        notes: tuple[str, ...] = ()
        if listing.indexed and not set(classes) & set(listing.classes):
            positions = {name: int(name) for name in listing.classes}
            if all(0 <= number < len(classes) for number in positions.values()):
                labels = tuple(classes[positions[label]] for label in labels)
                notes = (f"The labels are plain numbers, read as class indices: 0 is {classes[0]}.",)
        unknown = sorted(set(labels) - set(classes))
        if unknown:
            raise OtherClassesError(
                f"data {listing.source}",
                f"classes that the network does not know: {', '.join(unknown[:5])}"
                + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""),
                f"some of its {several(len(classes), 'class', 'classes')}: "
                f"{', '.join(classes[:10])}{', …' if classes[10:] else ''}",
                "rename these classes, or leave them out",
            )
        return replace(listing, labels=labels, targets=class_numbers(labels, classes), classes=classes), notes


def are_one_hot(numbers: NDArray[Any]) -> bool:
    """Whether there are several columns of 0 and 1, with one 1 per row."""
    return numbers.shape[1] > 1 and bool(np.isin(numbers, (0, 1)).all() and (numbers.sum(1) == 1).all())


def _as_classes(listing: Listing) -> Listing:
    assert listing.targets is not None
    if listing.targets.shape[1] != 1 or not np.array_equal(listing.targets, np.round(listing.targets)):
        raise DataError(
            f"data {listing.source}",
            f"numbers with fractions, such as {listing.labels[0]}",
            "class names or whole numbers, since the task reads classes",
            "--task regress",
        )
    labels = tuple(str(int(value)) for value in listing.targets[:, 0])
    classes = order_classes(labels)
    return replace(
        listing,
        annotation="class",
        labels=labels,
        targets=class_numbers(labels, classes),
        classes=classes,
        indexed=True,
        target_names=(),
    )
