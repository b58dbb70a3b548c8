"""Numbers as targets: one or more per sample."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind
from striate.data.annotations.label_sets import with_label_sets
from striate.data.listing import Listing, as_number
from striate.errors import DataError
from striate.wording import several

_QUANTILES = 10
_SHOWN = 10
"""At most so many numbers of a sample are named in a line."""


class Numbers(AnnotationKind):
    """(N, T) float32 numbers."""

    name: ClassVar[str] = "number"
    word: ClassVar[str] = "numbers"
    texts: ClassVar[str] = "numbers"
    task: ClassVar[str] = "regress"

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """Numbers from class names that are numbers; 0 or 1 for each label."""
        if has.name == "class":
            return _as_numbers(listing)
        if has.name == "labels":
            return replace(listing, annotation=self.name, classes=(), target_names=listing.classes)
        raise self.none_of(listing, has)

    def present_classes(self, listing: Listing) -> Listing:
        """Labels: the columns that are 1, where all numbers are 0 or 1."""
        y = listing.targets
        if y is None or not np.isin(y, (0, 1)).all():
            return super().present_classes(listing)
        sets = [[name for name, there in zip(listing.target_names, row, strict=True) if there] for row in y]
        return with_label_sets(listing, sets, listing.target_names)

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """`2 numbers per sample: age (3 to 90), height (1.02 to 1.98)`."""
        assert listing.targets is not None
        own, names = listing.targets[list(ids)], listing.target_names
        if not own.size:
            return ""
        ends = zip(names, own.min(0), own.max(0), strict=True)
        texts = [f"{name} ({low:,.6g} to {high:,.6g})" for name, low, high in ends]
        more = f" and {len(texts) - _SHOWN} more" if texts[_SHOWN:] else ""
        return f"{several(len(texts), 'number')} per sample: {', '.join(texts[:_SHOWN])}{more}"

    def strata(self, targets: NDArray[Any], folds: int, units: Sequence[Hashable] = ()) -> NDArray[np.int64]:
        """Ten strata of samples, ordered by the mean of their standardized numbers.

        There are fewer where a stratum would have less than two samples, or less than one unit for each fold. `units`:
        keys of samples that stay together; without any, each sample is a unit.
        """
        numbers = targets.reshape(len(targets), -1).astype(np.float64)
        deviation = numbers.std(0)
        order = ((numbers - numbers.mean(0)) / np.where(deviation > 0, deviation, 1)).mean(1)
        parts = max(1, min(_QUANTILES, len(order) // (2 * folds)))
        keys = np.unique(np.asarray(units), return_inverse=True)[1] if len(units) else np.arange(len(order))
        while parts > 1:
            edges = np.quantile(order, np.arange(1, parts) / parts)
            strata: NDArray[np.int64] = np.searchsorted(edges, order, side="right").astype(np.int64)
            if all(len(np.unique(keys[strata == stratum])) >= folds for stratum in np.unique(strata)):
                return strata
            parts //= 2
        return np.zeros(len(order), np.int64)

    def check_count(self, listing: Listing, targets: int) -> None:
        """Samples must have as many numbers as the network predicts."""
        where = f"data {listing.source}"
        assert listing.targets is not None
        count = listing.targets.shape[1]
        if count != targets:
            raise DataError(
                where,
                f"{several(count, 'number')} for each sample: {', '.join(listing.target_names[:10])}",
                f"{targets}, as many as the network predicts",
                "evaluate it on data with the same targets",
            )


def _as_numbers(listing: Listing) -> Listing:
    values = {label: as_number(label) for label in set(listing.labels)}
    bad = sorted(label for label, value in values.items() if value is None)
    if bad:
        first = listing.labels.index(bad[0])
        raise DataError(
            f"data {listing.source}, {listing.paths[first]}",
            f"the label {bad[0]!r}",
            "a finite number, since the task predicts numbers",
            "--task classify, or use numbers as labels",
        )
    targets = np.array([[values[label]] for label in listing.labels], dtype=np.float32)
    return replace(listing, annotation="number", targets=targets, classes=(), indexed=False, target_names=("label",))
