"""A mask per sample: a class for each pixel."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind, or_split
from striate.data.annotations.label_sets import with_label_sets
from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.fingerprint import content_digest
from striate.data.listing import Listing
from striate.data.media.medium import Preparation
from striate.data.threads import map_ordered
from striate.errors import DataError, pasted
from striate.wording import several

IGNORED = 255
"""The class number of unlabeled pixels in targets; also their value in masks, where 255 is not a class."""


class Masks(AnnotationKind):
    """(N, H, W) uint8 class numbers; `IGNORED` is left out of loss and metrics."""

    name: ClassVar[str] = "mask"
    word: ClassVar[str] = "masks"
    texts: ClassVar[str] = "masks"
    task: ClassVar[str] = "segment"
    of_whole: ClassVar[bool] = False
    of_places: ClassVar[bool] = True
    layout: ClassVar[str] = ", or a folder with images/ and masks/"

    def present_classes(self, listing: Listing) -> Listing:
        """The classes that occur in each mask; not the value 0, if it has no name or is called background."""
        occurring = np.zeros((len(listing), 256), np.bool_)
        for number, mask in enumerate(map_ordered(lambda number: _values_of(listing, number), range(len(listing)))):
            occurring[number, mask] = True
        masks = MaskPixels(np.empty((0, 1, 1), np.uint8), None, occurring)
        named = black_and_white(self.named(listing, np.arange(len(listing)), masks), masks.values)
        pairs = [
            (name, value)
            for name, value in zip(named.classes, named.values, strict=True)
            if value or name.strip().lower() not in ("0", "background")
        ]
        sets = [[name for name, value in pairs if row[value]] for row in occurring]
        left_out = "" if len(pairs) == len(named.classes) else ", without the background"
        found = with_label_sets(named, sets, [name for name, _ in pairs])
        return replace(
            found,
            values=(),
            ignore=None,
            colors=(),
            notes=(*named.notes, f"Labels: the classes that occur in each mask{left_out}."),
        )

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """Digests of the masks."""
        assert listing.targets is not None
        return {number: content_digest(listing.targets[number].tobytes()) for number in ids}

    def named(self, listing: Listing, ids: NDArray[np.int64], masks: MaskPixels | None) -> Listing:
        """The listing with the names of `classes.txt` or `colors.txt`, else with the values that occur. 255 is ignored
        if it has no name, no other value is ignored, and there are at least two other values."""
        assert masks is not None
        values = masks.values
        if listing.values:
            return _with_names(black_and_white(listing, masks.values), ids, masks)
        if len(values) > _MANY_VALUES and number_objects([set(np.flatnonzero(row)) for row in masks.occurring]):
            raise DataError(
                f"data {listing.source}, masks",
                f"{several(len(values), 'value')}, each mask from 0 to another number: they number the objects of "
                "an image",
                "masks whose values are classes; --task instances learns a mask for each object",
                background_and_objects(listing),
            )
        ignore = next(iter(ignored_values(listing, values)), None)
        values.discard(-1 if ignore is None else ignore)
        if len(values) < 2:
            beside = "" if ignore is None else f", beside the ignored {ignore}"
            raise DataError(
                f"data {listing.source}, masks",
                f"only the value {', '.join(map(str, values))} in all masks{beside}",
                "at least two values, one for each class",
                "check that the masks were saved with their class numbers",
            )
        order = tuple(sorted(values))
        return replace(listing, classes=tuple(map(str, order)), values=order, ignore=ignore)

    def targets(
        self, listing: Listing, ids: NDArray[np.int64], masks: MaskPixels | None, classes: tuple[str, ...]
    ) -> NDArray[np.uint8]:
        """Values of the masks as positions in `classes`."""
        assert masks is not None
        listing = black_and_white(listing, masks.values)
        to_class = np.full(256, IGNORED, np.uint8)
        void = IGNORED if listing.ignore is None else listing.ignore
        known = {void, IGNORED}
        for number, value in enumerate(listing.values):
            if value >= 0:
                to_class[value] = number
                known.add(value)
        unknown = sorted(masks.values - known)
        if unknown:
            raise DataError(
                f"data {listing.source}, masks",
                f"values that the network does not know: {_where_values_occur(listing, ids, masks, unknown)}",
                f"some of {', '.join(classes)}, or {void} for ignored pixels",
                "renumber the masks",
            )
        return masks.numbered(to_class, IGNORED)

    def match(
        self, listing: Listing, classes: tuple[str, ...], preparation: Preparation
    ) -> tuple[Listing, tuple[str, ...]]:
        """By name where both have names, else by the values of the training masks."""
        ignore = preparation.ignore if listing.ignore is None else listing.ignore
        values = preparation.values or tuple(map(int, classes))  # runs of earlier versions have values as names
        colors = listing.colors or preparation.colors
        if listing.classes and set(listing.classes) & set(classes):
            own = dict(zip(listing.classes, listing.values, strict=True))
            values = tuple(own.get(name, -1) for name in classes)
        return replace(listing, values=values, ignore=ignore, colors=colors), ()

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Each split needs a labeled pixel: without any, there is nothing to learn or to measure."""
        del ids
        for name, own in targets.items():
            if len(own) and bool((own == IGNORED).all()):
                raise DataError(
                    f"data {listing.source}",
                    f"no labeled pixel in the {several(len(own), 'mask')} of {name}: all are {IGNORED}, which "
                    "is ignored",
                    "at least one labeled pixel in each split",
                    f"label some of its masks{or_split(listing, 'put all images into one folder')}",
                )


def _values_of(listing: Listing, number: int) -> NDArray[np.uint8]:
    """The values of one mask. Raises DataError for one that cannot be read."""
    if listing.read_mask is None:
        assert listing.targets is not None
        return np.unique(listing.targets[number])
    where = listing.labels[number]
    return np.unique(listing.medium.read_mask(listing.read_mask(number), where, colors=listing.colors))


def ignored_values(listing: Listing, occurring: AbstractSet[int]) -> set[int]:
    """The values of pixels that are not of any class, in masks with the values `occurring`."""
    given = set() if listing.ignore is None else {listing.ignore}
    if listing.values:
        return given | ({IGNORED} - set(black_and_white(listing, occurring).values))
    return given or ({IGNORED} if len(occurring - {IGNORED}) > 1 else set())


def black_and_white(listing: Listing, occurring: AbstractSet[int]) -> Listing:
    """The listing with 255 as the second class, where masks have only 0 and 255, two names, and no ignored value."""
    two = len(listing.classes) == 2 and listing.values == (0, 1)
    if not two or listing.ignore is not None or occurring != {0, IGNORED}:
        return listing
    note = f"Masks: {IGNORED} is read as {listing.classes[1]}."
    return replace(listing, values=(0, IGNORED), notes=(*listing.notes, note))


def _with_names(listing: Listing, ids: NDArray[np.int64], masks: MaskPixels) -> Listing:
    """The listing without the class that is ignored, and with the value to ignore. A value without a name is ignored if
    most masks have it. Raises DataError for other values without a name."""
    unnamed = sorted(masks.values - set(listing.values) - {listing.ignore, IGNORED})
    ignore, notes = listing.ignore, listing.notes
    first, last = min(listing.values), max(listing.values)
    if unnamed == [last + 1] and first not in masks.values:
        raise DataError(
            f"data {listing.source}, masks",
            f"values {first + 1} to {last + 1}, but names for {first} to {last}",
            "the values that classes.txt names",
            f"begin each line of classes.txt with its value: `{first + 1} {listing.classes[0]}`",
        )
    if ignore is None and len(unnamed) == 1 and masks.occurring[:, unnamed[0]].mean() >= 0.5:
        ignore, unnamed = unnamed[0], []
        notes += (f"Masks: pixels of value {ignore}, which has no name, are ignored (--data.ignore {ignore}).",)
    if unnamed:
        raise DataError(
            f"data {listing.source}, masks",
            f"values without a name: {_where_values_occur(listing, ids, masks, unnamed)}",
            f"the {several(len(listing.values), 'value')} that classes.txt names, from {first} to {last}",
            lossy_masks(listing, unnamed)
            or f"correct these masks, add the names to classes.txt, or ignore one value: --data.ignore {unnamed[0]}",
        )
    if ignore is None and IGNORED not in listing.values and IGNORED in masks.values:
        ignore = IGNORED
    kept = [(name, v) for name, v in zip(listing.classes, listing.values, strict=True) if v != ignore]
    if len(kept) < 2:
        got = f"the names {', '.join(listing.classes)}" + ("" if ignore is None else f", of which {ignore} is ignored")
        raise DataError(f"data {listing.source}", got, "two classes or more", "name each class in classes.txt")
    names, values = zip(*kept, strict=True)
    return replace(listing, classes=names, values=values, ignore=ignore, notes=notes)


def lossy_masks(listing: Listing, unnamed: Sequence[int]) -> str | None:
    """The remedy for several values without a name in masks that are JPEG files; None for other masks."""
    jpegs = len(unnamed) > 1 and are_jpegs(listing)
    return "save the original masks as PNG: these are JPEG files, whose compression changes values" if jpegs else None


def are_jpegs(listing: Listing) -> bool:
    """Whether all masks are JPEG files, whose compression changes values and makes borders where there are none."""
    return all(label.lower().endswith((".jpg", ".jpeg")) for label in listing.labels)


_LISTED = 5


def _where_values_occur(listing: Listing, ids: NDArray[np.int64], masks: MaskPixels, values: Sequence[int]) -> str:
    """`37 in masks/a.png, 40 in masks/a.png and 2 more`."""
    found = []
    for value in values[:_LISTED]:
        rows = np.flatnonzero(masks.occurring[:, value])
        more = f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
        found.append(f"{value} in {listing.labels[int(ids[rows[0]])]}{more}")
    return ", ".join(found) + (", …" if len(values) > _LISTED else "")


def number_objects(values: Sequence[AbstractSet[int]]) -> bool:
    """Whether masks with these values number the objects of each image, and not classes: in 90 % of them, values are 0,
    1, 2 and so on without a gap, and the last values differ."""
    counts = _counts_without_gap(values)
    return len(counts) >= 0.9 * len(values) and max(counts, default=0) > _MANY_VALUES and len(set(counts)) > _ENDS


def may_number_objects(values: Sequence[AbstractSet[int]]) -> bool:
    """Whether masks with these values may number the objects of each image: in all of them, values are 0, 1, 2 and so
    on without a gap, and the last values differ and reach 2."""
    counts = _counts_without_gap(values)
    return len(counts) == len(values) and len(set(counts)) > 1 and max(counts) > 2


def _counts_without_gap(values: Sequence[AbstractSet[int]]) -> list[int]:
    """The number of values of each mask whose values are 0, 1, 2 and so on without a gap."""
    found = [{value for value in one if value != IGNORED or max(one) > IGNORED} for one in values]
    return [len(one) for one in found if one and max(one) + 1 == len(one)]


_MANY_VALUES, _ENDS = 20, 4
"""With fewer values, or fewer different last values, they may be classes in the order of their frequency."""


def background_and_objects(listing: Listing) -> str:
    """The command that writes masks of two classes into a new folder, and trains on them."""
    source = Path(listing.source)
    if not source.is_dir() or not all(re.fullmatch(r"masks/[^/]+", label) for label in listing.labels):
        return "save them with 0 for the background and 1 for every object"
    new = f"{source.name}-objects"
    # JSON's strings are valid Python, in quotation marks that a shell does not interpret.
    here, there = json.dumps(str(source / "masks")), json.dumps(f"{new}/masks")
    code = (
        "import numpy as n, pathlib as p; from PIL import Image as i;"
        f' [i.fromarray((n.asarray(i.open(m)) > 0).astype("u1")).save(p.Path({there}, m.name))'
        f" for m in p.Path({here}).iterdir()]"
    )
    folder = pasted(new)
    return (
        f"as background and objects: mkdir -p {folder}/masks && ln -s {pasted(source / 'images')} {folder}/images &&"
        f" python -c {pasted(code)} && striate train {folder}"
    )


def class_counts(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """(K,) float64: how many samples, or labeled pixels of masks, each class has."""
    labeled = targets[targets != IGNORED] if targets.dtype == torch.uint8 else targets
    return torch.bincount(labeled.reshape(-1).long(), minlength=classes).double()
