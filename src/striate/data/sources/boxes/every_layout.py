"""Decides which layout of boxes a tree has."""

from __future__ import annotations

from striate.data.dataset import Annotation
from striate.data.listing import Listing
from striate.data.sources.boxes.coco import coco_files, list_coco
from striate.data.sources.boxes.voc import holds_voc, list_voc
from striate.data.sources.boxes.yolo import label_files, list_yolo
from striate.data.sources.other_layouts import masks_beside_boxes
from striate.data.sources.tree import Tree


def list_boxes(tree: Tree, annotation: Annotation | None = None, file: str | None = None) -> Listing | None:
    """The images of a tree with their boxes; None where it has no layout of boxes. `file`: the only annotation file to
    read.

    `annotation`: `box` requests boxes of data that also have masks or named points; `instance` requests the outlines of
    objects, which only COCO has. Raises DataError."""
    requested = annotation is not None
    if file is not None:
        return list_coco(tree, [file], annotation) if file in coco_files(tree, points=True) else None
    if annotation == "instance":
        files = coco_files(tree, points=True)
        return list_coco(tree, files, annotation) if files else None
    if holds_voc(tree) and (requested or masks_beside_boxes(tree) is None):
        return list_voc(tree)
    if files := coco_files(tree, points=requested):
        return list_coco(tree, files, annotation)
    if pairs := label_files(tree, requested=requested):
        return list_yolo(tree, pairs)
    return None
