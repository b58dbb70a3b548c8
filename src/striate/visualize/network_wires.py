"""Lines of a diagram beside its boxes: outputs that are taken by others than the next box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

_STEP = 9.0  # between the lanes, where there is room
_HEAD = 5.0


@dataclass(frozen=True)
class Place:
    """Where a box is: its right edge, its middle from the top, its height."""

    right: float
    middle: float
    high: float


@dataclass(frozen=True)
class Bypass:
    """One output on its way past other boxes: the place of the box it comes from (−1: the network's input), those of
    the boxes that take it, and how far out it runs, the innermost lane being 0."""

    source: int
    targets: tuple[int, ...]
    lane: int

    @property
    def span(self) -> tuple[int, int]:
        """The places of its first and its last box."""
        ends = (self.source, *self.targets)
        return min(ends), max(ends)


def find_bypasses(inputs: Sequence[tuple[int, ...]]) -> list[Bypass]:
    """A bypass for each box whose output is taken by others than the next one; `inputs` are those of the boxes.

    Short ones run inside; two share a lane where none begins before the other ends.
    """
    bare = []
    for source in range(-1, len(inputs)):
        targets = tuple(place for place, taken in enumerate(inputs) if source in taken and place != source + 1)
        if targets:
            bare.append(Bypass(source, targets, 0))
    lanes: list[list[Bypass]] = []
    for bypass in sorted(bare, key=lambda b: b.span[1] - b.span[0]):
        first, last = bypass.span
        free = (k for k, lane in enumerate(lanes) if all(o.span[1] <= first or last <= o.span[0] for o in lane))
        chosen = next(free, len(lanes))
        lanes += [[]] if chosen == len(lanes) else []
        lanes[chosen].append(Bypass(bypass.source, bypass.targets, chosen))
    return [bypass for lane in lanes for bypass in lane]


def draw_bypasses(
    svg: ElementTree.Element,
    inputs: Sequence[tuple[int, ...]],
    places: Sequence[Place],
    begin: Place,
    x: float,
    to: float,
) -> None:
    """Draw all bypasses in lanes from `x` to `to`, with a head at each box that takes the output; `begin` is where the
    network's input comes in."""
    bypasses = find_bypasses(inputs)
    most = max((bypass.lane for bypass in bypasses), default=0)
    step = min(_STEP, (to - x) / max(1, most))
    for bypass in bypasses:
        lane = x + step * bypass.lane
        source = begin if bypass.source < 0 else places[bypass.source]
        start = source.middle + source.high / 4
        targets = [places[place] for place in bypass.targets]
        ends = [target.middle - target.high / 4 for target in targets]
        path = f"M {source.right:.1f} {start:.1f} H {lane:.1f} "
        path += f"M {lane:.1f} {min(start, *ends):.1f} V {max(start, *ends):.1f}"
        for target, end in zip(targets, ends, strict=True):
            path += f" M {lane:.1f} {end:.1f} H {target.right + _HEAD:.1f}"
            back = " ".join(f"{target.right + _HEAD + 1:.1f},{end + side:.1f}" for side in (-3, 3))
            ElementTree.SubElement(svg, "polygon", {"class": "head", "points": f"{target.right:.1f},{end:.1f} {back}"})
        ElementTree.SubElement(svg, "path", {"class": "wire", "d": path})
