"""Which layout of boxes a tree has."""

from __future__ import annotations

from striate.data.dataset import Annotation
from striate.data.listing import Listing
from striate.data.sources.boxes.coco import coco_files, list_coco
from striate.data.sources.boxes.voc import holds_voc, list_voc
from striate.data.sources.boxes.yolo import label_files, list_yolo
from striate.data.sources.other_layouts import masks_beside_boxes
from striate.data.sources.tree import Tree


def list_boxes(tree: Tree, annotation: Annotation | None = None, file: str | None = None) -> Listing | None:
    """The images of a tree with their boxes, None where it has no layout of boxes; of one `file` of it, where only that
    is meant. `annotation`: `box` where somebody wants these of data that have masks or named points too, `instance`
    where the outlines of objects are meant, which COCO alone has. Raises DataError."""
    asked = annotation is not None
    if file is not None:
        return list_coco(tree, [file], annotation) if file in coco_files(tree, points=True) else None
    if annotation == "instance":
        files = coco_files(tree, points=True)
        return list_coco(tree, files, annotation) if files else None
    if holds_voc(tree) and (asked or masks_beside_boxes(tree) is None):
        return list_voc(tree)
    if files := coco_files(tree, points=asked):
        return list_coco(tree, files, annotation)
    if pairs := label_files(tree, asked=asked):
        return list_yolo(tree, pairs)
    return None
