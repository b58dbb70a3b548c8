"""The mask of a single object as a run-length code (COCO's compressed RLE); free of torch.

A code has the lengths of alternating runs of pixels outside and inside, column by column, as text in the format of
faster-coco-eval. It belongs to a size: (height, width) of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]


def encode_part(inside: NDArray[np.bool_], corner: tuple[int, int], size: Size) -> bytes:
    """The code of a mask of (height, width) `size` that is False except for the part `inside`, whose first pixel is at
    `corner` (top, left). Only the columns of the part are processed."""
    from faster_coco_eval import mask as codes  # loads only where it is needed

    (top, left), (height, width) = corner, size
    columns = np.zeros((height, inside.shape[1]), np.bool_)
    columns[top : top + inside.shape[0]] = inside
    flat = columns.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=False, append=False)) + left * height
    end = height * width  # a run of length 0 at the end is not written
    runs = np.diff(starts[starts < end], prepend=0, append=end).tolist()
    code: bytes = codes.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    return code


def decode(code: bytes, size: Size) -> NDArray[np.bool_]:
    """(height, width) the mask of a code."""
    from faster_coco_eval import mask as codes

    pixels: NDArray[np.bool_] = codes.decode({"size": list(size), "counts": code}).astype(np.bool_)
    return pixels


def edges_of(code: bytes, size: Size) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edges of the pixels in the mask of a code; all 0 where there are none."""
    from faster_coco_eval import mask as codes

    left, top, width, height = map(float, codes.toBbox({"size": list(size), "counts": code}).reshape(4).tolist())
    return left, top, left + width, top + height


def mask_of(outline: Any, size: Size) -> bytes | None:
    """The code of COCO's entry `segmentation`: polygons, or runs, compressed or not; None where it is neither, or has
    another size."""
    from faster_coco_eval import mask as codes

    height, width = size
    if isinstance(outline, dict):
        counts = outline.get("counts")
        if outline.get("size") != [height, width] or not isinstance(counts, list | str):
            return None
        if isinstance(counts, str):
            return counts.encode() if _whole(counts.encode(), size) else None
        if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != height * width:
            return None
        found: bytes = codes.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
        return found
    if not _polygons(outline):
        return None
    merged: bytes = codes.merge(codes.frPyObjects(outline, height, width))["counts"]
    return merged


def _polygons(outline: Any) -> bool:
    """Whether it is a list of polygons x, y, x, y, … with three corners or more."""
    if not isinstance(outline, list) or not outline:
        return False
    return all(
        isinstance(part, list)
        and len(part) >= 6
        and len(part) % 2 == 0
        and all(isinstance(value, int | float) and abs(value) < _FAR for value in part)
        for part in outline
    )


_FAR = 1e7


def _whole(code: bytes, size: Size) -> bool:
    """Whether the runs of a code end at the end of the picture; otherwise the decoder would read beyond its memory."""
    runs: list[int] = []
    value, shift = 0, 0
    for letter in code:
        digit = letter - 48
        if not 0 <= digit < 64:
            return False
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        # From the fourth run on, the difference from the run two before it is written.
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return shift == 0 and all(run >= 0 for run in runs) and sum(runs) == size[0] * size[1]


def as_entry(code: bytes, size: Size) -> dict[str, Any]:
    """The entry in COCO's JSON."""
    return {"size": list(size), "counts": code.decode()}


def painted(codes: Sequence[tuple[bytes, int]], size: Size) -> NDArray[np.int32]:
    """(height, width): the masks of `codes` painted with their numbers, one after the other; 0 where there is none."""
    numbers = np.zeros(size, np.int32)
    for code, number in codes:
        numbers[decode(code, size)] = number
    return numbers
