"""`eval.worst-kept`: is the epoch that a script keeps the one with the best value?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain, islice

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.kept.by_callback import in_wrong_mode
from striate.doctor.checks.eval.kept.compared import compared_wrongly
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, receiver_of
from striate.records import Finding


def _worst_kept(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    yield from islice(chain(compared_wrongly(evidence), not_copied(source), in_wrong_mode(source)), 1)


def not_copied(source: ScriptSource) -> Iterator[Finding]:
    """A network's `state_dict()` that a loop keeps under a condition, as of the best epoch, without a copy, and that is
    loaded behind the loop."""
    loaded = {ast.unparse(site.node.args[0]): site.node for site in source.calls("load_state_dict") if site.node.args}
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
        loops, under = source.loops_of(node), [part for part in source.around(node) if isinstance(part, ast.If)]
        behind = loaded.get(name)
        if not loops or not under or behind is None or behind.lineno <= (loops[-1].end_lineno or 0):
            continue
        kept = ast.unparse(site.node)
        yield Finding(
            code="eval.worst-kept",
            severity="error",
            where=f"line {site.node.lineno}",
            measured=f"`{name} = {kept}` makes no copy: it holds the network's own tensors, which all later steps "
            "change",
            threshold="a `state_dict()` that is kept without a copy",
            why="The weights loaded at the end are those of the last epoch, not the best.",
            remedy=f"`{name} = copy.deepcopy({kept})`",
        )


WORST_KEPT = Check(
    codes=("eval.worst-kept", "optim.scheduler-calls"),
    question="Is the saved epoch the best one?",
    run=_worst_kept,
    of_source=True,
)
