"""One class per sample; the classes of validation and test are unseen in training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind
from striate.data.annotations.classes import Classes
from striate.data.listing import Listing
from striate.data.media.medium import Preparation
from striate.errors import DataError
from striate.wording import listed, several


class Identities(Classes):
    """(N,) int64 class numbers, as `Classes`; all samples of a class go to one split."""

    name: ClassVar[str] = "identity"
    task: ClassVar[str] = "embed"
    share: ClassVar[str] = ""
    chosen: ClassVar[str] = "as whole classes, by a hash of their names"
    written_as: ClassVar[str] = "class"
    open_classes: ClassVar[bool] = True

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """The same classes. Given splits that share a class are dropped, since its samples would not be unseen."""
        found = replace(listing if has.name == "class" else super().retarget(listing, has), annotation=self.name)
        homes: dict[str, set[str]] = {}
        for label, split in zip(found.labels, found.given, strict=True):
            if split is not None:
                homes.setdefault(label, set()).add(split)
        torn = [name for name, splits in homes.items() if len(splits) > 1]
        if not torn:
            return found
        shared = f"{several(len(torn), 'class', 'classes')} ({listed(torn, 3)})"
        note = f"The given splits share {shared}. New splits are made, so that no class is in two splits."
        return replace(found, given=(None,) * len(found), notes=(*found.notes, note))

    def split_strata(self, listing: Listing, ids: Sequence[int]) -> list[int]:
        """One stratum: a class lies in one split."""
        del listing
        return [0] * len(ids)

    def strata(self, targets: NDArray[Any], folds: int, units: Sequence[Hashable] = ()) -> NDArray[np.int64]:
        """One stratum: a class lies in one fold."""
        del folds, units
        return np.zeros(len(targets), np.int64)

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Raise DataError for a split with one class, or without two samples of any class."""
        del ids
        for name, own in targets.items():
            counts = np.unique(own.numpy(), return_counts=True)[1]
            if len(counts) < 2 or counts.max() < 2:
                found = several(len(counts), "class", "classes")
                raise DataError(
                    f"data {listing.source}",
                    f"{found} in {name}, with at most {several(int(counts.max()), 'sample')} per class",
                    "at least two classes in each split (six if striate makes the splits), two samples of one class",
                    more_classes(
                        listing, "add classes; if the classes are the same in training and later: --task classify"
                    ),
                )

    def match(
        self, listing: Listing, classes: tuple[str, ...], preparation: Preparation
    ) -> tuple[Listing, tuple[str, ...]]:
        """The classes of the listing, whether the network knows them or not."""
        del classes, preparation
        return listing, ()


def more_classes(listing: Listing, otherwise: str) -> str:
    """The remedy for too few classes: use each folder as a class, where that gives more; else `otherwise`."""
    folders = sorted({str(PurePosixPath(path).parent) for path in listing.paths if "/" in path})
    if listing.class_level is not None and len(folders) > len(set(listing.labels)):
        return f"--data.class_level path: each of {several(len(folders), 'folder')} is a class ({listed(folders, 2)})"
    return otherwise
