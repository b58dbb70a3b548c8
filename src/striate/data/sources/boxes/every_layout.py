"""Which layout of boxes a tree has."""

from __future__ import annotations

from striate.data.listing import Listing
from striate.data.sources.boxes.coco import coco_files, list_coco
from striate.data.sources.boxes.voc import holds_voc, list_voc
from striate.data.sources.boxes.yolo import label_files, list_yolo
from striate.data.sources.other_layouts import masks_beside_boxes
from striate.data.sources.tree import Tree


def list_boxes(tree: Tree, file: str | None = None, *, asked: bool = False) -> Listing | None:
    """The images of a tree with their boxes, None where it has no layout of boxes; of one `file` of it, where only that
    is meant. `asked`: boxes are what somebody wants of data that have masks or named points too. Raises DataError."""
    if file is not None:
        return list_coco(tree, [file]) if file in coco_files(tree, points=True) else None
    if holds_voc(tree) and (asked or masks_beside_boxes(tree) is None):
        return list_voc(tree)
    if files := coco_files(tree, points=asked):
        return list_coco(tree, files)
    if pairs := label_files(tree):
        return list_yolo(tree, pairs)
    return None
