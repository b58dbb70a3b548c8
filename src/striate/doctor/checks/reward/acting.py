"""`reward.no-exploration` and `reward.truncated-terminal`: how a script acts, and what it stores of each step."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.rate_functions import numbers_of_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reward_code import environment_steps, origins, own_nodes
from striate.doctor.setup.script_source import ScriptSource, called, last_name, receiver_of
from striate.records import Finding
from striate.tasks.control.doctor import CONSTANT, explores_always, explores_never, terminal_lost, truncated_terminal

_DRAWS = ("random", "rand", "uniform", "random_sample")
_CHANCE = (*_DRAWS, "sample", "multinomial", "randint", "choice", "choices", "integers", "randn", "normal", "rsample",
           "randrange", "poisson", "bernoulli", "gumbel", "exponential_", "uniform_", "normal_", "rand_like",
           "randn_like")  # fmt: skip
_BUFFER = re.compile(r"buffer|memory|replay|^rb$|dataset|loader", re.IGNORECASE)
_STORES = ("add", "push", "append", "store", "remember", "insert", "put", "save", "record", "add_transition")
_ENDED = ("term", "done")


def _steps(evidence: Evidence) -> tuple[ScriptSource, list[tuple[ast.Call, str]]]:
    source = evidence.source
    steps = environment_steps(source)
    if not steps:
        raise NoEvidence("no environment is played")
    return source, steps


def _explores(evidence: Evidence) -> Iterator[Finding]:
    source, steps = _steps(evidence)
    for file, tree in source.trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Compare) or len(node.comparators) != 1:
                continue
            sides = (node.left, node.comparators[0])
            limit = next((b for a, b in (sides, sides[::-1]) if called(a) in _DRAWS), None)
            if limit is None or _before_training(source, node):
                continue
            value = _constant(source, limit)
            where = f"{Path(file).name}, line {node.lineno}"
            if value is None:
                yield from _scheduled(source, node, limit, where)
            elif value <= 0:
                yield explores_never(where, f"`{ast.unparse(limit)}` is {value:g} and never changes")
            elif value >= CONSTANT:
                measured = (
                    f"`{ast.unparse(limit)}` is {value:g} and never changes: the share of random actions stays the same"
                )
                yield explores_always(where, measured)
            return
    call, file = steps[0]
    greedy = all(step.args and _greedy(source, step) for step, _ in steps)
    if greedy and not any(map(_acts_by_chance, source.trees.values())):
        where = f"{Path(file).name}, line {call.lineno}"
        yield explores_never(where, f"`{ast.unparse(call)}` always gets the best action known (argmax)")


def _scheduled(source: ScriptSource, node: ast.AST, limit: ast.expr, where: str) -> Iterator[Finding]:
    """A share of random actions by a function of the step, `epsilon = schedule(1, 0.05, step)`, that stays as it is."""
    name = last_name(limit)
    known = [value for part in source.nodes() for value in _given(part, name)] if name else [limit]
    shares = set(numbers_of_steps(source, node, limit, spread=True)) if len(known) == 1 else set[float]()
    if len(shares) == 1 and (share := shares.pop()) >= CONSTANT:
        given = ast.unparse(known[0])
        yield explores_always(
            where, f"`{given}` is {share:g} in every step of the loop: the share of random actions stays the same"
        )


def _before_training(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a function that is called once, apart from the training, acts there: what it stores is all that there
    is, as of logs that are learned from."""
    function, (file, first, last) = source.function_of(node), source.loop
    if not isinstance(function, ast.FunctionDef):
        return False
    if function.lineno <= first and last <= (function.end_lineno or 0) and function in ast.walk(source.trees[file]):
        return False
    sites = source.calls_of(function)
    return bool(sites) and all(
        site.often == "once" or (site.often == "epoch" and _before_training(source, site.node)) for site in sites
    )


def _constant(source: ScriptSource, limit: ast.expr) -> float | None:
    """The value of a share of random actions that no line changes; None where one does, or it is not known."""
    value = source.value(limit)
    if not isinstance(value, int | float):
        return None
    if isinstance(limit, ast.Constant):
        return float(value)
    name = limit.attr if isinstance(limit, ast.Attribute) else getattr(limit, "id", "")
    given = [v for node in source.nodes() for v in _given(node, name)]
    function = source.function_of(limit)
    if function is not None:  # `choose(net, obs, epsilon_at(step))`
        pairs = (pair for site in source.calls_of(function) for pair in source.arguments(function, site.node))
        given += [value for parameter, value in pairs if parameter == name]
    constants = {v.value for v in given if isinstance(v, ast.Constant) and isinstance(v.value, int | float)}
    if any(not isinstance(v, ast.Constant | ast.Attribute) for v in given) or len(constants) > 1:
        return None
    return float(constants.pop() if constants else value)


def _given(node: ast.AST, name: str) -> Iterator[ast.expr]:
    """What a statement gives a variable or an attribute of this name: no constant where it changes it by one."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    named = any(getattr(part, "attr", getattr(part, "id", "")) == name for part in targets)
    if named and isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
        yield ast.UnaryOp(ast.UAdd(), node.value) if isinstance(node, ast.AugAssign) else node.value


def _greedy(source: ScriptSource, call: ast.Call) -> bool:
    """Whether the action is the argmax of something, in the code of the loop or of a function that it calls."""
    parts = list(origins(source.scope_of(call), call.args[0]))
    names = {called(part) for part in parts}
    for node in source.nodes():
        if isinstance(node, ast.FunctionDef) and node.name in names:
            parts += list(ast.walk(node))
    return any(called(part) == "argmax" for part in parts)


def _acts_by_chance(node: ast.AST) -> bool:
    """Whether something is drawn by chance in some code, other than in a replay buffer's own, or by an environment for
    anything but its step."""
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        if _BUFFER.search(node.name):
            return False
        if {"reset", "step"} <= {part.name for part in methods}:
            return any(_acts_by_chance(part) for part in methods if part.name == "step")
    return _chance(node) or any(map(_acts_by_chance, ast.iter_child_nodes(node)))


def _chance(node: ast.AST) -> bool:
    """Whether something is drawn by chance, other than samples of a replay buffer."""
    if called(node) not in _CHANCE or not isinstance(node, ast.Call):
        return False
    receiver = receiver_of(node)
    text = "" if receiver is None else ast.unparse(receiver)
    drawn = text in ("random", "np.random", "numpy.random") and called(node) == "sample"
    return not drawn and not _BUFFER.search(text.rpartition(".")[2] or text)


def _truncated(evidence: Evidence) -> Iterator[Finding]:
    source, steps = _steps(evidence)
    for call, file in steps:
        statement = next((node for node in source.around(call) if isinstance(node, ast.Assign)), None)
        target = None if statement is None else statement.targets[0]
        if not isinstance(target, ast.Tuple) or len(target.elts) not in (4, 5):
            continue
        terminated, truncated = (part.id if isinstance(part, ast.Name) else "" for part in target.elts[2:4])
        if len(target.elts) == 4 and not (terminated.startswith("term") and truncated.startswith("trunc")):
            continue  # the third says that it has ended, the fourth is information
        scope = source.scope_of(call)
        if _are_exchanged(source, call, terminated, truncated) and not (
            _only_united(source, scope, terminated, truncated) and _only_united(source, scope, truncated, terminated)
        ):
            yield terminal_lost(
                f"{Path(file).name}, line {call.lineno}",
                f"`{ast.unparse(target)} = {ast.unparse(call)}` stores the flag for termination as `{terminated}`, "
                f"and the flag for truncation as `{truncated}`",
                threshold=TRUNCATED_TERMINAL.threshold,
                remedy="`observation, reward, terminated, truncated, info = env.step(action)`, in this order",
            )
            return
        both = set(_unions(scope, terminated, truncated))
        for node in own_nodes(scope):
            if not isinstance(node, ast.Call) or called(node) not in _STORES or _takes_out(node, truncated):
                continue
            for part in (part for given in node.args for part in ast.walk(given) if isinstance(part, ast.BoolOp)):
                if {terminated, truncated} <= {one.id for one in ast.walk(part) if isinstance(one, ast.Name)}:
                    yield _stored_as_end(file, node, ast.unparse(part), terminated)
                    return
            names = [part.id for given in node.args for part in ast.walk(given) if isinstance(part, ast.Name)]
            names += [part.id for word in node.keywords for part in ast.walk(word.value) if isinstance(part, ast.Name)]
            if len(names) < 4 or terminated in names:
                continue
            if name := next(iter(both & set(names)), ""):
                yield _stored_as_end(file, node, name, terminated)
                return
            if (
                truncated in names
                and truncated.startswith("trunc")
                and _only_united(source, scope, terminated, truncated)
            ):
                yield truncated_terminal(
                    f"{Path(file).name}, line {node.lineno}",
                    f"`{ast.unparse(node)}` stores `{truncated}`, which is true for truncated episodes, and nothing "
                    f"stores `{terminated}`, which is true for terminated ones",
                    threshold=TRUNCATED_TERMINAL.threshold,
                    remedy=f"use `{terminated}` instead of `{truncated}`",
                )
                return


def _are_exchanged(source: ScriptSource, call: ast.Call, third: str, fourth: str) -> bool:
    """Whether a step's flags get each other's names: environments give first whether an episode ended, as far as their
    code shows."""
    returned = [
        node.value.elts
        for function in source.functions_of(call)
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)
    ]
    named = third.startswith("trunc") and fourth.startswith(_ENDED)
    return named and all(len(parts) == 5 and last_name(parts[2]).startswith(_ENDED) for parts in returned)


def _takes_out(call: ast.Call, truncated: str) -> bool:
    """Whether what is stored leaves out episodes that were cut off: `done and not truncated`."""
    turned = (part.operand for part in ast.walk(call) if isinstance(part, ast.UnaryOp))
    return any(isinstance(part, ast.Name) and part.id == truncated for part in turned)


def _stored_as_end(file: str, node: ast.Call, name: str, terminated: str) -> Finding:
    return truncated_terminal(
        f"{Path(file).name}, line {node.lineno}",
        f"`{ast.unparse(node)}` stores `{name}`, which is also true when a limit truncates the episode",
        threshold=TRUNCATED_TERMINAL.threshold,
        remedy=f"use `{terminated}` instead of `{name}`; `{name}` only decides when to reset",
    )


def _only_united(source: ScriptSource, scope: ast.AST, terminated: str, truncated: str) -> bool:
    """Whether the end of an episode is asked for nowhere but together with its being cut off."""
    for node in own_nodes(scope):
        if isinstance(node, ast.Name) and node.id == terminated and isinstance(node.ctx, ast.Load):
            whole = [node, *takewhile(lambda part: isinstance(part, ast.expr), source.around(node))][-1]
            if not any(isinstance(part, ast.Name) and part.id == truncated for part in ast.walk(whole)):
                return False
    return True


def _unions(scope: ast.AST, terminated: str, truncated: str) -> Iterator[str]:
    """Names that are given `terminated or truncated`."""
    for node in own_nodes(scope):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        names = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
        joined = isinstance(node.value, ast.BoolOp | ast.BinOp) or called(node.value) in (
            "logical_or",
            "maximum",
            "bool",
            "float",
            "int",
        )
        if {terminated, truncated} <= names and joined:
            yield node.targets[0].id


NO_EXPLORATION = Check(
    codes=("reward.no-exploration",),
    question="Are some actions random, and fewer as training goes on?",
    run=_explores,
    of_source=True,
    of_rewards=True,
    explains="reward.never-seen",
)
TRUNCATED_TERMINAL = Check(
    codes=("reward.truncated-terminal", "reward.terminal-lost"),
    question="Are truncated episodes distinguished from terminated ones?",
    threshold="transitions are stored with `terminated`, not with `terminated or truncated`, and each has its own name",
    run=_truncated,
    of_source=True,
    of_rewards=True,
)
