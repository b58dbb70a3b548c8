"""The objects of one image as a source describes them, before anything is decoded; free of torch.

A box has edges (left, top, right, bottom) in pixels of the file, from the corner of its first pixel. The edges of a
rotated box are those before it is rotated about its center by `angle` degrees, counterclockwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

Edges = tuple[float, float, float, float]


class Box(NamedTuple):
    """One object."""

    edges: Edges
    """Left, top, right, bottom; in the unit of its `ImageBoxes`."""
    label: str
    """The name of its class."""
    crowd: bool = False
    """Whether it stands for many objects that were not annotated one by one (COCO's `iscrowd`)."""
    angle: float | None = None
    """Degrees, counterclockwise; None for an upright box."""
    line: int = 0
    """The line of the annotation file, or the number of the entry, that describes it."""
    mask: bytes | None = None
    """Run-length code of its mask (`striate.data.mask_codes`), in the size of its `ImageBoxes`; None where only the box
    is known."""

    @property
    def width(self) -> float:
        """Right minus left edge; 0 or less for a box without an area."""
        return self.edges[2] - self.edges[0]

    @property
    def height(self) -> float:
        """Bottom minus top edge; 0 or less for a box without an area."""
        return self.edges[3] - self.edges[1]


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image."""

    boxes: tuple[Box, ...]
    file: str
    """The annotation file."""
    size: tuple[int, int] | None = None
    """(height, width) of the image by that file; None where it does not say."""
    entry: int = 0
    """The number of the entry that describes the image, in a file that lists images."""
    relative: bool = False
    """Whether edges are fractions of width and height, as in YOLO, not pixels."""

    def where(self, box: Box) -> str:
        """The file, and the line or number of the entry of a box."""
        return f"{self.file}, {box.line}" if self.file.endswith(".json") else f"{self.file}, line {box.line}"

    def in_pixels(self, size: tuple[int, int]) -> ImageBoxes:
        """The same boxes with edges in pixels, of an image of (height, width) `size`."""
        if not self.relative:
            return self
        height, width = size
        boxes = (
            box._replace(
                edges=(box.edges[0] * width, box.edges[1] * height, box.edges[2] * width, box.edges[3] * height)
            )
            for box in self.boxes
        )
        return replace(self, boxes=tuple(boxes), relative=False)


def counts_text(boxes: Iterable[Box]) -> str:
    """`RBC 12, WBC 1`: how many objects of each class, the commonest first; `no objects` where there are none."""
    counts = Counter(box.label for box in boxes)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "no objects"


def edges_around(points: Sequence[float]) -> Edges:
    """The upright box around points x, y, x, y, …"""
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
