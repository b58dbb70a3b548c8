"""`reward.truncated-terminal`, `reward.terminal-lost`: are truncated episodes distinguished from terminated ones?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import takewhile

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.no_exploration import played_steps
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reward_code import own_nodes
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, last_name, names_in, nodes_in
from striate.records import Finding
from striate.tasks.control.doctor import terminal_lost, truncated_terminal

_STORES = ("add", "push", "append", "store", "remember", "insert", "put", "save", "record", "add_transition")
_ENDED = ("term", "done")


def _truncated(evidence: Evidence) -> Iterator[Finding]:
    source, steps = played_steps(evidence)
    for call in steps:
        statement = next(source.enclosing(call, ast.Assign), None)
        target = None if statement is None else statement.targets[0]
        if not isinstance(target, ast.Tuple) or len(target.elts) not in (4, 5):
            continue
        terminated, truncated = (part.id if isinstance(part, ast.Name) else "" for part in target.elts[2:4])
        if len(target.elts) == 4 and not (terminated.startswith("term") and truncated.startswith("trunc")):
            continue  # (observation, reward, done, info)
        scope = source.scope_of(call)
        if _are_exchanged(source, call, terminated, truncated) and not (
            _only_together(source, scope, terminated, truncated)
            and _only_together(source, scope, truncated, terminated)
        ):
            yield terminal_lost(
                source.where(call),
                f"`{ast.unparse(target)} = {ast.unparse(call)}` stores the flag for termination as `{terminated}`, "
                f"and the flag for truncation as `{truncated}`",
                threshold=TRUNCATED_TERMINAL.threshold,
                remedy="`observation, reward, terminated, truncated, info = env.step(action)`, in this order",
            )
            return
        both = set(_unions(scope, terminated, truncated))
        for node in own_nodes(scope):
            if not isinstance(node, ast.Call) or called(node) not in _STORES or _excludes(node, truncated):
                continue
            for part in nodes_in(node.args, ast.BoolOp):
                if {terminated, truncated} <= names_in(part):
                    yield _stored_as_end(source, node, ast.unparse(part), terminated)
                    return
            names = [part.id for part in nodes_in(node.args, ast.Name)]
            names += [part.id for word in node.keywords for part in nodes_in(word.value, ast.Name)]
            if len(names) < 4 or terminated in names:
                continue
            if name := next(iter(both & set(names)), ""):
                yield _stored_as_end(source, node, name, terminated)
                return
            if (
                truncated in names
                and truncated.startswith("trunc")
                and _only_together(source, scope, terminated, truncated)
            ):
                yield truncated_terminal(
                    source.where(node),
                    f"`{ast.unparse(node)}` stores `{truncated}`, which is true for truncated episodes, and nothing "
                    f"stores `{terminated}`, which is true for terminated ones",
                    threshold=TRUNCATED_TERMINAL.threshold,
                    remedy=f"use `{terminated}` instead of `{truncated}`",
                )
                return


def _are_exchanged(source: ScriptSource, call: ast.Call, third: str, fourth: str) -> bool:
    """Whether the flags of a step get each other's names. Environments return the flag for termination first, unless
    their code shows otherwise."""
    returned = [
        node.value.elts for node in nodes_in(source.functions_of(call), ast.Return) if isinstance(node.value, ast.Tuple)
    ]
    named = third.startswith("trunc") and fourth.startswith(_ENDED)
    return named and all(len(parts) == 5 and last_name(parts[2]).startswith(_ENDED) for parts in returned)


def _excludes(call: ast.Call, truncated: str) -> bool:
    """Whether the stored flag excludes truncated episodes: `done and not truncated`."""
    negated = (part.operand for part in nodes_in(call, ast.UnaryOp))
    return any(isinstance(part, ast.Name) and part.id == truncated for part in negated)


def _stored_as_end(source: ScriptSource, node: ast.Call, name: str, terminated: str) -> Finding:
    return truncated_terminal(
        source.where(node),
        f"`{ast.unparse(node)}` stores `{name}`, which is also true when a limit truncates the episode",
        threshold=TRUNCATED_TERMINAL.threshold,
        remedy=f"use `{terminated}` instead of `{name}`; `{name}` only decides when to reset",
    )


def _only_together(source: ScriptSource, scope: ast.AST, terminated: str, truncated: str) -> bool:
    """Whether every expression that reads the first flag also reads the second one."""
    for node in own_nodes(scope):
        if isinstance(node, ast.Name) and node.id == terminated and isinstance(node.ctx, ast.Load):
            outermost = [node, *takewhile(lambda part: isinstance(part, ast.expr), source.enclosing(node))][-1]
            if truncated not in names_in(outermost):
                return False
    return True


def _unions(scope: ast.AST, terminated: str, truncated: str) -> Iterator[str]:
    """The variables to which the script assigns `terminated or truncated`."""
    for node in own_nodes(scope):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        names = names_in(node.value)
        joined = isinstance(node.value, ast.BoolOp | ast.BinOp) or called(node.value) in (
            "logical_or",
            "maximum",
            "bool",
            "float",
            "int",
        )
        if {terminated, truncated} <= names and joined:
            yield node.targets[0].id


TRUNCATED_TERMINAL = Check(
    codes=("reward.truncated-terminal", "reward.terminal-lost"),
    threshold="transitions are stored with `terminated`, not with `terminated or truncated`, and each has its own name",
    run=_truncated,
    of_source=True,
    of_rewards=True,
)
