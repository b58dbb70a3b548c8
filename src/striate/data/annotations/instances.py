"""Instances: any number of objects per image, each with a mask and a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS, NO_OBJECT, Boxes
from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.box_records import ImageBoxes
from striate.data.listing import Listing
from striate.data.mask_codes import painted
from striate.data.media.medium import Placement
from striate.errors import DataError
from striate.wording import several

_EXACT = 1 << 24
"""Larger integers are not all exact in float32."""


class Instances(Boxes):
    """(N, H, W) int16 or int32: 0 where there is no object, else 1 + 2 · (object · classes + class) + crowd, from the
    number of the object, its class, and whether it is a crowd. Where masks overlap, the smaller object is on top."""

    name: ClassVar[str] = "instance"
    word: ClassVar[str] = "masks of single objects"
    texts: ClassVar[str] = "masks of single objects"
    task: ClassVar[str] = "instances"
    of_whole: ClassVar[bool] = False
    layout: ClassVar[str] = ", or outlines as COCO, or images/ and masks/ whose values number the objects"

    def label_keys(self, listing: Listing, ids: Sequence[int]) -> dict[int, object]:
        """The masks without their line numbers."""
        return {
            number: frozenset((box.label, box.crowd, box.mask) for box in listing.boxes[number].boxes) for number in ids
        }

    def placed_targets(
        self,
        listing: Listing,
        ids: NDArray[np.int64],
        masks: MaskPixels | None,
        classes: tuple[str, ...],
        place: Callable[[int], Placement | None],
    ) -> NDArray[Any]:
        """Each pixel of an input has the object at its center in the file. Raises DataError for masks whose size
        differs from that of their image."""
        del masks
        most = max((len(listing.boxes[i].boxes) for i in ids.tolist()), default=0)
        if 2 * most * len(classes) + 1 >= _EXACT:
            got = f"{several(most, 'object')} in an image, of {several(len(classes), 'class', 'classes')}"
            raise DataError(
                f"data {listing.source}", got, f"objects × classes of at most {_EXACT // 2}", "cut the images"
            )
        kind = np.int16 if 2 * most * len(classes) < np.iinfo(np.int16).max else np.int32
        numbers = {name: number for number, name in enumerate(classes)}
        targets: NDArray[Any] | None = None
        for row, number in enumerate(ids.tolist()):
            placed = place(number)
            assert placed is not None, "masks are of images"
            if targets is None:
                targets = np.zeros((len(ids), *placed.canvas), kind)
            targets[row] = placed_values(_numbered(listing, number, numbers, placed.file), placed)
        assert targets is not None
        return targets

    def _has_object(self, targets: Any) -> bool:
        return bool(targets.any())


def _numbered(listing: Listing, number: int, classes: dict[str, int], size: tuple[int, int]) -> NDArray[np.int32]:
    """The objects of an image in its pixels, the larger ones first. Raises DataError for masks of another size."""
    boxed: ImageBoxes = listing.boxes[number]
    if boxed.size is not None and boxed.size != size:
        got = "{} × {} (height × width) for an image of {} × {}".format(*boxed.size, *size)
        raise DataError(
            f"data {listing.source}, {boxed.file}",
            f"masks of {got}: {listing.paths[number]}",
            "masks with the size of their image",
            "use the image that was annotated, or leave it out",
        )
    order = sorted(range(len(boxed.boxes)), key=lambda k: -boxed.boxes[k].width * boxed.boxes[k].height)
    codes = [
        (box.mask, 1 + 2 * (k * len(classes) + classes[box.label]) + box.crowd)
        for k in order
        if (box := boxed.boxes[k]).mask is not None
    ]
    return painted(codes, size)


def placed_values(values: NDArray[np.int32], placed: Placement) -> NDArray[np.int32]:
    """Values (h, w) of a file, moved into its input: those at the centers of the pixels, 0 outside the image."""
    places, inside = [], []
    for axis, (side, length) in enumerate(zip(placed.canvas, placed.file, strict=True)):
        scale, offset = placed.scale[1 - axis], placed.offset[1 - axis]  # these are of x and y
        at = np.floor((np.arange(side) + 0.5 - offset) / scale).astype(np.int64)
        places.append(np.clip(at, 0, length - 1))
        inside.append((at >= 0) & (at < length))
    seen: NDArray[np.int32] = values[np.ix_(*places)] * np.logical_and.outer(*inside)
    return seen


def objects_of(maps: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes around the visible pixels of objects in targets (B, H, W): (B, M, 6) float32 in the columns of boxes,
    in the order of their numbers, then padding; and (B, M) the value of the pixels of each (0: padding)."""
    batch, (height, width) = len(maps), maps.shape[1:]
    image, y, x = maps.nonzero(as_tuple=True)
    values = maps[image, y, x].long()
    number = (values - 1) // (2 * classes)
    most = int(number.max()) + 1 if len(number) else 1
    place = image * most + number
    lines, columns = (
        torch.zeros(batch * most, side, dtype=torch.uint8, device=maps.device) for side in (height, width)
    )
    lines[place, y], columns[place, x] = 1, 1
    value = torch.zeros(batch * most, dtype=torch.int64, device=maps.device)
    value[place] = values
    there = value > 0
    edges = [
        *(seen.argmax(1) for seen in (columns, lines)),
        *(seen.shape[1] - seen.flip(1).argmax(1) for seen in (columns, lines)),
    ]
    kind, crowd = (value - 1) // 2 % classes, (value - 1) % 2
    rows = torch.stack([*edges, kind, crowd], 1).float() * there[:, None]
    rows[:, CLASS] = torch.where(there, rows[:, CLASS], NO_OBJECT)
    rows, value = rows.view(batch, most, 6), value.view(batch, most)
    order = torch.sort((value == 0).byte(), dim=1, stable=True).indices[:, : max(1, int((value > 0).sum(1).max()))]
    return rows.gather(1, order[..., None].expand(-1, -1, 6)), value.gather(1, order)
