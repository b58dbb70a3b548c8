"""Average precisions of a search for nearest neighbors, checked with embeddings in one cluster for each class."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.eval.metrics.known_inputs import NO_SCORES, near, wrong_metric
from striate.doctor.checks.eval.script_evaluation import words_of
from striate.doctor.setup.syntax import names_in, nodes_in
from striate.models.preserved_state import same_random_state
from striate.records import Finding

_CLUSTERS = 5
_SIZES = (3, 25, 104)
"""Sizes of the clusters: a precision of the first 10 or 100 neighbors may be below 1 in some of them by definition."""
_DIMENSIONS, _SPREAD, _ROUNDED = 16, 0.02, 1e-3
_PRECISION = re.compile(r"(^|_)(maps?|mapr|mrr|ndcg)(_|@|$)|^aps?(_|@|$)|mean_ap|average_precision")
_LOWER = 0.1


def wrong_precision(node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    """The finding for an average precision that is not 1 for embeddings in one cluster for each class."""
    for name, key in _precisions_of(node):
        found = [_precision_of_clusters(function, key, size) for size in _SIZES]
        values = [value for value in found if value is not None]
        if len(values) < len(_SIZES) or any(near(value, 1.0) or not 0 < value < 1 for value in values):
            continue
        mixed = _precision_of_clusters(function, key, _SIZES[1], mixed=True)
        if mixed is None or mixed > (1 - _LOWER) * values[1]:
            continue  # it does not measure how near samples of a class are
        yield wrong_metric(
            node.lineno,
            f"`{node.name}` gives {values[1]:.4g} as `{name}` for {_CLUSTERS * _SIZES[1]} embeddings in {_CLUSTERS} "
            "clusters far apart, one for each class",
            "A perfect network would not get a perfect score: precisions are divided by a number other than the rank, "
            "or their sum by one other than that of the relevant samples.",
            "divide the hits so far by the rank, and the sum by the number of relevant samples: "
            "`(hits.cumsum(0) / torch.arange(1, len(hits) + 1) * hits).sum() / hits.sum()`",
            "an average precision of neighbors that is not 1 where all neighbors are of the same class, however many",
        )
        return


def _precisions_of(function: ast.FunctionDef) -> Iterator[tuple[str, Any]]:
    """The average precisions among the results of a function, by name, each with its place or key; None for a single
    result."""
    returned = [node.value for node in nodes_in(function, ast.Return) if node.value is not None]
    value, parts = returned[0] if len(returned) == 1 else None, list[tuple[str, set[str], Any]]()
    if isinstance(value, ast.Tuple):
        parts = [(ast.unparse(part), names_in(part) - {"map"}, place) for place, part in enumerate(value.elts)]
    elif isinstance(value, ast.Dict):
        parts = [(str(k.value), {str(k.value)}, k.value) for k in value.keys if isinstance(k, ast.Constant)]
    elif value is not None:
        parts = [(function.name, {function.name}, None)]
    for text, names, key in parts:
        if any(_PRECISION.search(name.lower()) for name in names) and not words_of(text) & NO_SCORES:
            yield text, key


def _precision_of_clusters(function: Callable[..., Any], key: Any, size: int, *, mixed: bool = False) -> float | None:
    """The result of a function for embeddings in clusters of a size and their labels, in either order of arguments.
    `mixed`: with labels independent of the clusters. None where the result changes when the embeddings are rotated or
    the classes renumbered: the function does not search for neighbors."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(_CLUSTERS).repeat_interleave(size)
    noise = _SPREAD * torch.randn(len(labels), _DIMENSIONS, generator=generator)
    places = torch.nn.functional.normalize(torch.eye(_CLUSTERS, _DIMENSIONS)[labels] + noise, dim=1)
    order = torch.randperm(len(labels), generator=generator)
    labels, places = labels if mixed else labels[order], places[order]
    turn = torch.linalg.qr(torch.randn(_DIMENSIONS, _DIMENSIONS, generator=generator)).Q
    for labels_first in (False, True):
        for change in (torch.Tensor.clone, torch.Tensor.numpy):
            values = []
            for embedded, numbers in ((places, labels), (places @ turn, labels), (places, (labels + 2) % _CLUSTERS)):
                pair = change(embedded), change(numbers)
                values += _number_of(function, key, pair[::-1] if labels_first else pair)
            if len(values) == 3 and max(values) - min(values) < _ROUNDED:
                return values[0]
    return None


def _number_of(function: Callable[..., Any], key: Any, args: tuple[Any, ...]) -> list[float]:
    """The number that a function returns at a key; none where it raises."""
    with same_random_state(), torch.no_grad(), np.errstate(all="ignore"), suppress(Exception):  # the user's function
        result = function(*args)
        return [float(result if key is None else result[key])]
    return []
