"""`reward.off-by-one` of a script's code: a reward that is stored before the step that returns it, or an observation
that is replaced before it is stored."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.no_exploration import played_steps
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reward_code import environment_steps
from striate.doctor.setup.syntax import called, names_in, nodes_in, receiver_of, stored_in
from striate.records import Finding

_REWARD = re.compile(r"^r$|rew", re.IGNORECASE)


def _run(evidence: Evidence) -> Iterator[Finding]:
    source, steps = played_steps(evidence)
    if (finding := next(_overwritten(evidence), None)) is not None:
        yield finding
        return
    for call in steps:
        statement = source.parent(call)
        block = next((b for b in _blocks(source.parent(statement)) if statement in b), []) if statement else []
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Tuple):
            continue
        place = block.index(statement) if statement in block else 0
        arguments = {name for part in call.args for name in names_in(part)}
        for reward in (part.id for part in statement.targets[0].elts if isinstance(part, ast.Name)):
            early = _stored(block[:place], {reward})
            if not _REWARD.search(reward) or _stored(block[place + 1 :], {reward}) or _is_set(block[:place], reward):
                continue
            shared = early & _stored(block[:place], arguments - {reward})
            if shared:
                yield STORED_EARLY.finding(
                    severity="error",
                    where=source.where(call),
                    measured=f"`{reward}` is stored at {min(shared)} with the action, before `{ast.unparse(call)}` "
                    "returns the reward for it: it is the reward of the action before",
                    limit="a reward is stored with an action before the step that returns it, and not after it",
                    why="Each action is learned with the reward of another one.",
                    remedy=f"store `{reward}` below that line",
                )
                return


def _overwritten(evidence: Evidence) -> Iterator[Finding]:
    """`obs = next_obs` after the step and before `buffer.add(obs, next_obs, action, reward, done)`."""
    source = evidence.source
    for call in environment_steps(source):
        statement = source.parent(call)
        block = next((b for b in _blocks(source.parent(statement)) if statement in b), []) if statement else []
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Tuple) or not block:
            continue
        results = [part.id for part in statement.targets[0].elts if isinstance(part, ast.Name)]
        moved: dict[str, str] = {}
        for later in block[block.index(statement) + 1 :]:
            one = later.targets[0] if isinstance(later, ast.Assign) else None
            if isinstance(later, ast.Assign) and isinstance(one, ast.Name) and isinstance(later.value, ast.Name):
                moved |= {one.id: later.value.id} if [later.value.id] == results[:1] else {}
            if not isinstance(later, ast.Expr) or not isinstance(later.value, ast.Call):
                continue
            names = names_in(later.value)
            if any(_REWARD.search(name) for name in names.intersection(results)):
                for own, following in moved.items():
                    if {own, following} <= names:
                        yield STORED_EARLY.finding(
                            severity="error",
                            where=source.where(later),
                            measured=f"`{own} = {following}` runs before `{ast.unparse(later)}`: each transition "
                            "leads from a state to itself, with the action of the one before",
                            limit="an observation is replaced by the next one before both are stored",
                            why="No transition shows what an action changes: nothing can be learned from it.",
                            remedy=f"move `{own} = {following}` below that line",
                        )
                        return


def _blocks(node: ast.AST | None) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(node, name, None) or []


def _stored(statements: list[ast.stmt], names: set[str]) -> set[str]:
    """The places where variables of these names are stored: `[t]` of `buffer[t] = action`, or `append`."""
    places = set[str]()
    for node in nodes_in(statements):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            place, value = f"[{ast.unparse(node.targets[0].slice)}]", [node.value]
        elif isinstance(node, ast.Call) and called(node) == "append" and receiver_of(node) is not None:
            place, value = "append", node.args
        else:
            continue
        if any(names_in(one) & names for one in value):
            places.add(place)
    return places


def _is_set(statements: list[ast.stmt], name: str) -> bool:
    return any(name in stored_in(statement) for statement in statements)


STORED_EARLY = Check(
    codes=("reward.off-by-one",),
    run=_run,
    of_source=True,
    of_rewards=True,
)
