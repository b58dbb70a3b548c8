"""A network as a diagram in SVG, drawn from its ledger: the size and depth of maps, and the costs of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from xml.etree import ElementTree

from striate.account.field.effective import EffectiveField
from striate.account.ledger import Ledger, Shape
from striate.errors import one_line
from striate.visualize.field_drawing import draw_field
from striate.visualize.network_boxes import Box, network_boxes
from striate.visualize.themed_svg import add_text
from striate.wording import percent_of, scaled, several, shorten_middle, shorten_path, show_shape

_STEP = 9.0  # between lanes, if they fit
_HEAD = 5.0


@dataclass(frozen=True)
class Place:
    """The position of a box."""

    right: float
    """Its right edge."""
    middle: float
    """Its middle, from the top."""
    high: float
    """Its height."""


@dataclass(frozen=True)
class Bypass:
    """A line from an output past other boxes."""

    source: int
    """Position of the box whose output it is; −1 is the network's input."""
    targets: tuple[int, ...]
    """Positions of the boxes that take the output."""
    lane: int
    """From 0, the innermost."""

    @property
    def span(self) -> tuple[int, int]:
        """The positions of its first and its last box."""
        ends = (self.source, *self.targets)
        return min(ends), max(ends)


def find_bypasses(inputs: Sequence[tuple[int, ...]]) -> list[Bypass]:
    """A bypass for each box whose output is an input of boxes other than the next one; `inputs` are those of the boxes.

    Short bypasses have inner lanes; two bypasses that do not overlap may share a lane.
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
    """Draw all bypasses in lanes from `x` to `to`, with an arrowhead at each box that takes the output; `begin` is the
    place of the network's input."""
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


WIDTH = 892
_NAME_LETTERS, _TEXT_LETTERS = 31, 38
_MIDDLE, _MAP = 372, 220  # the middle of the boxes, and the widest one
_LANES = (492, 540)  # for outputs that go past other boxes
_SHAPE, _PARAMETERS, _MACS, _BAR = 552, 677, 787, 90
_LOWEST, _HIGHEST = 8, 40  # the heights of boxes with one channel, and with the most
_TOP, _GAP = 80, 12

_LEGENDS = (
    "Width of a box: square root of the side of its map. Height: logarithm of its channels. Orange: no map.",
    "Lines: from outputs to the layers that take them. Several inputs are added, multiplied or concatenated first.",
)
_INSIDE = "| separates branches inside a box; skip: a branch that passes the input on unchanged."
_STYLE = """
.network { --paper: #fff; --ink: #1b1f24; --faint: #57606a; --line: #8c959f; --stage: #f3f5f8; --map: #9ecae9;
  --flat: #f2c188; --params: #d55e00; --macs: #0072b2; font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
@media (prefers-color-scheme: dark) { .network { --paper: #14181d; --ink: #e6e8eb; --faint: #a3adb8; --line: #7d8894;
  --stage: #1f262e; --map: #2f6d99; --flat: #94622a; --params: #ff9a57; --macs: #6bb8ec; } }
@media print { .network { --paper: #fff; --ink: #000; --faint: #444; --line: #777; --stage: #f3f5f8; --map: #9ecae9;
  --flat: #f2c188; --params: #d55e00; --macs: #0072b2; } }
.network .paper { fill: var(--paper); }
.network text { fill: var(--ink); font-size: 12px; } .network text.faint { fill: var(--faint); }
.network .name { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.network text.title { font-size: 16px; font-weight: 600; } .network .end { text-anchor: end; }
.network .stage { fill: var(--stage); } .network .map { fill: var(--map); stroke: var(--line); }
.network .flat { fill: var(--flat); stroke: var(--line); } .network .wire { stroke: var(--line); fill: none; }
.network .head { fill: var(--line); }
.network .params { fill: var(--params); } .network .macs { fill: var(--macs); }
.network .field { stroke: var(--params); fill: none; stroke-width: 2; }
.network .theory { stroke: var(--macs); fill: none; stroke-width: 2; stroke-dasharray: 5 4; }
"""


def network_diagram(ledger: Ledger, field: EffectiveField | None = None) -> str:
    """The network as SVG text, a box a layer or module from top to bottom, readable in light and dark.

    Width of a box: side of its map; height: channels, or features. Beside it: what it is, output, parameters and
    multiply–accumulates with their shares. `field` is drawn beneath.
    """
    boxes = network_boxes(ledger)
    svg = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "network", "role": "img"})
    ElementTree.SubElement(svg, "title").text = one_line(f"Diagram of {ledger.model}")
    ElementTree.SubElement(svg, "style").text = _STYLE
    paper = ElementTree.SubElement(svg, "rect", {"class": "paper", "width": "100%", "height": "100%"})
    paper.tail = "\n"
    add_text(svg, 16, 26, shorten_middle(f"{ledger.model}", 60), "title")
    add_text(svg, 16, 46, _subtitle(ledger), "faint")
    for x, head in ((_SHAPE, "output"), (_PARAMETERS, "parameters"), (_MACS, "MACs")):
        add_text(svg, x, _TOP - 12, head, "faint")
    bottom = _draw_boxes(svg, boxes, ledger)
    branched = any(" | " in box.text for box in boxes)
    for line in (*_LEGENDS, *[_INSIDE] * branched):
        bottom += 17
        add_text(svg, 16, bottom + 5, line, "faint")
    bottom += 23
    if field is not None:
        bottom = draw_field(svg, field, ledger, bottom)
    svg.set("viewBox", f"0 0 {WIDTH} {bottom:.0f}")
    svg.set("width", str(WIDTH))
    svg.set("height", f"{bottom:.0f}")
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def _subtitle(ledger: Ledger) -> str:
    return (
        f"{show_shape(ledger.input)} → {show_shape(ledger.output)}; {several(ledger.params, 'parameter')}, "
        f"{scaled(ledger.macs)} multiply–accumulates, {several(len(ledger.rows), 'layer')}"
    )


def _draw_boxes(svg: ElementTree.Element, boxes: Sequence[Box], ledger: Ledger) -> float:
    """Draw all boxes, and the stages behind them; returns the bottom."""
    places: list[tuple[Box, float, float, float]] = []
    top = float(_TOP)
    for box in boxes:
        wide, high = _size(box.out_shape, ledger)
        row = max(high, 30.0)
        places.append((box, top, wide, high))
        top += row + _GAP
    for _, stage in groupby(places, lambda place: place[0].stage):
        members = list(stage)
        if len(members) > 1:
            first, last = members[0][1], members[-1][1] + max(members[-1][3], 30.0)
            _rect(svg, "stage", 8, first - _GAP / 2 + 1, WIDTH - 16, last - first + _GAP - 2, rounded=6)
    _draw_wires(svg, places)
    for box, y, wide, high in places:
        middle = y + max(high, 30.0) / 2
        _rect(svg, "map" if _side(box.out_shape) > 1 else "flat", _MIDDLE - wide / 2, middle - high / 2, wide, high)
        _describe(svg, box, middle, ledger)
    return top


def _draw_wires(svg: ElementTree.Element, places: Sequence[tuple[Box, float, float, float]]) -> None:
    """Draw lines between consecutive boxes, and bypasses beside the boxes."""
    spots = [Place(_MIDDLE + wide / 2, y + max(high, 30.0) / 2, high) for _, y, wide, high in places]
    begin = Place(_MIDDLE, _TOP - 6, 0)
    inputs = [box.inputs for box, *_ in places]
    for index, (before, after) in enumerate(pairwise([begin, *spots])):
        if index - 1 in inputs[index]:
            line = {
                "class": "wire",
                "x1": str(_MIDDLE),
                "x2": str(_MIDDLE),
                "y1": f"{before.middle + before.high / 2:.1f}",
            }
            ElementTree.SubElement(svg, "line", line | {"y2": f"{after.middle - after.high / 2:.1f}"})
    draw_bypasses(svg, inputs, spots, begin, *_LANES)


def _describe(svg: ElementTree.Element, box: Box, y: float, ledger: Ledger) -> None:
    add_text(svg, 16, y - 3, shorten_path(box.name, _NAME_LETTERS), "name")
    add_text(svg, 16, y + 12, shorten_middle(box.text, _TEXT_LETTERS), "faint")
    add_text(svg, _SHAPE, y + 4, show_shape(box.out_shape), "")
    for x, kind, count, total in (
        (_PARAMETERS, "params", box.params, ledger.params),
        (_MACS, "macs", box.macs, ledger.macs),
    ):
        if count:
            add_text(svg, x, y - 1, f"{scaled(count)}  ({percent_of(count, total)} %)", "")
            _rect(svg, kind, x, y + 5, max(1.0, _BAR * count / total), 5)


def _size(shape: Shape, ledger: Ledger) -> tuple[float, float]:
    """Width and height of a box."""
    largest = max([_side(ledger.input), *(_side(row.out_shape) for row in ledger.rows)])
    most = max((row.out_shape[0] for row in ledger.rows if row.out_shape), default=1)
    wide = max(10.0, _MAP * math.sqrt(_side(shape) / largest)) if _side(shape) > 1 else 10.0
    channels = shape[0] if shape else 1
    return wide, _LOWEST + (_HIGHEST - _LOWEST) * math.log2(max(channels, 1)) / math.log2(max(most, 2))


def _side(shape: Shape) -> float:
    """The side of a map; of unequal sides their geometric mean."""
    sides = shape[1:]
    return math.prod(sides) ** (1 / len(sides)) if sides else 1.0


def _rect(svg: ElementTree.Element, kind: str, x: float, y: float, wide: float, high: float, rounded: int = 2) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{wide:.1f}", "height": f"{high:.1f}", "rx": str(rounded)}
    ElementTree.SubElement(svg, "rect", {"class": kind} | place)
