"""Top-k accuracies that are wrong if one call computes them for several k."""

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
"""Samples of each rank; the largest k."""


def wrong_top_k(source: ScriptSource, node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    found = _wrong_for_several(source, node, partial(numbers_for, function))
    if found is None:
        return
    reported, true, ks = (listed([f"{value:.4g}" for value in values]) for values in found)
    yield wrong_metric(
        node.lineno,
        f"`{node.name}` gives {reported} for known scores if it is called for k = {ks} at once; called for each k by "
        f"itself it gives {true}, which is right",
        "A label among the highest scores of the largest k counts for a smaller k as well: the top-1 accuracy is a "
        "top-k accuracy.",
        "count hits among the first `k` alone, for each `k`: `correct[:k].reshape(-1).float().sum()`",
        "a function for top-k accuracies whose results for several k at once differ from those for each k by itself",
    )


def _wrong_for_several(
    source: ScriptSource, node: ast.FunctionDef, ask: Callable[..., tuple[float, ...]]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]] | None:
    """The accuracies that a function computes for all k of a call at once, the right ones, and the k; None where these
    accuracies are right, or those for each k by itself are wrong."""
    for name, ks in _several_k(source, node):
        classes = 2 * max(ks)
        ranks = torch.arange(_OF_EACH * classes) % classes
        labels = torch.arange(len(ranks)) * 3 % classes
        # The label has as many scores above it as its rank says; no two scores of a sample are equal.
        scores = -((torch.arange(classes) - labels[:, None] + ranks[:, None]) % classes).float()
        known = [k / classes for k in ks]
        for scale in (1.0, 100.0, float(len(ranks))):
            right = [scale * share for share in known]
            alone = [ask(scores, labels, **{name: (k,)}) for k in ks]
            if not all(len(one) == 1 and _near(one[0], true) for one, true in zip(alone, right, strict=True)):
                continue
            together = ask(scores, labels, **{name: tuple(ks)})
            if len(together) == len(right) and not all(map(_near, together, right)):
                return together, tuple(right), tuple(ks)
    return None


def _near(value: float, true: float) -> bool:
    return abs(value - true) < _ROUNDED * true


def _several_k(source: ScriptSource, node: ast.FunctionDef) -> Iterator[tuple[str, list[int]]]:
    """Calls of a function for several k at once: the parameter, and the k."""
    for site in source.calls_of(node):
        for name, expression in source.arguments(node, site.node):
            value = source.value(expression)
            if (
                isinstance(value, tuple | list)
                and len(value) > 1
                and all(type(part) is int and 0 < part <= _MOST for part in value)
                and len(set(value)) == len(value)
            ):
                yield name, list(value)
