"""What the rest of `data/` knows of a kind of annotation: this class, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.config import Fit
from striate.data.dataset import Dataset
from striate.data.listing import Listing
from striate.data.media.medium import Placement, Preparation
from striate.errors import DataError


def or_split(data: Dataset, how: str) -> str:
    """The end of a remedy for a split that lacks something: `how` striate makes the splits; only where they are
    given."""
    return f", or let striate split: {how}" if data.given else ""


class AnnotationKind:
    """How annotations become targets. The defaults are right for targets that a listing holds as an array."""

    name: ClassVar[str]
    """As in `Dataset.annotation`."""
    word: ClassVar[str]
    """What the targets are, in a word: "classes"."""
    texts: ClassVar[str]
    """What the annotations of a source are called in messages: "class names"."""
    task: ClassVar[str]
    """The built-in task that reads it, as `--task` names it."""
    layout: ClassVar[str] = ""
    """Added to the remedy where data have no such annotations: how they are laid out."""
    share: ClassVar[str] = ""
    """Of what each split gets its share: " of each class"."""

    chosen: ClassVar[str] = "by a hash of each sample's content"
    """How it is chosen which samples a split gets."""
    written_as: ClassVar[str] = ""
    """The kind as which sources have it, where that is not its own name."""
    open_classes: ClassVar[bool] = False
    """Whether no class lies in two splits, and other data may have classes of their own."""

    of_whole: ClassVar[bool] = True
    """Whether it says something of the sample as a whole, and not of its pixels, so that a smaller picture has it
    too."""

    of_places: ClassVar[bool] = False
    """Whether it says where in a picture something is: a part of the picture, cut out, has another one."""

    is_input: ClassVar[bool] = False
    """Whether the targets are the inputs themselves, so that there is nothing to annotate."""

    fit: ClassVar[Fit] = "crop"
    """How images of another aspect ratio fit the input where nobody says."""
    # From a source to targets

    def choose_size(self, listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, int], str] | None:
        """Height and width of inputs that the annotations ask for, and why; None where they do not care. `sizes`
        (height, width) of the readable files."""
        del listing, sizes
        return None

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """The listing with annotations of this kind, made of those that it `has`. Raises DataError where that cannot
        be."""
        raise self.none_of(listing, has)

    def present_classes(self, listing: Listing) -> Listing:
        """The listing with the set of the classes that are in each sample. Raises DataError where that cannot be."""
        raise DataError(
            f"data {listing.source}",
            f"{self.texts} as annotations",
            "sets of labels, or annotations with classes: class names, boxes, masks",
            f"--task {self.task}, or a manifest with the columns path,labels (one|two|three)",
        )

    def none_of(self, listing: Listing, has: AnnotationKind) -> DataError:
        """What is said of data that have other annotations."""
        return DataError(
            f"data {listing.source}",
            f"{has.texts} as annotations",
            f"{self.texts}, which the task needs",
            f"--task {has.task}{self.layout}",
        )

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """What the label of each sample says, equal for equal annotations; not of annotations in files."""
        return {number: listing.labels[number] for number in ids}

    def named(self, listing: Listing, ids: NDArray[np.int64], masks: MaskPixels | None) -> Listing:
        """The listing with its classes, where these follow from `masks`, which are those of the samples `ids`. Raises
        DataError."""
        del ids, masks
        return listing

    def targets(
        self, listing: Listing, ids: NDArray[np.int64], masks: MaskPixels | None, classes: tuple[str, ...]
    ) -> NDArray[Any]:
        """(N, …) targets of the samples `ids`. Raises DataError for what is not among `classes`."""
        del masks, classes
        assert listing.targets is not None
        targets: NDArray[Any] = listing.targets[ids]
        return targets

    def placed_targets(
        self,
        listing: Listing,
        ids: NDArray[np.int64],
        masks: MaskPixels | None,
        classes: tuple[str, ...],
        place: Callable[[int], Placement | None],
    ) -> NDArray[Any]:
        """`targets`, where these lie in the image: `place(number)` says where the file of a sample lies in its input,
        None where there are no files."""
        del place
        return self.targets(listing, ids, masks, classes)

    def check(self, data: Dataset, listing: Listing) -> None:
        """Raise DataError where a split of the data, which are those of the listing, has nothing to learn from, or to
        measure."""
        del data, listing

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """How often each annotation occurs among the samples `ids`, in a line; empty where that says little."""
        del listing, ids
        return ""

    def manifest_columns(self, listing: Listing) -> tuple[str, ...]:
        """Columns of a manifest that hold the annotation."""
        del listing
        return ("label",)

    def manifest_fields(self, listing: Listing, number: int) -> tuple[str, ...]:
        """What a sample has under these columns."""
        return (listing.labels[number],)

    # Splits

    def split_strata(self, listing: Listing, ids: Sequence[int]) -> list[int]:
        """What each split should have its share of, a number a sample."""
        del listing
        return [0] * len(ids)

    def strata(self, targets: NDArray[Any], folds: int, units: Sequence[Hashable] = ()) -> NDArray[np.int64]:
        """(N,) what folds should have equal shares of; `units` say what stays together."""
        del folds, units
        return np.zeros(len(targets), np.int64)

    # Other data for a trained network

    def match(
        self, listing: Listing, classes: tuple[str, ...], preparation: Preparation
    ) -> tuple[Listing, tuple[str, ...]]:
        """The listing with targets as positions in `classes` of a network whose data had this `preparation`, and notes.
        Raises DataError."""
        del classes, preparation
        return listing, ()

    def check_count(self, listing: Listing, targets: int) -> None:
        """Raise DataError where a network with so many `targets` cannot be measured on the listing."""
        del listing, targets
