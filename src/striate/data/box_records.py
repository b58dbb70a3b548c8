"""What a source says of the objects of one image, before anything is decoded; free of torch.

A box has pixel edges (left, top, right, bottom) in pixels of the file, from the corner of its first pixel; where it is
rotated, these are the edges before it is turned about its center by `angle` degrees, counterclockwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Edges = tuple[float, float, float, float]


class Box(NamedTuple):
    """One object: its `edges`, the name of its class, whether it is a `crowd` of many that nobody told apart, its
    `angle` (None where boxes are upright), the `line` of the file, or the number of the entry, that says so, and its
    `mask` in the size of `Boxed`, as `striate.data.mask_codes` has it (None where only the box is known)."""

    edges: Edges
    label: str
    crowd: bool = False
    angle: float | None = None
    line: int = 0
    mask: bytes | None = None

    @property
    def width(self) -> float:
        """In pixels; 0 or less where it has no area."""
        return self.edges[2] - self.edges[0]

    @property
    def height(self) -> float:
        """In pixels; 0 or less where it has no area."""
        return self.edges[3] - self.edges[1]


@dataclass(frozen=True)
class Boxed:
    """The boxes of one image, as `file` says. `size` (height, width) is what it says of the image, None where it says
    nothing. `relative`: edges are shares of width and height, as in YOLO."""

    boxes: tuple[Box, ...]
    file: str
    size: tuple[int, int] | None = None
    relative: bool = False

    def where(self, box: Box) -> str:
        """The file and its line, or the number of the entry."""
        return f"{self.file}, {box.line}" if self.file.endswith(".json") else f"{self.file}, line {box.line}"

    def in_pixels(self, size: tuple[int, int]) -> Boxed:
        """With edges in pixels of an image of (height, width) `size`."""
        if not self.relative:
            return self
        height, width = size
        boxes = (
            box._replace(
                edges=(box.edges[0] * width, box.edges[1] * height, box.edges[2] * width, box.edges[3] * height)
            )
            for box in self.boxes
        )
        return Boxed(tuple(boxes), self.file, self.size, relative=False)


def counts_text(boxes: Iterable[Box]) -> str:
    """`RBC 12, WBC 1`: how many objects of each class, the commonest first; `no objects` where there are none."""
    counts = Counter(box.label for box in boxes)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "no objects"


def around(points: Sequence[float]) -> Edges:
    """The upright box around points x, y, x, y, …"""
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
