"""`eval.worst-kept`: is the epoch that a script saves the one with the best value?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain, islice

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.best_epoch.by_calling import takes_the_worst
from striate.doctor.checks.eval.best_epoch.comparisons import compared_wrongly
from striate.doctor.checks.eval.best_epoch.wrong_modes import in_wrong_mode
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import receiver_of
from striate.records import Finding


def _worst_kept(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    found = chain(compared_wrongly(evidence), not_copied(source), in_wrong_mode(source), takes_the_worst(source))
    yield from islice(found, 1)


def not_copied(source: ScriptSource) -> Iterator[Finding]:
    """A network's `state_dict()` that a loop stores under a condition, as that of the best epoch, without a copy, and
    that is loaded after the loop."""
    loads = [site.node for site in source.calls("load_state_dict") if site.node.args]
    for site in source.calls("state_dict"):
        node = source.parent(site.node)
        values: list[ast.expr] = [site.node]
        if isinstance(node, ast.Tuple):
            values, node = node.elts, source.parent(node)
        if not isinstance(node, ast.Assign) or not isinstance(source.value(receiver_of(site.node)), nn.Module):
            continue
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) and len(values) > 1 else [target]
        name = next((ast.unparse(n) for n, v in zip(names, values, strict=False) if v is site.node), "")
        loaded = [load for load in loads if ast.unparse(load.args[0]) == name or _of_object(source, load, node)]
        if not any(_stored_until(source, node, site, load) for load in loaded):
            continue
        state = ast.unparse(site.node)
        yield Finding(
            code="eval.worst-kept",
            severity="error",
            where=f"line {site.node.lineno}",
            measured=f"`{name} = {state}` makes no copy: it holds the network's own tensors, which all later steps "
            "change",
            threshold="a `state_dict()` that is stored without a copy",
            why="The weights loaded at the end are those of the last epoch, not the best.",
            remedy=f"`{name} = copy.deepcopy({state})`",
        )


def _of_object(source: ScriptSource, load: ast.Call, assignment: ast.Assign) -> bool:
    """Whether a load takes the attribute that a method of its object assigns: `stopper.best_weights` after
    `self.best_weights = …`."""
    loaded, stored = load.args[0], assignment.targets[0]
    if not isinstance(loaded, ast.Attribute) or not isinstance(stored, ast.Attribute) or loaded.attr != stored.attr:
        return False
    kind = next((part.name for part in source.enclosing(assignment, ast.ClassDef)), "")
    return ast.unparse(stored.value) == "self" and type(source.value(loaded.value)).__name__ == kind


def _stored_until(source: ScriptSource, assignment: ast.Assign, site: Site, load: ast.Call) -> bool:
    """Whether a loop stores a state under a condition and continues, and the state is loaded after the loop. In a loop
    around both, as over folds, it must be loaded into the same network. The loop may call a method that stores it, as
    of a class for early stopping, where another method loads it."""
    loops = source.loops_of(assignment)
    left = [loop for loop in loops if load.lineno > (loop.end_lineno or 0)]
    around = list(source.enclosing(assignment))
    lines = [block for block in (getattr(around[0], name, []) for name in ("body", "orelse")) if assignment in block]
    if any(isinstance(block[-1], ast.Break | ast.Return) for block in lines):
        return False  # no step changes it afterwards
    if not loops and isinstance(assignment.targets[0], ast.Attribute):
        called_by_loop = site.often != "once" and source.function_of(load) is not source.function_of(assignment)
        return called_by_loop and isinstance(around[0], ast.If)
    if not left or not any(isinstance(part, ast.If) for part in around[: around.index(left[-1])]):
        return False
    one, other = receiver_of(site.node), receiver_of(load)
    return len(left) == len(loops) or (one is not None and other is not None and ast.dump(one) == ast.dump(other))


WORST_KEPT = Check(
    codes=("eval.worst-kept", "optim.scheduler-calls"),
    run=_worst_kept,
    of_source=True,
)
