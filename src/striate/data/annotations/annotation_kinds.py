"""The list of all kinds of annotation; free of torch."""

from __future__ import annotations

from functools import cache

from striate.data.annotations.annotation import AnnotationKind
from striate.loading import object_at

KINDS: dict[str, str] = {
    "class": "striate.data.annotations.classes:Classes",
    "number": "striate.data.annotations.numbers:Numbers",
    "mask": "striate.data.annotations.masks:Masks",
    "box": "striate.data.annotations.boxes:Boxes",
    "labels": "striate.data.annotations.label_sets:LabelSets",
    "columns": "striate.data.annotations.target_columns:TargetColumns",
    "identity": "striate.data.annotations.identities:Identities",
    "instance": "striate.data.annotations.instances:Instances",
    "caption": "striate.data.annotations.captions:Captions",
    "input": "striate.data.annotations.inputs_as_targets:InputsAsTargets",
    "point": "striate.data.annotations.points:Points",
}
"""Name to module and class."""


@cache
def annotation_kind(name: str) -> AnnotationKind:
    """The kind of annotation of this name: `Dataset.annotation` or `Listing.annotation`."""
    found: AnnotationKind = object_at(KINDS[name])()
    return found
