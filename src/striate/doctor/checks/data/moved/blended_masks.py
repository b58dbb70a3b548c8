"""Masks that are resized by interpolation, which mixes the numbers of classes at their borders."""

from __future__ import annotations

import ast
import re

import torch

from striate.data.annotations.masks import IGNORED
from striate.doctor.checks.data.moved.left_behind import left_behind
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.syntax import argument, called, receiver_of
from striate.records import Finding
from striate.wording import percent

_MASKS = frozenset(("mask", "masks", "seg", "segmentation", "label", "labels", "target", "targets", "gt", "annotation"))
_SMOOTH = re.compile("linear|cubic|area|lanczos|antialias|hamming|box", re.IGNORECASE)
_WORD = re.compile(r"[^a-z]+")
_MOST, _SHARE, _FEWEST = 64, 0.2, 50
"""Masks that are looked at; least share of pixels between two classes that have a number between theirs; fewest such
pixels."""


def blended_masks(evidence: Evidence) -> Finding | None:
    """The finding for a mask of three classes or more that is resized smoothly; None where there is none."""
    source, maps = evidence.setup.source, evidence.samples.maps
    if source is None or maps is None:
        return None
    share = _between(maps[:_MOST].long())
    if share < _SHARE:
        return None
    for site in source.calls("interpolate", "resize"):
        given = _smoothly_resized(site.node)
        if given is not None and _MASKS & set(_WORD.split(ast.unparse(given).lower())):
            return left_behind(
                site.where,
                f"`{site.text}` resizes class numbers by interpolation: {percent(share, 0)} of the pixels between two "
                "classes have a number between theirs",
                f"a mask that is resized with interpolation, where {percent(_SHARE, 0)} of the pixels between two "
                "classes have a number between theirs",
                "Along each border pixels get the number of a class that is not there.",
                'resize images smoothly, and masks by the nearest pixel: `mode="nearest"`, `Image.NEAREST`, '
                "`cv2.INTER_NEAREST` or `InterpolationMode.NEAREST`",
            )
    return None


def _between(maps: torch.Tensor) -> float:
    """Of the pixels whose neighbors on both sides of a row have classes that differ by 2 or more, the share with a
    number between these classes."""
    left, middle, right = maps[..., :-2], maps[..., 1:-1], maps[..., 2:]
    counted = ((left - right).abs() >= 2) & (torch.maximum(left, right) < IGNORED)
    between = (torch.minimum(left, right) < middle) & (middle < torch.maximum(left, right))
    return float(between[counted].double().mean()) if int(counted.sum()) >= _FEWEST else 0.0


def _smoothly_resized(call: ast.Call) -> ast.expr | None:
    """What a call resizes by interpolation; None for other calls."""
    if called(call) == "interpolate":
        how = argument(call, 3, "mode")
        return call.args[0] if call.args and how is not None and _SMOOTH.search(ast.unparse(how)) else None
    owner = receiver_of(call)
    of_module = isinstance(owner, ast.Name) and owner.id in ("F", "TF", "cv2", "functional", "transforms")
    given = call.args[0] if of_module and call.args else owner
    hows = [part.value for part in call.keywords if part.arg in ("resample", "interpolation")]
    hows += call.args[2 if of_module else 1 :]
    text = " ".join(map(ast.unparse, hows))
    return None if given is None or "nearest" in text.lower() or text == "0" else given
