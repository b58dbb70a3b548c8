"""Scripts whose steps cannot be repeated, and that never step the optimizer or never clear the gradients."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_optimizers
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import receiver_of
from striate.records import Finding

_STEPPING = ("opt", "scaler", "adam", "sgd", "engine", "model", "solver", "trainer")
"""Parts of names of optimizers, scalers and other objects with a `step`."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    backward = source.calls("backward")
    if not backward or source.library is not None or not reached_optimizers(source.names):
        raise NoEvidence("there is no `backward()` with an optimizer")
    if source.calls("manual_backward", "grad", "minimize"):
        raise NoEvidence("gradients are computed in another way")
    if not any(_steps(source, site.node) for site in source.calls("step")):
        yield _finding(
            "optim.no-step",
            backward[0].where,
            f"`{backward[0].text}` runs, but no code calls `.step()` of an optimizer",
            "The weights never change.",
            f"call `optimizer.step()` after `{backward[0].text}`",
        )
    elif not source.calls("zero_grad") and not _clears(source):
        yield _finding(
            "optim.missing-zero-grad",
            backward[0].where,
            f"`{backward[0].text}` runs, but no code calls `.zero_grad()`",
            "The gradients of all steps so far add up: each step also follows the earlier ones.",
            f"call `optimizer.zero_grad()` before `{backward[0].text}`",
        )


def _steps(source: ScriptSource, call: ast.Call) -> bool:
    receiver = receiver_of(call)
    if isinstance(source.value(receiver), Optimizer):
        return True
    return receiver is not None and any(part in ast.unparse(receiver).lower() for part in _STEPPING)


def _clears(source: ScriptSource) -> bool:
    """Whether the script accesses `.grad`, and so may clear gradients itself."""
    nodes = source.nodes()
    return any(isinstance(node, ast.Attribute) and node.attr == "grad" for node in nodes)


def _finding(code: str, where: str, measured: str, why: str, remedy: str) -> Finding:
    return STEPS_BY_CODE.finding(
        code=code,
        severity="error",
        where=where,
        measured=measured,
        why=why,
        remedy=remedy,
    )


STEPS_BY_CODE = Check(
    codes=("optim.no-step", "optim.missing-zero-grad"),
    threshold="`backward()` without any `step()` of an optimizer, or without any `zero_grad()`",
    run=_run,
    of_source=True,
)
"""For scripts none of whose steps is repeated."""
