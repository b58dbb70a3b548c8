"""Noise that code adds in place to a tensor that is both input and target, under two names."""

from __future__ import annotations

import ast
import re

from striate.doctor.evidence.changed_by_reading import target_is_input
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.syntax import called, names_in, receiver_of

_CHANCE = re.compile(r"rand|normal(?!i)|bernoulli|poisson|uniform|dropout")


def noise_in_both(evidence: Evidence) -> tuple[int, str, str] | None:
    """The line that adds random numbers in place, and both names of the changed tensor, if inputs and targets are
    equal; else None."""
    source = evidence.setup.source
    if source is None or not all(map(target_is_input, evidence.train.raw)):
        return None
    for node in source.nodes(ast.Assign):
        target, behind = node.targets[0], [part for part in ast.walk(source.scope_of(node)) if _is_behind(part, node)]
        changes = [node.value] if _changed_in_place(node.value) else _changes(target, behind)
        changed = _changed_in_place(node.value) or node.value
        if not isinstance(target, ast.Name) or not isinstance(changed, ast.Name) or target.id == changed.id:
            continue
        names = {name for change in changes for name in names_in(change)}
        made = [source.last_value(change, name) for change in changes for name in names - {target.id, changed.id}]
        by_chance = any(part is not None and _CHANCE.search(ast.unparse(part)) for part in (*changes, *made))
        used = {part.id for part in behind if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
        if by_chance and {target.id, changed.id} <= used:
            return changes[0].lineno, changed.id, target.id
    return None


def _is_behind(part: ast.AST, node: ast.stmt) -> bool:
    return getattr(part, "lineno", 0) > node.lineno


def _changes(target: ast.expr, behind: list[ast.AST]) -> list[ast.expr]:
    """The expressions that change a variable in place: `noisy += noise`, `noisy.add_(noise)`."""
    own = ast.unparse(target)
    added = [part.value for part in behind if isinstance(part, ast.AugAssign) and ast.unparse(part.target) == own]
    alone = [part.value for part in behind if isinstance(part, ast.Expr)]
    return added + [call for call in alone if (name := _changed_in_place(call)) is not None and name.id == own]


def _changed_in_place(value: ast.expr) -> ast.Name | None:
    """The variable that methods of torch change in place, as in `clean.add_(noise).clamp_(-1, 1)`; else None."""
    owner = value
    while isinstance(owner, ast.Call) and called(owner).endswith("_") and (inner := receiver_of(owner)) is not None:
        owner = inner
    return owner if isinstance(owner, ast.Name) and owner is not value else None
