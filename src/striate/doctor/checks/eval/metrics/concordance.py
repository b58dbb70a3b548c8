"""Concordance indices that are not 1 for risks in the right order."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.eval.metrics.known_inputs import FEW, near, numbers_for, wrong_metric
from striate.records import Finding


def wrong_concordance(node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    """The finding for a concordance index that is not 1 where no sample is censored and all risks are in the right
    order. The function takes risks (or predicted durations), durations and events, in any order of arguments."""
    times, events = np.arange(1.0, 1 + FEW), np.ones(FEW)
    values = list[float]()
    for risks, seen in product((-times, times), (events, events.astype(bool))):
        for form in permutations((risks, times, seen)):
            with np.errstate(all="ignore"):
                values += numbers_for(function, *form) or numbers_for(function, *map(torch.from_numpy, form))
    if not values or any(near(value, 1.0) or value > 1 for value in values):  # counts, above 1
        return
    yield wrong_metric(
        node.lineno,
        f"`{node.name}` gives {max(values):.4g} at most for {FEW} uncensored samples whose risks are in the order "
        "of their durations, ascending or descending",
        "A perfect network would not get a perfect score: the divisor is not the number of comparable pairs.",
        "divide by the number of pairs whose order is known: `(higher * earlier).sum() / earlier.sum()`",
        "a function for a concordance index that is not 1 for risks in the right order",
    )
