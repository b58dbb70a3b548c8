"""The interface of a kind of annotation: the rest of `data/` knows it only by the class `AnnotationKind`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.config import Fit
from striate.data.listing import Listing
from striate.data.media.medium import Placement, Preparation
from striate.errors import DataError, OtherAnnotationError


def or_split(listing: Listing, how: str) -> str:
    """The end of a remedy for a split that lacks something: how to let striate make the splits; empty where it does
    already."""
    return f", or let striate split: {how}" if any(listing.given) else ""


class AnnotationKind:
    """How annotations become targets. The defaults are right for targets that a listing holds as an array."""

    name: ClassVar[str]
    """The value of `Dataset.annotation`."""
    word: ClassVar[str]
    """The noun for the targets: "classes"."""
    texts: ClassVar[str]
    """The noun for the annotations of a source, in messages: "class names"."""
    task: ClassVar[str]
    """The built-in task that reads it, as `--task` names it."""
    layout: ClassVar[str] = ""
    """The end of the remedy for data without such annotations: the layouts that have them."""
    share: ClassVar[str] = ""
    """What each split gets a share of: " of each class"."""

    chosen: ClassVar[str] = "by a hash of each sample's content"
    """How the samples of a split are chosen."""
    written_as: ClassVar[str] = ""
    """The name of the kind of annotation that sources contain, where it differs from `name`."""
    open_classes: ClassVar[bool] = False
    """Whether splits share no class, and other data may have other classes."""

    of_whole: ClassVar[bool] = True
    """Whether it describes the sample as a whole, not its pixels, so that it also holds for a smaller picture."""

    of_places: ClassVar[bool] = False
    """Whether it describes places in a picture, so that a crop of the picture has another annotation."""

    is_input: ClassVar[bool] = False
    """Whether the targets are the inputs themselves, so that there is nothing to annotate."""

    fit: ClassVar[Fit] = "crop"
    """The default of `data.fit`: how images of another aspect ratio are fitted into the input."""
    # From a source to targets

    def choose_size(self, listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, int], str] | None:
        """Height and width of inputs that suit the annotations, and why; None where any size does. `sizes`: (height,
        width) of the readable files, by id."""
        del listing, sizes
        return None

    def retarget(self, listing: Listing, has: AnnotationKind) -> Listing:
        """The listing with annotations of this kind, made from those that it `has`. Raises DataError where that is
        impossible."""
        raise self.none_of(listing, has)

    def present_classes(self, listing: Listing) -> Listing:
        """The listing with the set of classes that occur in each sample. Raises DataError where annotations have
        none."""
        raise OtherAnnotationError(
            f"data {listing.source}",
            f"{self.texts} as annotations",
            "sets of labels, or annotations with classes: class names, boxes, masks",
            f"--task {self.task}, or a manifest with the columns path,labels (one|two|three)",
        )

    def none_of(self, listing: Listing, has: AnnotationKind) -> DataError:
        """The error for data with other annotations."""
        return OtherAnnotationError(
            f"data {listing.source}",
            f"{has.texts} as annotations",
            f"{self.texts}, which the task needs",
            f"--task {has.task}{self.layout}",
        )

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """A key for the annotation of each sample, equal for equal annotations; empty for annotations in files."""
        return {number: listing.labels[number] for number in ids}

    def named(self, listing: Listing, ids: NDArray[np.int64], masks: MaskPixels | None) -> Listing:
        """The listing with its classes, where these follow from the `masks` of the samples `ids`. Raises DataError."""
        del ids, masks
        return listing

    def targets(
        self, listing: Listing, ids: NDArray[np.int64], masks: MaskPixels | None, classes: tuple[str, ...]
    ) -> NDArray[Any]:
        """(N, …) targets of the samples `ids`. Raises DataError for a class that is not among `classes`."""
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
        """`targets`, moved to their places in the inputs: `place(number)` returns where the file of a sample lies in
        its input, None where there are no files."""
        del place
        return self.targets(listing, ids, masks, classes)

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Raise DataError if a split has nothing to learn or to measure. By split: the `ids` of its samples, and their
        `targets`, a tensor."""
        del listing, ids, targets

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """How often each annotation occurs among the samples `ids`, in one line; empty where counts are not useful."""
        del listing, ids
        return ""

    def manifest_columns(self, listing: Listing) -> tuple[str, ...]:
        """Columns of a manifest that hold the annotation."""
        del listing
        return ("label",)

    def manifest_fields(self, listing: Listing, number: int) -> tuple[str, ...]:
        """The values of a sample in these columns."""
        return (listing.labels[number],)

    # Splits

    def share_of(self, listing: Listing) -> str:
        """What each split of the listing gets a share of, as `share`."""
        del listing
        return self.share

    def split_strata(self, listing: Listing, ids: Sequence[int]) -> list[int]:
        """The stratum of each sample: each split gets its share of every stratum."""
        del listing
        return [0] * len(ids)

    def strata(self, targets: NDArray[Any], folds: int, units: Sequence[Hashable] = ()) -> NDArray[np.int64]:
        """(N,) strata: folds get equal shares of each. `units`: keys of samples that stay together."""
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
        """Raise DataError if a network with so many `targets` cannot be evaluated on the listing."""
        del listing, targets
