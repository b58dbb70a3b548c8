"""Labels and splits that have more than one interpretation."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.annotations.label_sets import joined_classes
from striate.data.audit.sample_finding import some
from striate.data.listing import Listing
from striate.records import Finding, Remedy
from striate.wording import several

_MANY_NUMBERS, _FEW = 20, 5
"""At least `_MANY_NUMBERS` classes that are whole numbers may be a quantity; if some have fewer than `_FEW` samples,
they probably are."""
_NUMBER, _ODD = re.compile(r"[-+]?[0-9]{1,9}([.,][0-9]+)?([eE][-+]?[0-9]+)?"), 0.1
"""A number as tables contain it; the share of names that need not be numbers, such as `inf` and `n/a`."""
_FRACTIONS, _MOST = 5, 0.75
"""At least `_FRACTIONS` classes that are numbers with a fraction may be a quantity, if at least the share `_MOST` of
the samples has them."""
_LABEL_COLUMN = re.compile(r"(?:label|class|category|species|target|diagnosis)s?[ _.-]?[0-9]*")


def find_readings(listing: Listing) -> tuple[Finding, ...]:
    """`data.reading`: several labels in one, further columns of labels, quantities as classes, classes as numbers; and
    `data.no-split`."""
    found = (
        _several_labels(listing),
        _other_labels(listing),
        find_quantity(listing),
        _classes_as_numbers(listing),
        _without_split(listing),
    )
    return tuple(finding for finding in found if finding is not None)


def _reading(listing: Listing, measured: str, why: str, remedy: str, *, certain: bool = True) -> Finding:
    return Finding(
        code="data.reading",
        severity="warning" if certain else "note",
        where=listing.source,
        measured=measured,
        threshold="labels with only one interpretation",
        why=why,
        remedy=remedy,
    )


def _without_split(listing: Listing) -> Finding | None:
    """`data.no-split`: samples without a split, where others are given to train."""
    count = sum(split is None for split in listing.given)
    if not count or "train" not in listing.given:
        return None
    return Finding(
        code="data.no-split",
        severity="note",
        where=listing.source,
        measured=f"{count:,} of {several(len(listing), 'sample')} without a split, while others are in train",
        threshold="a split for every sample, or for none",
        why="Samples without a split are used like those of train, except copies of samples of val and test, and"
        " samples of their groups, which are put there.",
        remedy="Fill in the split of those that belong to another one.",
    )


def _several_labels(listing: Listing) -> Finding | None:
    several_labels = joined_classes(listing.classes) if listing.has_one_class_each else []
    if not several_labels:
        return None
    return _reading(
        listing,
        f"{several(len(several_labels), 'class has', 'classes have')} | in the name: {some(several_labels)}",
        "Each combination is learned as a separate class.",
        Remedy("If they are several labels: --task multilabel.", settings={"task.name": "multilabel"}),
    )


def _other_labels(listing: Listing) -> Finding | None:
    own = annotation_kind(listing.annotation).is_input  # nothing is learned from labels
    names = [] if own else [name for name in listing.columns if _LABEL_COLUMN.fullmatch(name)]
    if not names:
        return None
    return _reading(
        listing,
        f"{several(len(names), 'further column')} of labels: {some(names)}",
        "Training uses only the column label; the other columns define slices of the evaluation.",
        Remedy(
            f"To learn {names[0]} instead: --data.names label={names[0]}; all: --targets {_all(names)}.",
            settings={"data.names": f"label={names[0]}"},
        ),
    )


def _all(names: list[str]) -> str:
    return ",".join(f"{name}:class" for name in ("label", *names))


def find_quantity(listing: Listing) -> Finding | None:
    """`data.reading` of classes that are numbers."""
    names, counts = listing.classes if listing.has_one_class_each else (), Counter(listing.labels)
    others = [name for name in names if not _NUMBER.fullmatch(name)]
    fractions = [name for name in names if (found := _NUMBER.fullmatch(name)) and found[1]]
    numbers = len(names) >= _MANY_NUMBERS and len(others) <= _ODD * len(names)
    exact = sum(counts[name] for name in fractions) >= _MOST * len(listing.labels)
    if not numbers and not (len(fractions) >= _FRACTIONS and exact):
        return None
    few = sum(count < _FEW for count in counts.values())
    whole = all(re.fullmatch(r"-?[0-9]{1,9}", name) for name in names)
    what = f"{several(len(names), 'class', 'classes')} that are"
    if others:
        measured = f"{what} numbers, except for {some(others)}"
    else:
        measured = f"{what} {'whole ' if whole else ''}numbers from {names[0]} to {names[-1]}"
    comma = any("," in name for name in names)
    point = "write them with a decimal point, 0.5 for 0,5, and: " if comma else ""
    if others:
        point = f"correct the label {others[0]!r} of {listing.paths[listing.labels.index(others[0])]}, and: {point}"
    return _reading(
        listing,
        measured + (f", {few:,} of them with fewer than {_FEW} samples" if few else ""),
        "As classes, 30 is as far from 31 as from 80: regression is better for a quantity such as an age.",
        Remedy(f"If it is a quantity: {point}--task regress.", settings={"task.name": "regress"}),
        certain=bool(few),
    )


def _classes_as_numbers(listing: Listing) -> Finding | None:
    y = listing.targets
    if not listing.has_numbers or y is None:
        return None
    why = "They are learned as quantities, with the squared error as loss."
    as_classes = Remedy("If they are classes: --task classify.", settings={"task.name": "classify"})
    if not np.isin(y, (0, 1)).all():
        # Labels of files are read as numbers only if they have fractions or the user asks for it.
        if listing.inputs is None or y.shape[1] > 1 or not _may_be_class_numbers(y):
            return None
        measured = f"all targets are whole numbers from {y.min():g} to {y.max():g}, stored as floats"
        return _reading(listing, measured, why, as_classes, certain=False)
    if y.shape[1] == 1:
        return _reading(listing, "all targets are the numbers 0 or 1", why, as_classes)
    measured = f"{several(y.shape[1], 'column')} of targets whose values are all 0 or 1"
    if (y.sum(1) == 1).all():
        return _reading(listing, f"{measured}, with one 1 in each row", why, as_classes)
    as_labels = Remedy("If they are labels: --task multilabel.", settings={"task.name": "multilabel"})
    return _reading(listing, measured, why, as_labels)


def _may_be_class_numbers(y: np.ndarray) -> bool:
    """Whether targets are 0, 1, … or 1, 2, … without a gap, few for the number of samples."""
    values = np.unique(y)
    few = len(values) < _MANY_NUMBERS and _FEW * len(values) <= len(y)
    return bool(few and values[0] in (0, 1) and np.array_equal(values, values[0] + np.arange(len(values))))
