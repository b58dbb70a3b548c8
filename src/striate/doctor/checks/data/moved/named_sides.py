"""Mirrored images that keep labels whose names differ only in left and right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from striate.doctor.checks.data.moved.left_behind import left_behind
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import correlation_over_shifts
from striate.doctor.setup.batch import is_binary, leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import several

Draw = tuple[torch.Tensor, torch.Tensor]
_FEWEST, _OFTEN = 8, 0.9
_ALIKE, _CLEARER = 0.7, 0.1
"""The least correlation of an image with the mirrored one, and by how much it exceeds that with the original."""


def left_of_names(evidence: Evidence, drawn: Iterable[tuple[Draw, Draw]], where: str) -> Finding | None:
    """A finding if mirrored images keep labels that name sides; else None. `drawn`: images (N, C, H, W) with
    multi-label targets (N, K), and the same samples drawn again."""
    kept, mirrored, example = 0, 0, ""
    for (before, labels), (shown, new_labels) in drawn:
        if labels.ndim != 2 or before.ndim != 4 or not is_binary(labels):
            continue
        pairs = _named_sides(evidence, labels.shape[1])
        turned = _are_mirrored(before, shown) if pairs else torch.zeros(len(before), dtype=torch.bool)
        for left, right, names in pairs:
            one_sided = turned & (labels[:, left] != labels[:, right])
            same = (new_labels[:, [left, right]] == labels[:, [left, right]]).all(1)
            mirrored, kept, example = mirrored + int(one_sided.sum()), kept + int((one_sided & same).sum()), names
    if kept < max(_FEWEST, _OFTEN * mirrored):
        return None
    return left_behind(
        where,
        f"{several(kept, 'time')} a sample with one of two labels such as {example} is mirrored in one draw and not in "
        "another, and has the same label in both",
        f"{_FEWEST} mirrored samples, and nine of ten, keep one of two labels whose names in the script differ only in "
        "left and right",
        "In a mirrored image what was on the left is on the right: half of these labels are wrong.",
        "exchange these labels with each flip, as with `flipped = [0, 2, 1]` and `y = y[:, flipped]`; or do not flip",
    )


def draws_of_labels(drawn: Sequence[Sequence[Any]]) -> Iterable[tuple[Draw, Draw]]:
    """Pairs of the first and each other draw of a sample, as images with a row of labels."""
    for draws in drawn:
        first, *others = map(_image_and_row, draws)
        for other in others:
            if first is None or other is None:
                continue
            if all(one.shape == another.shape for one, another in zip(first, other, strict=True)):
                yield first, other


def _image_and_row(draw: Any) -> Draw | None:
    image = main_tensor(parts(draw)[0])
    rows = [part for _, part in leaves(draw) if part.ndim == 1 and part is not image]
    return None if image is None or len(rows) != 1 else (image[None].float(), rows[0][None])


def _named_sides(evidence: Evidence, count: int) -> list[tuple[int, int, str]]:
    """The positions of pairs of names that differ only in left and right, in a list of `count` names in the script or
    in the classes of the data set, and these names."""
    source = evidence.setup.source
    known = [*(source.names.values() if source is not None else ())]
    known.append(getattr(getattr(evidence.setup.train, "dataset", None), "classes", None))
    for names in known:
        if isinstance(names, list | tuple) and len(names) == count and all(isinstance(name, str) for name in names):
            lowered = [name.lower() for name in names]
            others = [re.sub("left|right", lambda side: _OTHER[side[0]], name) for name in lowered]
            pairs = [(place, lowered.index(other)) for place, other in enumerate(others) if other in lowered]
            return [(one, two, f"{names[one]} and {names[two]}") for one, two in pairs if one < two]
    return []


_OTHER = {"left": "right", "right": "left"}


def _are_mirrored(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Whether each image (N,) is the mirror image of the other one, whatever the shift."""
    turned, as_is = correlation_over_shifts(one, other.flip(-1)), correlation_over_shifts(one, other)
    return (turned > _ALIKE) & (turned > as_is + _CLEARER)
