"""Boxes as in Pascal VOC: an .xml for each image, in Annotations/ or beside it, splits from ImageSets/Main/.

Everingham et al., "The Pascal Visual Object Classes (VOC) challenge", 2010. Pixels are counted from 1, and a box
includes both of its corners: its left edge is xmin − 1, its right edge xmax. If any xmin or ymin is 0, pixels count
from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from xml.parsers import expat

from striate.data.box_records import Box, ImageBoxes
from striate.data.listing import SPLIT_NAMES, Listing
from striate.data.media.every_medium import is_sample
from striate.data.sources.boxes.make_listing import box_listing, damaged
from striate.data.sources.tree import Tree, read_required
from striate.errors import DataError
from striate.wording import listed, several

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def holds_voc(tree: Tree) -> bool:
    """Whether there are .xml files with objects and boxes."""
    files = [file for file in tree.files if file.lower().endswith(".xml")]
    return any(b"<annotation" in read_required(tree, file)[:4096] for file in files[:3])


def list_voc(tree: Tree) -> Listing:
    """Every image that has an .xml; images without one are not annotated. Raises DataError with the file and the
    line."""
    files = [file for file in tree.files if file.lower().endswith(".xml")]
    pictures = [file for file in tree.files if is_sample(file)]
    by_place = {PurePosixPath(file).with_suffix("").as_posix(): file for file in pictures}
    by_stem: dict[str, list[str]] = {}
    for file in pictures:
        if PurePosixPath(file).parent.name not in ("SegmentationClass", "SegmentationObject"):
            by_stem.setdefault(PurePosixPath(file).stem, []).append(file)
    splits, lists = _given_splits(tree)
    found: dict[str, tuple[ImageBoxes, str | None]] = {}
    lone, unlisted = [], 0
    for file in files:
        boxed, filename = _read(tree, file)
        place = PurePosixPath(file).with_suffix("")
        candidates = by_stem.get(place.name) or by_stem.get(PurePosixPath(filename).stem, [])
        picture = by_place.get(place.as_posix()) or (candidates[0] if len(candidates) == 1 else None)
        if picture is None:
            near = [one for one in candidates if _sibling(one) == _sibling(file)]
            picture = near[0] if len(near) == 1 else None
        if picture is None:
            lone.append(file)
        elif lists and place.name not in splits:
            unlisted += 1
        else:
            found[picture] = boxed, splits.get(place.name) or _split_of_folder(file)
    if lone:
        raise DataError(
            f"data {tree.where}",
            f"{len(lone)} of {several(len(files), '.xml file')} without an image with the same stem: "
            f"{', '.join(lone[:5])}",
            "for every .xml its image, beside it or in JPEGImages/",
            "add the images, or take these files out of Annotations/",
        )
    notes = [f"{several(unlisted, 'image')} not in any list of ImageSets/Main: left out."] if unlisted else []
    if absent := sorted(splits.keys() - {PurePosixPath(file).stem for file in files}):
        notes += [f"{several(len(absent), 'image')} in the lists of ImageSets/Main without an .xml: {listed(absent)}."]
    boxes = [box for boxed, _ in found.values() for box in boxed.boxes]
    if any(0 in box.edges[:2] and box.width > 0 < box.height for box in boxes):
        notes += ["An xmin or ymin is 0: pixels are counted from 0, not from 1 as in Pascal VOC."]
    else:
        found = {name: (replace(boxed, boxes=_from_zero(boxed.boxes)), split) for name, (boxed, split) in found.items()}
    return box_listing(tree, found, used={*files, *lists}, notes=notes)


def _sibling(file: str) -> str:
    """The folder above that of the file, which VOC2007/Annotations/1.xml and VOC2007/JPEGImages/1.jpg share."""
    return PurePosixPath(file).parent.parent.as_posix()


def _split_of_folder(file: str) -> str | None:
    return next((SPLIT_NAMES[part.lower()] for part in PurePosixPath(file).parts if part.lower() in SPLIT_NAMES), None)


def _given_splits(tree: Tree) -> tuple[dict[str, str], list[str]]:
    """The split of each stem that the lists name, and the files of these lists."""
    lists = [file for file in tree.files if PurePosixPath(file).parent.as_posix().endswith("ImageSets/Main")]
    named = {file: SPLIT_NAMES[PurePosixPath(file).stem] for file in lists if PurePosixPath(file).stem in SPLIT_NAMES}
    splits: dict[str, str] = {}
    for file, split in named.items():
        for number, line in enumerate(read_required(tree, file).decode("utf-8", "replace").splitlines(), 1):
            stem = line.split()[0] if line.split() else ""
            if stem and splits.setdefault(stem, split) != split:
                raise damaged(tree, file, number, f"{stem} in {splits[stem]} and in {split}", "one split for an image")
    return splits, lists if named else []


class _Reader:
    """Collects the objects of one file and their lines. Reads only elements and text."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity
        self.open: list[str] = []
        self.text = ""
        self.head: dict[str, str] = {}
        self.objects: list[tuple[int, dict[str, str]]] = []

    def _entity(self, *_: object) -> None:
        raise ValueError("an entity declaration")

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        self.open.append(name)
        self.text = ""
        if name == "object" and len(self.open) == 2:
            self.objects.append((self.parser.CurrentLineNumber, {}))

    def _text(self, text: str) -> None:
        self.text += text

    def _end(self, _: str) -> None:
        path = "/".join(self.open[1:])
        self.open.pop()
        if path.startswith("object/"):
            self.objects[-1][1].setdefault(path.removeprefix("object/"), self.text.strip())
        else:
            self.head.setdefault(path, self.text.strip())
        self.text = ""


def _read(tree: Tree, file: str) -> tuple[ImageBoxes, str]:
    """The boxes of one .xml, and the name of the image in it."""
    reader = _Reader()
    try:
        reader.parser.Parse(read_required(tree, file), True)
    except (expat.ExpatError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise damaged(tree, file, line, f"not XML ({str(error)[:100]})", "an annotation of Pascal VOC") from None
    boxes = tuple(_box(tree, file, line, fields) for line, fields in reader.objects)
    try:
        size = int(float(reader.head["size/height"])), int(float(reader.head["size/width"]))
    except (KeyError, ValueError):
        size = (0, 0)
    return ImageBoxes(boxes, file, size if min(size) > 0 else None), reader.head.get("filename", "")


def _box(tree: Tree, file: str, line: int, fields: Mapping[str, str]) -> Box:
    name = fields.get("name", "")
    try:
        x0, y0, x1, y1 = (float(fields[f"bndbox/{corner}"]) for corner in _CORNERS)
    except (KeyError, ValueError):
        shown = ", ".join(f"{corner} {fields.get(f'bndbox/{corner}', 'missing')}" for corner in _CORNERS)
        raise damaged(tree, file, line, f"an object with {shown}", "four numbers in its bndbox") from None
    if not name:
        raise damaged(tree, file, line, "an object without a name", "the name of its class")
    return Box((x0, y0, x1, y1), name, fields.get("iscrowd") == "1", None, line)


def _from_zero(boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    """Boxes whose pixels were counted from 1. A box without an area is not changed: two equal corners are a mistake,
    not a box of one pixel."""
    sound = (box.width > 0 < box.height for box in boxes)
    return tuple(
        box._replace(edges=(box.edges[0] - 1, box.edges[1] - 1, *box.edges[2:])) if fits else box
        for box, fits in zip(boxes, sound, strict=True)
    )
