"""Folders of images with named points: a .json as in COCO, or a table beside the images.

Lin et al., "Microsoft COCO: common objects in context", 2014: each object has `keypoints` x, y, v, from the corner of
the first pixel; v is 0 where a point was not annotated.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.annotations.points import point_columns
from striate.data.listing import Listing
from striate.data.media.every_medium import medium_of
from striate.data.sources.boxes.coco import Pictures, json_files, load_coco, split_named
from striate.data.sources.manifest import list_manifest, table_columns
from striate.data.sources.other_layouts import bytes_if_readable, table_beside
from striate.data.sources.tree import Tree
from striate.errors import DataError
from striate.wording import several


def point_table(tree: Tree, annotation: str | None) -> Path | None:
    """The table beside the images that has points, and no label unless points are requested (`table_beside`)."""
    if annotation not in (None, "point"):
        return None

    def has_points(table: Path) -> bool:
        columns = list(table_columns(table, {}))
        return bool(point_columns(columns)) and (annotation == "point" or "label" not in columns)

    return table_beside(tree, has_points, requested=annotation is not None)


def list_points(tree: Tree, annotation: str | None, only: str | None = None) -> Listing | None:
    """The points of a folder, or of its file `only`; None where there are none, or other annotations are requested.
    Raises DataError."""
    if annotation not in (None, "point"):
        return None
    if only is None and (table := point_table(tree, annotation)):
        return list_manifest(table, annotation)
    contents = {file: bytes_if_readable(tree, file) for file in json_files(tree, only)}
    files = [file for file, data in contents.items() if b'"annotations"' in data and b'"keypoints"' in data]
    return _list_coco(tree, {file: _load(tree, file, contents[file]) for file in files}) if files else None


def _load(tree: Tree, file: str, data: bytes) -> dict[str, Any]:
    document = load_coco(tree, file, data)
    entries = [entry for key in ("images", "annotations", "categories") for entry in document[key]]
    if not all(isinstance(entry, dict) for entry in entries):
        raise _damaged(tree, file, "an entry that is not an object", "objects")
    return document


def _damaged(tree: Tree, file: str, got: str, expected: str) -> DataError:
    return DataError(f"data {tree.where}, {file}", got, expected, "correct the file")


def _list_coco(tree: Tree, documents: dict[str, dict[str, Any]]) -> Listing:
    """The images that have one object with points; a note counts the others."""
    names, edges = _category(tree, documents)
    rows: list[tuple[str, np.ndarray, str | None]] = []
    several_objects = none = 0
    missing: list[str] = []
    pictures = Pictures(tree)
    for file, document in documents.items():
        split = split_named(file)
        objects: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for number, entry in enumerate(document["annotations"]):
            if entry.get("keypoints") and any(entry["keypoints"][2::3]):
                objects.setdefault(entry.get("image_id"), []).append((number, entry))
        for number, image in enumerate(document["images"]):
            if not isinstance(image.get("file_name"), str) or "id" not in image:
                raise _damaged(tree, file, f"images[{number}] without id or file_name", "both")
            own = objects.get(image["id"], [])
            if len(own) != 1:
                several_objects += len(own) > 1
                none += not own
                continue
            path = pictures.find(image["file_name"], file, split)
            if path is None:
                missing.append(image["file_name"])
            else:
                rows.append((path, _points(tree, file, *own[0], len(names)), split or split_named(path)))
    if missing:
        got = f"{several(len(missing), 'image')} missing: {', '.join(missing[:5])}"
        raise _damaged(tree, ", ".join(documents), got, "every image that the file lists, beside it or below")
    if not rows:
        got = f"no image with one object that has points ({several_objects:,} have several, {none:,} have none)"
        raise _damaged(tree, ", ".join(documents), got, "images with one object each")
    return _listing(tree, rows, names, edges, _notes(several_objects, none))


def _listing(
    tree: Tree,
    rows: list[tuple[str, np.ndarray, str | None]],
    names: tuple[str, ...],
    edges: tuple[tuple[int, int], ...],
    notes: tuple[str, ...],
) -> Listing:
    rows = sorted(rows, key=lambda row: row[0])
    paths = tuple(path for path, _, _ in rows)
    twice = {path for path in paths if paths.count(path) > 1} if len(set(paths)) < len(paths) else set()
    if twice:
        raise DataError(f"data {tree.where}", f"{min(twice)} twice", "each image once", "leave out one of them")
    return Listing(
        name=tree.name,
        source=tree.where,
        kind=medium_of("image").name,
        annotation="point",
        paths=paths,
        labels=tuple(f"{int(points[:, 2].sum())} of {several(len(names), 'point')}" for _, points, _ in rows),
        given=tuple(split for _, _, split in rows),
        targets=np.stack([points for _, points, _ in rows]).astype(np.float32),
        read=lambda number: tree.read(paths[number]),
        target_names=names,
        notes=(*tree.notes, *notes),
        skeleton=edges,
    )


def _notes(several_objects: int, none: int) -> tuple[str, ...]:
    parts = [
        f"{several(several_objects, 'image')} with several objects left out: a sample has the points of one object. Cut"
        " out each object, and list the parts."
        if several_objects
        else "",
        f"{several(none, 'image')} without points left out." if none else "",
    ]
    return tuple(filter(None, parts))


def _category(tree: Tree, documents: dict[str, dict[str, Any]]) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Names of the points, and the skeleton, which must be the same in all categories with points."""
    found: dict[tuple[str, ...], Any] = {}
    for file, document in documents.items():
        for category in document["categories"]:
            if names := category.get("keypoints"):
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise _damaged(tree, file, "keypoints of a category that are not names", "a list of names")
                found.setdefault(tuple(names), category.get("skeleton") or [])
    if len(found) != 1:
        got = f"{several(len(found), 'different list')} of point names" if found else "no point names"
        raise _damaged(tree, ", ".join(documents), got, "one list of names, the keypoints of a category")
    ((names, edges),) = found.items()
    kept = [(int(one) - 1, int(two) - 1) for one, two in edges]
    return names, tuple(edge for edge in kept if all(0 <= end < len(names) for end in edge))


def _points(tree: Tree, file: str, number: int, entry: dict[str, Any], count: int) -> np.ndarray:
    values = entry["keypoints"]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    if not numbers or len(values) != 3 * count:
        got = (
            f"annotations[{number}].keypoints: {'no finite numbers' if not numbers else several(len(values), 'number')}"
        )
        raise _damaged(tree, file, got, f"{3 * count} numbers, x, y and v of {count} points")
    points = np.array(values, np.float64).reshape(count, 3)
    seen = points[:, 2:] > 0
    return np.concatenate([np.where(seen, points[:, :2], 0), seen], axis=1)
