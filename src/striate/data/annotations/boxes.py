"""Boxes: any number of objects per image, each with edges and a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.annotation import AnnotationKind, or_split
from striate.data.annotations.label_sets import with_label_sets
from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.config import Fit
from striate.data.listing import Listing
from striate.data.media.medium import Placement, Preparation
from striate.data.rotated_boxes import SEEN, visible_shares
from striate.errors import DataError, OtherClassesError, pasted
from striate.wording import several

COLUMNS = ("left", "top", "right", "bottom", "class", "crowd")
"""The values of an object in targets, in pixels of the input; rotated boxes also have an angle, at the end."""
CLASS, CROWD, ANGLE = 4, 5, 6
NO_OBJECT = -1.0
"""The class of padding rows."""
VISIBLE = 0.25
"""A box that leaves the image is clipped, and left out if less than this share of its area remains."""
GRID = 256.0
"""Edges are multiples of 1/256 of a pixel, so that mirroring twice gives the same bits."""
_SMALL_QUANTILE, _SMALL_SIDE = 0.1, 16.0  # a quantile of the shorter sides of boxes, and its least size in pixels
_LONGER = (320, 640)  # pixels of the longer side of inputs
_MOST_SHAPES, _ANOTHER_SHAPE = (0.1, 0.9), 1.25
"""Quantiles of the aspect ratios of pictures; inputs are square if their ratio exceeds `_ANOTHER_SHAPE`."""
_STEP = 16  # pixels that sides of inputs are multiples of


def clip_boxes(
    boxes: NDArray[np.float64], height: float, width: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(M, 4) edges clipped to an image, and (M,) whether a box remains: at least `VISIBLE` of its area, which is not
    0."""
    clipped = np.clip(boxes, 0, [width, height, width, height])
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    left = np.prod(clipped[:, 2:] - clipped[:, :2], 1)
    positive = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return clipped, positive & (left > 0) & (left >= VISIBLE * whole)


class Boxes(AnnotationKind):
    """(N, M, 6) float32: a row of `COLUMNS` for each object, padded with rows of the class `NO_OBJECT`."""

    name: ClassVar[str] = "box"
    word: ClassVar[str] = "boxes"
    texts: ClassVar[str] = "boxes"
    task: ClassVar[str] = "detect"
    of_places: ClassVar[bool] = True
    layout: ClassVar[str] = ", or boxes as COCO, Pascal VOC, YOLO or a manifest with path,x_min,y_min,x_max,y_max,label"
    fit: ClassVar[Fit] = "pad"

    def present_classes(self, listing: Listing) -> Listing:
        """The classes of the boxes of each image."""
        sets = [{box.label for box in boxed.boxes} for boxed in listing.boxes]
        return with_label_sets(listing, sets, listing.classes)

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """The boxes without their line numbers."""
        return {number: frozenset(box[:4] for box in listing.boxes[number].boxes) for number in ids}

    def choose_size(self, listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, int], str] | None:
        """The size that small objects need."""
        shorter, shapes = [], list(sizes.values())
        for number, size in sizes.items():
            boxes = listing.boxes[number].in_pixels(size).boxes
            shorter += [side for box in boxes if (side := min(box.width, box.height)) > 0]
        if not shorter or not shapes:
            return None
        height, width = (int(np.median([shape[axis] for shape in shapes])) for axis in (0, 1))
        low, high = np.quantile([tall / wide for tall, wide in shapes], _MOST_SHAPES)
        if high > _ANOTHER_SHAPE * low:  # a square brings pictures of all shapes to the same scale
            height = width = int(np.median([max(shape) for shape in shapes]))
        longer, small = max(height, width), float(np.quantile(shorter, _SMALL_QUANTILE))
        side = min(longer, max(min(_LONGER), min(max(_LONGER), longer * _SMALL_SIDE / small)))
        scaled = tuple(max(_STEP, round(each * side / longer / _STEP) * _STEP) for each in (height, width))
        why = f"so that the shorter side of 9 in 10 boxes is at least {small * side / longer:.0f} pixels long"
        text = f"Size: {scaled[0]} × {scaled[1]} pixels (height × width), {why}; --size sets another."
        return (scaled[0], scaled[1]), text

    def placed_targets(
        self,
        listing: Listing,
        ids: NDArray[np.int64],
        masks: MaskPixels | None,
        classes: tuple[str, ...],
        place: Callable[[int], Placement | None],
    ) -> NDArray[Any]:
        """Boxes in pixels of the inputs. Boxes without an area, or outside the image (`clip_boxes`; rotated ones with
        less than `SEEN` in it), are left out."""
        del masks
        numbers = {name: number for number, name in enumerate(classes)}
        rotated = any(box.angle is not None for boxed in listing.boxes for box in boxed.boxes)
        most = max((len(listing.boxes[i].boxes) for i in ids.tolist()), default=0)
        targets = np.zeros((len(ids), max(1, most), 7 if rotated else 6), np.float32)
        targets[:, :, CLASS] = NO_OBJECT
        for row, number in enumerate(ids.tolist()):
            placed = place(number)
            assert placed is not None, "boxes are of images"
            boxes = listing.boxes[number].in_pixels(placed.file).boxes
            if not boxes:
                continue
            given = np.array([(*box.edges, box.angle or 0.0) for box in boxes])
            if rotated:
                edges = placed.rotated_boxes(given)
                kept = visible_shares(edges, *placed.canvas) >= SEEN
            else:
                edges, kept = clip_boxes(placed.boxes(given[:, :4]), *placed.canvas)
            count = int(kept.sum())
            targets[row, :count, :4] = np.round(edges[kept, :4] * GRID) / GRID
            chosen = [box for box, keep in zip(boxes, kept.tolist(), strict=True) if keep]
            targets[row, :count, CLASS] = [numbers[box.label] for box in chosen]
            targets[row, :count, CROWD] = [box.crowd for box in chosen]
            if rotated:
                targets[row, :count, ANGLE] = edges[kept, 4]
        return targets

    def check(self, listing: Listing, ids: Mapping[str, NDArray[np.int64]], targets: Mapping[str, Any]) -> None:
        """Each split needs an object: without any, there is nothing to measure."""
        for name, own in targets.items():
            if self._has_object(own):
                continue
            got, remedy = f"no object in the {several(len(own), 'image')} of {name}", "annotate objects in them"
            if listing.boxes and (count := sum(len(listing.boxes[number].boxes) for number in ids[name].tolist())):
                got += f": {several(count, 'object lies', 'objects lie')} outside of their images, or nearly so"
                remedy = f"correct them; which they are: striate data check {pasted(listing.source)}"
            elif any(listing.given):
                remedy = f"move images with objects there{or_split(listing, 'give no splits')}"
            raise DataError(f"data {listing.source}", got, "at least one in each split", remedy)

    def _has_object(self, targets: Any) -> bool:
        return bool((targets[:, :, CLASS] >= 0).any())

    def counted(self, listing: Listing, ids: Sequence[int]) -> str:
        """`2,784 objects of 3 classes: RBC (2,421), …`."""
        counts = Counter(box.label for number in ids for box in listing.boxes[number].boxes)
        named = ", ".join(f"{name} ({counts[name]:,})" for name in listing.classes[:10])
        more = f", … and {len(listing.classes) - 10} more" if listing.classes[10:] else ""
        kinds = several(len(listing.classes), "class", "classes")
        return f"{several(counts.total(), 'object')} of {kinds}: {named}{more}"

    def match(
        self, listing: Listing, classes: tuple[str, ...], preparation: Preparation
    ) -> tuple[Listing, tuple[str, ...]]:
        """By name."""
        del preparation
        unknown = sorted({box.label for boxed in listing.boxes for box in boxed.boxes} - set(classes))
        if unknown:
            raise OtherClassesError(
                f"data {listing.source}",
                f"classes that the network does not know: {', '.join(unknown[:5])}",
                f"some of its {several(len(classes), 'class', 'classes')}: {', '.join(classes[:10])}",
                "rename these classes, or leave them out",
            )
        return replace(listing, classes=classes), ()
