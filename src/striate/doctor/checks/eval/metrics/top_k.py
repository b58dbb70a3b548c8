"""Shares of samples whose label is among the highest few scores, which one call gives wrongly for several numbers."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from striate.doctor.checks.eval.metrics.known_inputs import numbers_for, wrong_metric
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding
from striate.wording import listed

_ROUNDED = 1e-3
_OF_EACH, _MOST = 2, 100
"""Samples of each rank; the largest number that is asked for."""


def wrong_top_k(source: ScriptSource, node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    found = _wrong_for_several(source, node, partial(numbers_for, function))
    if found is None:
        return
    numbers, told, right = found
    said, true, given = (listed([f"{value:.4g}" for value in values]) for values in (told, right, numbers))
    yield wrong_metric(
        node.lineno,
        f"`{node.name}` gives {said} for known scores if it is asked for the highest {given} at once; asked for each "
        f"by itself it gives {true}, which is right",
        "A label among the highest scores of the largest number counts for a smaller one as well: the accuracy of the "
        "first prediction is that of several.",
        "count hits among the first `k` alone, for each `k`: `correct[:k].reshape(-1).float().sum()`",
        "a function for accuracies of the highest few scores that gives others for several numbers at once than for "
        "each by itself",
    )


def _wrong_for_several(
    source: ScriptSource, node: ast.FunctionDef, ask: Callable[..., tuple[float, ...]]
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]] | None:
    """The numbers that a call gives, what the function gives for these, and what is right: where that differs, though
    it is right for each of the numbers by itself."""
    for name, several in _asked_for(source, node):
        classes = 2 * max(several)
        ranks = torch.arange(_OF_EACH * classes) % classes
        labels = torch.arange(len(ranks)) * 3 % classes
        # The label has as many scores above it as its rank says; no two scores of a sample are equal.
        scores = -((torch.arange(classes) - labels[:, None] + ranks[:, None]) % classes).float()
        known = [number / classes for number in several]
        for scale in (1.0, 100.0, float(len(ranks))):
            right = [scale * share for share in known]
            alone = [ask(scores, labels, **{name: (number,)}) for number in several]
            if not all(len(one) == 1 and _near(one[0], wanted) for one, wanted in zip(alone, right, strict=True)):
                continue
            told = ask(scores, labels, **{name: tuple(several)})
            if len(told) == len(right) and not all(map(_near, told, right)):
                return tuple(several), told, tuple(right)
    return None


def _near(value: float, wanted: float) -> bool:
    return abs(value - wanted) < _ROUNDED * wanted


def _asked_for(source: ScriptSource, node: ast.FunctionDef) -> Iterator[tuple[str, list[int]]]:
    """The parameter by which calls ask for several different numbers at once, each time with the numbers."""
    for site in source.calls_of(node):
        for name, given in source.arguments(node, site.node):
            value = source.value(given)
            if (
                isinstance(value, tuple | list)
                and len(value) > 1
                and all(type(part) is int and 0 < part <= _MOST for part in value)
                and len(set(value)) == len(value)
            ):
                yield name, list(value)
