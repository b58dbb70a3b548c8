"""No annotation: the target of an image is the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind
from striate.data.listing import Listing, class_numbers, order_classes
from striate.errors import DataError

CLASS = "class"
"""The column of a listing with the class names of its images."""
_SPLITS = 3  # train, val and test


def refuse_other_than_images(listing: Listing) -> None:
    """Raise DataError for samples that are not images."""
    if not listing.medium.pictures or (listing.inputs is not None and listing.inputs.dtype != np.uint8):
        raise DataError(
            f"data {listing.source}",
            listing.medium.many,
            "images whose pixels have values from 0 to 255: the reconstruction is compared with them",
            "give images, or save the data as images",
        )


class InputsAsTargets(AnnotationKind):
    """(N, C, H, W) uint8: the inputs themselves, the same object in a `Split`."""

    name: ClassVar[str] = "input"
    word: ClassVar[str] = "the images themselves"
    texts: ClassVar[str] = "nothing"
    task: ClassVar[str] = "reconstruct"
    of_whole: ClassVar[bool] = False
    is_input: ClassVar[bool] = True

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """Images without targets. Class names become a column, for slices of an evaluation, and the splits are those of
        the same data with classes. Raises DataError for samples that are not images."""
        refuse_other_than_images(listing)
        columns = {name: values for name, values in listing.columns.items() if name != CLASS}
        if has.name in ("class", "identity"):
            columns[CLASS] = listing.labels
        return replace(
            listing,
            annotation=self.name,
            labels=("",) * len(listing),
            targets=None,
            classes=(),
            target_names=(),
            read_mask=None,
            class_level=None,
            columns=columns,
        )

    def targets(
        self, listing: Listing, ids: NDArray[np.int64], masks: Any, classes: tuple[str, ...]
    ) -> NDArray[np.int64]:
        """(N, 0): a split replaces them by its inputs."""
        del listing, masks, classes
        return np.zeros((len(ids), 0), np.int64)

    def split_strata(self, listing: Listing, ids: Sequence[int]) -> list[int]:
        """The class where images have one, so that splits are those of the same data with classes. Labels with fewer
        samples than splits, such as measured numbers, form one stratum: each of them alone would not reach every
        split."""
        labels = listing.columns.get(CLASS)
        if labels is None:
            return [0] * len(ids)
        own, classes = [labels[i] for i in ids], order_classes(labels)
        counts = Counter(own)
        numbers: list[int] = class_numbers(own, classes).tolist()
        return [len(classes) if counts[label] < _SPLITS else number for label, number in zip(own, numbers, strict=True)]
