"""A mask a sample: a class for each pixel."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind
from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.dataset import Dataset
from striate.data.fingerprint import content_digest
from striate.data.listing import Listing
from striate.errors import DataError, pasted
from striate.wording import several

IGNORED = 255
"""The class number of pixels that nobody labeled, in targets; in masks also the value, where it is no class."""


class Masks(AnnotationKind):
    """(N, H, W) uint8 class numbers; `IGNORED` counts for nothing."""

    name: ClassVar[str] = "mask"
    word: ClassVar[str] = "masks"
    texts: ClassVar[str] = "masks"
    task: ClassVar[str] = "segment"
    of_whole: ClassVar[bool] = False
    layout: ClassVar[str] = ", or a folder with images/ and masks/"

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """Digests of the masks."""
        assert listing.targets is not None
        return {number: content_digest(listing.targets[number].tobytes()) for number in ids}

    def classes_of(self, listing: Listing, masks: MaskPixels | None) -> tuple[str, ...]:
        """Values of the masks; 255 is "ignored" where the others number more than one."""
        assert masks is not None
        values = masks.values
        if len(values) > _MANY_VALUES and number_objects([set(np.flatnonzero(row)) for row in masks.occurring]):
            raise DataError(
                f"data {listing.source}, masks",
                f"{several(len(values), 'value')}, in each mask from 0 to another number: they number the objects of "
                "an image",
                "masks whose values are classes",
                background_and_objects(listing),
            )
        if len(values - {IGNORED}) > 1:
            values.discard(IGNORED)
        if len(values) < 2:
            raise DataError(
                f"data {listing.source}, masks",
                f"the one value {', '.join(map(str, values))} in all masks",
                "two values or more, one for each class",
                "check that the masks were saved with their class numbers",
            )
        return tuple(str(value) for value in sorted(values))

    def targets(
        self, listing: Listing, ids: NDArray[np.int64], masks: MaskPixels | None, classes: tuple[str, ...]
    ) -> NDArray[np.uint8]:
        """Values of the masks as positions in `classes`."""
        del ids
        assert masks is not None
        to_class = np.full(256, IGNORED, np.uint8)
        for number, name in enumerate(classes):
            to_class[int(name)] = number
        unknown = sorted({str(v) for v in masks.values} - set(classes) - {str(IGNORED)})
        if unknown:
            raise DataError(
                f"data {listing.source}, masks",
                f"values that the network does not know: {', '.join(unknown[:10])}",
                f"some of {', '.join(classes)}, or 255 for ignored pixels",
                "renumber the masks",
            )
        return masks.numbered(to_class, IGNORED)

    def check(self, data: Dataset) -> None:
        """Each split of masks has a pixel that is labeled: of others there is nothing to learn or to measure."""
        for name, split in data.splits.items():
            if len(split) and bool((split.targets == IGNORED).all()):
                raise DataError(
                    f"data {data.source}",
                    f"no labeled pixel in the {several(len(split), 'mask')} of {name}: all are {IGNORED}, which "
                    "counts for nothing",
                    "at least one labeled pixel in each split",
                    "label some of its masks, or let striate split: put all images into one folder",
                )


def number_objects(values: Sequence[AbstractSet[int]]) -> bool:
    """Whether masks with these values number the objects of each image, rather than name classes: in nine of ten, the
    values are 0, 1, 2 and so on without a gap, and these end at many different numbers."""
    found = [{value for value in one if value != IGNORED} for one in values]
    gapless = [len(one) for one in found if one and max(one) + 1 == len(one)]
    return len(gapless) >= 0.9 * len(found) and max(gapless, default=0) > _MANY_VALUES and len(set(gapless)) > _ENDS


_MANY_VALUES, _ENDS = 20, 4
"""Fewer values, or fewer different ends, may be classes that are numbered by how rare they are."""


def background_and_objects(listing: Listing) -> str:
    """The command that writes masks of two classes into a new folder, and trains on them."""
    source = Path(listing.source)
    if not source.is_dir() or not all(re.fullmatch(r"masks/[^/]+", label) for label in listing.labels):
        return "save them with 0 for the background and 1 for every object"
    new = f"{source.name}-objects"
    # JSON writes texts as Python reads them, in the quotation marks that a shell leaves alone.
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
