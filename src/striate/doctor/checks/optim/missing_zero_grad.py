"""`optim.missing-zero-grad`: are gradients cleared after the optimizer's step?"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.watched_step import StepRow
from striate.doctor.setup.syntax import called
from striate.records import Finding
from striate.wording import percent, several

_SAME = 0.02
_FEWEST = 2


def _find_missing_zero_grad(evidence: Evidence) -> Iterator[Finding]:
    """Gradients that are still there after the optimizer's step when the next ones are computed, in all steps."""
    rows = evidence.trial.rows
    left = _left_over(rows)
    if len(left) < _FEWEST or not all(left):
        return
    first, last = (next(row.stale for row in some if row.stale) for some in (rows, list(reversed(rows))))
    raw = next((row.raw for row in reversed(rows) if row.raw), 0.0)
    yield Finding(
        code="optim.missing-zero-grad",
        severity="error",
        where="the training step",
        measured=f"in {len(left)} of {several(len(left), 'step')} the gradients of the previous step were still "
        f"there: their norm is {first:.2g} at first and {last:.2g} in the last step examined; those of one batch "
        f"have {raw:.2g}",
        threshold=f"the gradients that the optimizer used are still there, within {percent(_SAME, 0)}, when the next "
        f"ones are computed, after each of {_FEWEST} steps or more",
        why="Each step follows the sum of all gradients since the beginning: it overshoots, more and more.",
        remedy="Put `optimizer.zero_grad()` before `loss.backward()`, in each step.",
    )


def _find_closure(evidence: Evidence) -> Iterator[Finding]:
    """A closure that L-BFGS calls several times in a step, and that accumulates its gradients."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or not isinstance(optimizer, torch.optim.LBFGS):
        return
    most = int(optimizer.param_groups[0]["max_iter"])
    closures = [site.node.args[0] for site in source.calls("step") if site.node.args]
    names = {node.id for node in closures if isinstance(node, ast.Name)}
    for function in (node for node in source.nodes(ast.FunctionDef) if node.name in names) if most > 1 else ():
        inside = [called(node) for node in ast.walk(function)]
        if "backward" not in inside or any("zero_grad" in name for name in inside):
            continue
        yield Finding(
            code="optim.missing-zero-grad",
            severity="error",
            where=f"line {function.lineno}",
            measured=f"`{function.name}` runs backward and clears no gradients, and L-BFGS calls it up to {most} "
            "times in a step",
            threshold="a closure without zero_grad, for an optimizer that calls it more than once in a step",
            why="Each gradient is the sum of all before it: the steps do not follow the gradient of the loss.",
            remedy=f"`optimizer.zero_grad()` as the first line of `{function.name}`",
        )
        return


def _find_zero_grad(evidence: Evidence) -> Iterator[Finding]:
    findings = list(_find_closure(evidence))
    yield from findings or _find_missing_zero_grad(evidence)


def _left_over(rows: Sequence[StepRow]) -> list[bool]:
    """For each step after one in which the optimizer steps, whether the gradients of the earlier one are still
    there."""
    unchanged = []
    for before, row in pairwise(rows):
        if not before.steps or not before.applied or row.stale is None or not math.isfinite(row.stale):
            continue
        unchanged.append(abs(row.stale - before.applied) <= _SAME * before.applied)
    return unchanged


MISSING_ZERO_GRAD = Check(
    codes=("optim.missing-zero-grad",),
    run=_find_zero_grad,
    explains="loss.not-finite model.collapsed model.dead-units optim.clip-too-small optim.lr-too-high fit.*",
)
