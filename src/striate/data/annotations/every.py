"""The kinds of annotation, a line each; free of torch."""

from __future__ import annotations

import importlib
from functools import cache

from striate.data.annotations.annotation import AnnotationKind

KINDS: dict[str, str] = {
    "class": "striate.data.annotations.classes:Classes",
    "number": "striate.data.annotations.numbers:Numbers",
    "mask": "striate.data.annotations.masks:Masks",
}
"""Name to module and class."""


@cache
def annotation_kind(name: str) -> AnnotationKind:
    """The kind of annotation of this name: `Dataset.annotation` or `Listing.annotation`."""
    module, _, which = KINDS[name].partition(":")
    found: AnnotationKind = getattr(importlib.import_module(module), which)()
    return found
