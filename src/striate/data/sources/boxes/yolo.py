"""Boxes as in YOLO: images/ and labels/ with a .txt for each image, names in data.yaml, splits as subfolders.

A line is `class center_x center_y width height`, in fractions of width and height; with more numbers, an outline x y x
y …
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from striate.data.box_records import Box, ImageBoxes, edges_around
from striate.data.listing import Listing
from striate.data.media.every_medium import is_sample
from striate.data.sources.boxes.coco import split_named
from striate.data.sources.boxes.make_listing import box_listing, damaged
from striate.data.sources.tree import Tree, read_required

# Must match in one way only: else a long line that fails at its end would be tried in all ways.
_NUMBER = r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE]-?[0-9]+)?"
_LINE = re.compile(rf"[0-9]+(?:\s+{_NUMBER}){{4,}}\s*")
_FIELDS = 5
"""Fields in the line of a box; the line of an outline has more."""
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")


def label_files(tree: Tree, *, requested: bool) -> dict[str, str]:
    """The .txt of each image that has one, beside it, or in labels/ in place of images/. Empty if most of these have
    other lines, unless boxes are `requested` or there is a file of class names."""
    texts = {file for file in tree.files if file.endswith(".txt") and PurePosixPath(file).name not in _NAMES}
    pictures = [file for file in tree.files if is_sample(file)] if texts else []
    pairs = {picture: text for picture in pictures if (text := _label_of(picture)) in texts}
    if requested or any(PurePosixPath(file).name in _NAMES[:3] for file in tree.files):
        return pairs  # reading reports a wrong line with its place
    first = (_lines(tree, text) for text in list(pairs.values())[:20])
    fits = [_LINE.fullmatch(lines[0][1][:4096]) is not None for lines in first if lines]
    return pairs if 2 * sum(fits) > len(fits) else {}


def _label_of(picture: str) -> str:
    path = PurePosixPath(picture)
    parts = list(path.with_suffix(".txt").parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return "/".join(parts)


def list_yolo(tree: Tree, pairs: Mapping[str, str]) -> Listing:
    """Every image; an image without a .txt, or with an empty one, has no objects. Raises DataError with the line."""
    names = _class_names(tree)
    found: dict[str, tuple[ImageBoxes, str | None]] = {}
    outlined = False
    for picture in (file for file in tree.files if is_sample(file)):
        file = pairs.get(picture)
        lines = [] if file is None else _lines(tree, file)
        boxes = tuple(_box(tree, str(file), number, line, names) for number, line in lines)
        outlined = outlined or any(len(line.split()) > _FIELDS for _, line in lines)
        split = split_named(picture.rpartition("/")[0])
        found[picture] = ImageBoxes(boxes, file or _label_of(picture), relative=True), split
    used = {*pairs.values(), *(file for file in tree.files if PurePosixPath(file).name in _NAMES)}
    notes = ["Outlines are not read, only the boxes around them."] if outlined else []
    return box_listing(tree, found, classes=tuple(names.values()), used=used, notes=notes)


def _lines(tree: Tree, file: str) -> list[tuple[int, str]]:
    text = read_required(tree, file).decode("utf-8", "replace")
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _class_names(tree: Tree) -> dict[int, str]:
    """Class names by number, from data.yaml or a list of names; empty where there is none, so that numbers are the
    names."""
    for file in sorted(tree.files, key=lambda file: (file.count("/"), file)):
        name = PurePosixPath(file).name
        if name in ("classes.txt", "obj.names"):
            return dict(enumerate(line for _, line in _lines(tree, file)))
        if name in _NAMES:
            found = _names_in_yaml(tree, file)
            if found:
                return found
    return {}


def _names_in_yaml(tree: Tree, file: str) -> dict[int, str]:
    try:
        document: Any = yaml.safe_load(read_required(tree, file))
    except (yaml.YAMLError, ValueError) as error:
        raise damaged(tree, file, None, f"not YAML ({str(error).splitlines()[0][:100]})", "names: of classes") from None
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, list):
        return dict(enumerate(map(str, names)))
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        return {key: str(names[key]) for key in sorted(names)}
    return {}


def _box(tree: Tree, file: str, number: int, line: str, names: Mapping[int, str]) -> Box:
    expected = "class center_x center_y width height, as fractions of width and height"
    first, *rest = line.split()
    try:
        kind, values = int(first), [float(value) for value in rest]
    except ValueError:
        raise damaged(tree, file, number, f"the line {line[:80]!r}", expected) from None
    if kind < 0 or len(values) < 4 or len(values) % 2 or not all(map(math.isfinite, values)):
        raise damaged(tree, file, number, f"the line {line[:80]!r}", expected)
    if names and kind not in names:
        got, last = f"class {kind}", max(names)
        raise damaged(tree, file, number, got, f"one of 0 to {last}, the numbers of the named classes")
    if len(values) > 4:
        return Box(edges_around(values), names.get(kind, str(kind)), False, None, number)
    x, y, width, height = values
    edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return Box(edges, names.get(kind, str(kind)), False, None, number)
