"""Overlaps of boxes that do not overlap, and average precisions that rank the lowest score first."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import permutations
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.eval.metrics.known_inputs import FEW, needed_by, numbers_for, wrong_metric
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.syntax import stored_in
from striate.records import Finding
from striate.wording import percent

Ask = Callable[..., tuple[float, ...]]
"""Calls a function and returns its numbers; none where it does not take the inputs."""

_OVERLAP = re.compile("iou|jaccard|overlap", re.IGNORECASE)
_PRECISION = re.compile(r"(^|_)ap(_|\d|$)|(average|avg|mean)_?precision", re.IGNORECASE)
_SCORES = re.compile("score|conf|prob|sim|logit|pred|det", re.IGNORECASE)
_NO_SCORES = re.compile("dist|rank|error|cost", re.IGNORECASE)
"""Names of parameters: scores, which rank descending, and quantities that rank ascending."""
_BOX, _BESIDE, _APART = (100, 100, 200, 200), (150, 100, 250, 200), (280, 280, 380, 380)
_THIRD = 1 / 3
"""IoU of the first two boxes (left, top, right, bottom); the third is apart from the first on both axes."""
_REVERSED = 0.25
_CLOSE, _SOME = 0.02, 0.01
"""Tolerances: functions may count the pixels at both edges of a box, or add a small number to a divisor."""
_HITS = (0, 1, 1, 0, 1, 0, 1)
_BEST = (0.1, 0.9, 0.7, 0.3, 0.85, 0.2, 0.75)


def wrong_detection_metrics(node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    """Findings for an overlap of boxes that do not overlap, and an average precision that ranks the lowest score
    first."""

    ask = _asking(function)
    parameters = [part.arg for part in node.args.args[: needed_by(node)]]
    apart = _overlap_of_boxes_apart(node.name, ask) if len(parameters) == 2 else None
    if apart is not None:
        yield wrong_metric(
            node.lineno,
            f"`{node.name}` gives {apart:.4g} for two boxes that are apart in both directions, and the right overlap "
            "for boxes that overlap",
            "Both lengths of their intersection are negative, and their product is positive: boxes that do not touch "
            "are matched, or suppress each other.",
            "limit each length before they are multiplied: `(low - high).clamp(min=0).prod(-1)`",
            "a function for an overlap that is above 0 for boxes that do not overlap",
        )
    best = _precision_of_best_ranking(node.name, parameters, ask)
    if best is not None:
        yield wrong_metric(
            node.lineno,
            f"`{node.name}` gives {best:.4g} for {FEW} detections if the right ones have the highest scores, and 1 if "
            "they have the lowest",
            "Detections are ranked from the lowest score up: a network that is sure of its right detections gets a low "
            "score.",
            "rank them by descending score: `np.argsort(-scores)`, `scores.argsort(descending=True)`",
            "a function for an average precision that is 1 if right detections have the lowest scores, and below 1 if "
            "they have the highest",
        )


def corners_expected(evidence: Evidence, node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    """The finding for an overlap of boxes (left, top, right, bottom) that is given the boxes of the batch, which are no
    corners: the right edge of many is left of the left one."""

    y = None
    with suppress(NoEvidence):
        y = evidence.val_samples.y if _OVERLAP.search(node.name) else None
    if y is None or y.ndim != 2 or y.shape[1] != 4 or not y.is_floating_point():
        return
    reversed_ = float(((y[:, 2] < y[:, 0]) | (y[:, 3] < y[:, 1])).double().mean())
    call = next((site.node for site in evidence.source.calls(node.name) if _is_given_batch(evidence, site.node)), None)
    if reversed_ < _REVERSED or call is None or _apart_if_right(_corners, _asking(function)) is None:
        return
    yield wrong_metric(
        call.lineno,
        f"`{node.name}` is right for boxes (left, top, right, bottom), but {percent(reversed_, 0)} of the boxes that "
        f"`{ast.unparse(call)}` gives it would have their right edge left of the left one, or their bottom above the "
        "top",
        "The boxes have another form, such as (center x, center y, width, height): the overlap says nothing about "
        "them.",
        "convert both first: `half = boxes[:, 2:] / 2`, "
        "`corners = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1)`",
        f"a function for the overlap of corners that gets the boxes of a batch, {percent(_REVERSED, 0)} of which are "
        "reversed as corners",
    )


def _is_given_batch(evidence: Evidence, call: ast.Call) -> bool:
    """Whether an argument is a variable of the loop over batches, as it is."""
    for loop in evidence.source.loops_of(call):
        targets = set() if isinstance(loop, ast.While) else stored_in(loop.target)
        again = {name for line in loop.body for name in stored_in(line)}
        if any(isinstance(part, ast.Name) and part.id in targets - again for part in call.args):
            return True
    return False


def _asking(function: Callable[..., Any]) -> Ask:
    def ask(*args: Any) -> tuple[float, ...]:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            return numbers_for(function, *args)

    return ask


def _overlap_of_boxes_apart(name: str, ask: Ask) -> float | None:
    """The overlap above 0 that a function computes for boxes apart on both axes; None for other functions. Its overlaps
    of a box with itself and with an overlapping one must be right."""
    if not _OVERLAP.search(name):
        return None
    known = (_apart_if_right(coded, ask) for coded in (_corners, _centered, _sized))
    apart = next((overlap for overlap in known if overlap is not None), 0.0)
    return apart if apart > _SOME else None


def _apart_if_right(coded: Callable[[Sequence[int]], list[float]], ask: Ask) -> float | None:
    """The overlap of boxes that are apart on both axes; None where a function is not right for a box in this form with
    itself and with an overlapping one."""
    for form in _BOX_FORMS:
        overlaps = [ask(form(coded(_BOX)), form(coded(other))) for other in (_BOX, _BESIDE, _APART)]
        if any(len(numbers) != 1 for numbers in overlaps):
            continue
        itself, beside, apart = (numbers[0] for numbers in overlaps)
        if abs(itself - 1) < _CLOSE and abs(beside - _THIRD) < _CLOSE:
            return apart
    return None


def _precision_of_best_ranking(name: str, parameters: Sequence[str], ask: Ask) -> float | None:
    """The average precision below 1 that a function computes if right detections have the highest scores, and 1 if they
    have the lowest; None for other functions."""
    if not _PRECISION.search(name) or not any(map(_SCORES.search, parameters)):
        return None
    if any(map(_NO_SCORES.search, parameters)):
        return None
    found, needed = None, len(parameters)
    for best, worst in zip(_rankings(_BEST, needed), _rankings([1 - s for s in _BEST], needed), strict=True):
        of_best, of_worst = ask(*best), ask(*worst)
        if len(of_best) != 1 or len(of_worst) != 1:
            continue
        if abs(of_best[0] - 1) < _CLOSE:
            return None
        if abs(of_worst[0] - 1) < _CLOSE and 0 <= of_best[0] < 1:
            found = of_best[0]
    return found


def _rankings(scores: Sequence[float], needed: int) -> Iterator[tuple[Any, ...]]:
    """Detections (1 for right ones), their scores and, for three parameters, the number of objects, in the forms and
    orders that a function of `needed` parameters may take."""
    count = sum(_HITS)
    for hits in (np.array(_HITS, dtype=float), np.array(_HITS), np.array(_HITS, dtype=bool)):
        arrays = (hits, np.array(scores))
        for columns in (arrays, tuple(map(torch.from_numpy, arrays)), tuple(part.tolist() for part in arrays)):
            yield from permutations(columns if needed == 2 else (*columns, count))
    if needed == 2:
        pairs = list(zip(scores, _HITS, strict=True))
        for rows in (pairs, [pair[::-1] for pair in pairs]):
            yield from permutations((rows, count))


def _corners(box: Sequence[int]) -> list[float]:
    return [float(edge) for edge in box]


def _centered(box: Sequence[int]) -> list[float]:
    left, top, right, bottom = box
    return [(left + right) / 2, (top + bottom) / 2, float(right - left), float(bottom - top)]


def _sized(box: Sequence[int]) -> list[float]:
    left, top, right, bottom = box
    return [float(left), float(top), float(right - left), float(bottom - top)]


_BOX_FORMS: tuple[Callable[[list[float]], Any], ...] = (
    lambda box: torch.tensor([box]),
    lambda box: torch.tensor(box),
    lambda box: np.array([box]),
    lambda box: np.array(box),
    list,
    tuple,
)
