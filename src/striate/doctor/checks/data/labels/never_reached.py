"""Samples that training never reaches: a loop that ends within its first batch, a data set that says it is shorter."""

from __future__ import annotations

import ast
from collections.abc import Sized
from typing import Any

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import batches_of, leaves
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.syntax import definition_of, nodes_in
from striate.models.preserved_state import same_random_state
from striate.wording import several


def ends_at_once(evidence: Evidence) -> tuple[str, str, str] | None:
    """Where a `break` ends the training loop in its first pass, what was measured, and the remedy."""
    source, loader = evidence.setup.source, evidence.setup.train
    loop = None if source is None else source.training_loop
    batches = batches_of(loader) or 0
    if source is None or not isinstance(loop, ast.For) or batches < 2:
        return None
    last = next((node for node in loop.body if isinstance(node, ast.Break)), None)
    if last is None:
        return None
    return (
        f"line {last.lineno}",
        f"`break` ends the training loop in its first pass: only one of {several(batches, 'batch', 'batches')} is "
        "trained on in each epoch",
        f"remove the `break` in line {last.lineno}",
    )


def says_less(evidence: Evidence) -> tuple[str, str, str] | None:
    """The class of a data set whose length is a fraction of its samples, what was measured, and the remedy."""
    data = getattr(evidence.setup.train, "dataset", None)
    if (
        evidence.setup.source is None
        or data is None
        or not written_by_user(type(data).__module__)
        or not isinstance(data, Sized)
    ):
        return None
    divided, numbered = (definition_of(getattr(type(data), name)) for name in ("__len__", "__getitem__"))
    if divided is None or numbered is None or any(isinstance(node, ast.Mod) for node in nodes_in(numbered)):
        return None
    if not any(isinstance(node, ast.FloorDiv) for node in nodes_in(divided)):
        return None
    count = len(data)
    there = next((k for k in (16, 8, 4, 2) if count and _alike(data, count, k)), 1)
    if there == 1:
        return None
    name = type(data).__name__
    return (
        f"`{name}.__len__`",
        f"the length of `{name}` is {count:,}, but it has at least {there} times as many samples: "
        "the others are never drawn",
        "return the number of samples, not of batches: `return len(self.x)`",
    )


def _alike(data: Any, count: int, times: int) -> bool:
    """Whether the data set also has samples, of the shapes of its first one, up to so many times its length."""
    try:
        with same_random_state():
            shapes = [[tensor.shape for _, tensor in leaves(data[k])] for k in (0, count, times * count - 1)]
    except Exception:  # the user's data set ends there
        return False
    return bool(shapes[0]) and shapes[1:] == [shapes[0]] * 2
