"""Boxes and outlines as in COCO: one .json for many images, beside or above them.

Lin et al., "Microsoft COCO: common objects in context", 2014. A box is x, y, width, height, from the corner of the
first pixel.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from striate.data.box_records import Box, ImageBoxes, edges_around
from striate.data.dataset import Annotation
from striate.data.listing import SPLIT_NAMES, Listing
from striate.data.mask_codes import edges_of, mask_of
from striate.data.media.every_medium import is_sample
from striate.data.sources.boxes.make_listing import box_listing, damaged
from striate.data.sources.tree import Tree, read_required
from striate.errors import DataError
from striate.wording import several

_MOST_FILES = 40
_NO_OBJECTS = re.compile(rb'"annotations"\s*:\s*\[\s*\]')


def json_files(tree: Tree, only: str | None = None) -> list[str]:
    """The .json files of the tree, or its file `only`, that may list images; empty where there are very many."""
    files = [file for file in tree.files if file.lower().endswith(".json") and file.count("/") <= 3]
    files = [file for file in files if only in (None, file)]
    return files if len(files) <= _MOST_FILES else []


def coco_files(tree: Tree, *, points: bool) -> list[str]:
    """The .json files of the tree that list images with boxes. `points`: files with named points are included.

    Raises DataError for a damaged file beside them that is named like a split."""
    contents = {file: read_required(tree, file) for file in json_files(tree)}
    listing = {file: data for file, data in contents.items() if b'"annotations"' in data and b'"images"' in data}
    found = [file for file, data in listing.items() if b'"bbox"' in data]
    background = [file for file, data in listing.items() if b'"categories"' in data and _NO_OBJECTS.search(data)]
    plain = [file for file in found if b'"keypoints"' not in contents[file]]
    taken = plain or (found if points else [])
    if not taken:
        return [] if found else sorted(background)
    folders, names = set(map(_folder, taken)), {PurePosixPath(file).name for file in taken}
    for file in contents.keys() - listing.keys():
        if split_named(file) and (_folder(file) in folders or PurePosixPath(file).name in names):
            _parsed(tree, file, contents[file])  # a damaged file would leave out its images without an error
    return sorted({*taken, *background})


def list_coco(tree: Tree, files: list[str], annotation: Annotation | None = "box") -> Listing:
    """The images of these files with their boxes, or with the masks of their objects (`instance`).

    Raises DataError with the file and the number of the entry; also for files with both, if `annotation` is None.
    """
    pictures = Pictures(tree)
    found: dict[str, tuple[ImageBoxes, str | None]] = {}
    names: dict[str, None] = {}
    missing, outlines, points, repeated = [], 0, 0, 0
    for file in files:
        document = load_coco(tree, file, read_required(tree, file))
        categories = _categories(tree, file, document)
        names |= dict.fromkeys(categories.values())
        split = split_named(file)
        of_image: dict[Any, list[Box]] = {}
        if annotation is None and _outlined(document["annotations"]):
            raise _both(tree, file)
        sizes = {entry.get("id"): _size(entry) for entry in document["images"] if isinstance(entry, dict)}
        for number, entry in enumerate(document["annotations"]):
            box = _box(tree, file, number, entry, categories)
            if annotation == "instance":
                box = _with_mask(tree, file, number, entry, box, sizes.get(entry.get("image_id")))
            of_image.setdefault(entry.get("image_id"), []).append(box)
            outlines += annotation != "instance" and bool(entry.get("segmentation"))
            points += bool(entry.get("keypoints"))
        ids = [entry["id"] for entry in document["annotations"] if isinstance(entry.get("id"), int)]
        repeated += len(ids) - len(set(ids))
        known = set()
        for number, entry in enumerate(document["images"]):
            name = entry.get("file_name") if isinstance(entry, dict) else None
            if not isinstance(name, str) or "id" not in entry:
                raise damaged(tree, file, None, f"images[{number}] without id or file_name", "both")
            known.add(entry["id"])
            path = pictures.find(name, file, split)
            if path is None:
                missing.append(name)
                continue
            if path in found:
                raise damaged(tree, file, None, f"{name} twice (also in {found[path][0].file})", "each image once")
            found[path] = (
                ImageBoxes(tuple(of_image.get(entry["id"], ())), file, _size(entry), number),
                split or split_named(_folder(path)),
            )
        foreign = [image for image in of_image if image not in known]
        if foreign:
            got = f"annotations of {several(len(foreign), 'image')} that it does not list, the first {foreign[0]!r}"
            raise damaged(tree, file, None, got, "image_id of one of its images")
    if missing:
        raise DataError(
            f"data {tree.where}",
            f"{several(len(missing), 'image')} of {', '.join(files)} missing: {', '.join(missing[:5])}",
            "every image that the file lists, beside it or below",
            "put the images there, or take them out of the list",
        )
    unread = [f"outlines of {several(outlines, 'object')}"] if outlines else []
    unread += [f"named points of {several(points, 'object')}"] if points else []
    notes = [f"Not read: {' and '.join(unread)}."] if unread else []
    if repeated:
        notes += [
            f"{several(repeated, 'annotation')} with the id of another annotation: each is read as a separate object."
        ]
    kind = annotation or "box"
    listing = box_listing(tree, found, classes=tuple(names), used=files, notes=notes, annotation=kind)
    return replace(listing, read_document=lambda file: load_coco(tree, file, read_required(tree, file)))


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _outlined(entries: list[Any]) -> bool:
    """Whether each object has an outline that is not a rectangle."""
    outlines: list[Any] = [entry.get("segmentation") for entry in entries if isinstance(entry, dict)]
    if not outlines or not all(outlines):
        return False
    return any(isinstance(one, dict) or any(len(part) > _RECTANGLE for part in one) for one in outlines)


_RECTANGLE = 8
"""Numbers in the outline of a rectangle, which annotation tools write for boxes."""


def _both(tree: Tree, file: str) -> DataError:
    return DataError(
        f"data {tree.where}, {file}",
        "boxes and outlines of the objects, which two tasks can learn from",
        "one of the two tasks: --task detect (boxes) or --task instances (a mask for each object)",
        "--task instances, or --task detect",
    )


def _with_mask(tree: Tree, file: str, number: int, entry: Any, box: Box, size: tuple[int, int] | None) -> Box:
    """The box around the mask of its object, with that mask."""
    where = f"annotations[{number}]"
    if size is None:
        got = f"{where} of image {entry.get('image_id')!r} without height and width"
        raise damaged(tree, file, None, got, "the size of each image, in pixels, in which outlines are drawn")
    outline = entry.get("segmentation")
    if not outline:
        raise damaged(tree, file, None, f"{where} without segmentation", "an outline of each object, or --task detect")
    mask = mask_of(outline, size)
    if mask is None:
        expected = f"polygons [[x, y, x, y, …], …], or RLE {{size: [{size[0]}, {size[1]}], counts}}"
        raise damaged(tree, file, None, f"{where} with segmentation {str(outline)[:80]}", expected)
    left, top, right, bottom = edges_of(mask, size)
    return box._replace(mask=mask, edges=(left, top, right, bottom) if right > left else box.edges)


class Pictures:
    """Finds the images that a file names: below its folder, or below the root."""

    def __init__(self, tree: Tree) -> None:
        self.by_name: dict[str, list[str]] = {}
        for file in tree.files:
            if is_sample(file):
                self.by_name.setdefault(PurePosixPath(file).name, []).append(file)

    def find(self, name: str, file: str, split: str | None) -> str | None:
        """The path of the image; None where none, or more than one, could be meant."""
        name = name.replace("\\", "/").removeprefix("./")
        fitting = [path for path in self.by_name.get(PurePosixPath(name).name, []) if f"/{path}".endswith(f"/{name}")]
        if len(fitting) > 1:  # of a picture and its mask, the picture is meant
            fitting = [path for path in fitting if "masks" not in path.split("/")] or fitting
        if len(fitting) > 1:
            folder = PurePosixPath(file).parent.as_posix()
            near = [path for path in fitting if folder in ("", ".") or path.startswith(f"{folder}/")]
            fitting = near if len(near) == 1 else [path for path in fitting if split_named(_folder(path)) == split]
        return fitting[0] if len(fitting) == 1 else None


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def split_named(path: str) -> str | None:
    """The split in the name of a file or of its folders: `val` of instances_val2017.json."""
    words = re.split(r"[^a-z]+", path.lower())
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)


def load_coco(tree: Tree, file: str, data: bytes) -> dict[str, Any]:
    """The lists `images`, `annotations` and `categories` of a file, from its bytes. Raises DataError."""
    document = _parsed(tree, file, data)
    keys = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(isinstance(document.get(key), list) for key in keys):
        raise damaged(tree, file, None, "no lists images, annotations and categories", "the COCO format")
    for key, name in (
        ("images", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("categories", "id"),
    ):
        for number, entry in enumerate(document[key]):
            if isinstance(entry, dict) and isinstance(entry.get(name), list | dict):
                got = f"{key}[{number}] with {name} {str(entry[name])[:80]}"
                raise damaged(tree, file, None, got, "a number or a name")
    return document


def _parsed(tree: Tree, file: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        got = f"no JSON ({str(error)[:100]})" if data else "an empty file"
        remedy = "correct it, or download the file again"
        raise damaged(tree, file, getattr(error, "lineno", None), got, "JSON", remedy) from None


def _categories(tree: Tree, file: str, document: Mapping[str, Any]) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for number, entry in enumerate(document["categories"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or "id" not in entry:
            raise damaged(tree, file, None, f"categories[{number}] without id or name", "both")
        found[entry["id"]] = entry["name"]
    of_objects = [entry.get("category_id") for entry in document["annotations"] if isinstance(entry, dict)]
    drawn = {key for key in of_objects if isinstance(key, int | str)}
    by_name: dict[str, Any] = {}
    for key in (key for key in found if key in drawn):  # a group of categories may have the name of one of them
        if (other := by_name.setdefault(found[key], key)) != key:
            got = f"objects of categories {other!r} and {key!r}, both named {found[key]!r}"
            raise damaged(tree, file, None, got, "a name for each category; or one id for its objects")
    try:
        return dict(sorted(found.items()))
    except TypeError:
        return found


def _box(tree: Tree, file: str, number: int, entry: Any, categories: Mapping[Any, str]) -> Box:
    where = f"annotations[{number}]"
    if not isinstance(entry, dict):
        raise damaged(tree, file, None, f"{where}, not an object", "category_id of its categories, and bbox")
    try:
        label = categories[entry["category_id"]]
        if "bbox" in entry:
            x, y, width, height = (value + 0.0 for value in entry["bbox"])  # raises TypeError for a string
            edges = (x, y, x + width, y + height)
        else:
            edges = edges_around([value + 0.0 for part in entry["segmentation"] for value in part])
    except KeyError as error:
        got = f"{where} without {'bbox' if error.args[0] == 'segmentation' else error.args[0]}"
        if "category_id" in entry and entry["category_id"] not in categories:
            got = f"{where} of category {entry['category_id']!r}, which is not listed"
        raise damaged(tree, file, None, got, "category_id of its categories, and bbox") from None
    except (TypeError, ValueError, OverflowError):
        raise damaged(tree, file, None, f"{where} with bbox {entry.get('bbox')!r}"[:200], "four numbers") from None
    if not all(map(math.isfinite, edges)):
        raise damaged(tree, file, None, f"{where} with bbox {entry.get('bbox')!r}"[:200], "four finite numbers")
    return Box(edges, label, bool(entry.get("iscrowd")), None, number)
