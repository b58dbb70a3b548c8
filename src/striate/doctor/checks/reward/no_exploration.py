"""`reward.no-exploration`: are some actions random, and fewer as training goes on?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.schedule.rate_functions import numbers_of_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reward_code import environment_steps, origins
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, last_name, receiver_of
from striate.records import Finding
from striate.tasks.control.doctor import CONSTANT, explores_always, explores_never

_DRAWS = ("random", "rand", "uniform", "random_sample")
_CHANCE = (*_DRAWS, "sample", "multinomial", "randint", "choice", "choices", "integers", "randn", "normal", "rsample",
           "randrange", "poisson", "bernoulli", "gumbel", "exponential_", "uniform_", "normal_", "rand_like",
           "randn_like")  # fmt: skip
_BUFFER = re.compile(r"buffer|memory|replay|^rb$|dataset|loader", re.IGNORECASE)


def played_steps(evidence: Evidence) -> tuple[ScriptSource, list[ast.Call]]:
    """The script, and its calls of environments' `step`. Raises NoEvidence where there are none."""
    source = evidence.source
    steps = environment_steps(source)
    if not steps:
        raise NoEvidence("no environment is played")
    return source, steps


def _explores(evidence: Evidence) -> Iterator[Finding]:
    source, steps = played_steps(evidence)
    for node in source.nodes(ast.Compare):
        if len(node.comparators) != 1:
            continue
        sides = (node.left, node.comparators[0])
        limit = next((b for a, b in (sides, sides[::-1]) if called(a) in _DRAWS), None)
        if limit is None or _before_training(source, node):
            continue
        value = _constant(source, limit)
        where = source.where(node)
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
    greedy = all(step.args and _greedy(source, step) for step in steps)
    if greedy and not any(map(_acts_randomly, source.trees.values())):
        yield explores_never(
            source.where(steps[0]), f"`{ast.unparse(steps[0])}` always gets the best action known (argmax)"
        )


def _scheduled(source: ScriptSource, node: ast.AST, limit: ast.expr, where: str) -> Iterator[Finding]:
    """A share of random actions that a function of the step computes, `epsilon = schedule(1, 0.05, step)`, but that is
    the same in every step."""
    name = last_name(limit)
    known = [value for part in source.nodes() for value in _assigned_values(part, name)] if name else [limit]
    shares = set(numbers_of_steps(source, node, limit, sampled=True)) if len(known) == 1 else set[float]()
    if len(shares) == 1 and (share := shares.pop()) >= CONSTANT:
        text = ast.unparse(known[0])
        yield explores_always(
            where, f"`{text}` is {share:g} in every step of the loop: the share of random actions stays the same"
        )


def _before_training(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a function acts that is called once, outside of the training loop: it records the data from which the
    training learns."""
    function, (file, first, last) = source.function_of(node), source.loop
    if not isinstance(function, ast.FunctionDef):
        return False
    if function.lineno <= first and last <= (function.end_lineno or 0) and source.file_of(function) == file:
        return False
    sites = source.calls_of(function)
    return bool(sites) and all(
        site.often == "once" or (site.often == "epoch" and _before_training(source, site.node)) for site in sites
    )


def _constant(source: ScriptSource, limit: ast.expr) -> float | None:
    """The value of a share of random actions that no line changes; None where a line changes it, or it is unknown."""
    value = source.value(limit)
    if not isinstance(value, int | float):
        return None
    if isinstance(limit, ast.Constant):
        return float(value)
    name = limit.attr if isinstance(limit, ast.Attribute) else getattr(limit, "id", "")
    values = [v for node in source.nodes() for v in _assigned_values(node, name)]
    function = source.function_of(limit)
    if function is not None:  # `choose(net, obs, epsilon_at(step))`
        pairs = (pair for site in source.calls_of(function) for pair in source.arguments(function, site.node))
        values += [value for parameter, value in pairs if parameter == name]
    constants = {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, int | float)}
    if any(not isinstance(v, ast.Constant | ast.Attribute) for v in values) or len(constants) > 1:
        return None
    return float(constants.pop() if constants else value)


def _assigned_values(node: ast.AST, name: str) -> Iterator[ast.expr]:
    """The value that a statement assigns to a variable or an attribute of this name. That of `x += 1` is wrapped, so
    that it does not count as a constant."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    named = any(getattr(part, "attr", getattr(part, "id", "")) == name for part in targets)
    if named and isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
        yield ast.UnaryOp(ast.UAdd(), node.value) if isinstance(node, ast.AugAssign) else node.value


def _greedy(source: ScriptSource, call: ast.Call) -> bool:
    """Whether the action of a step is an argmax, in the code around the call or in functions that it uses."""
    parts = list(origins(source.scope_of(call), call.args[0]))
    names = {called(part) for part in parts}
    for node in source.nodes(ast.FunctionDef):
        if node.name in names:
            parts += list(ast.walk(node))
    return any(called(part) == "argmax" for part in parts)


def _acts_randomly(node: ast.AST) -> bool:
    """Whether code draws random numbers, except for the class of a replay buffer, and methods of an environment other
    than `step`."""
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        if _BUFFER.search(node.name):
            return False
        if {"reset", "step"} <= {part.name for part in methods}:
            return any(_acts_randomly(part) for part in methods if part.name == "step")
    return _draws(node) or any(map(_acts_randomly, ast.iter_child_nodes(node)))


def _draws(node: ast.AST) -> bool:
    """Whether a node is a call that draws random numbers, other than samples of a replay buffer."""
    if called(node) not in _CHANCE or not isinstance(node, ast.Call):
        return False
    receiver = receiver_of(node)
    text = "" if receiver is None else ast.unparse(receiver)
    of_list = text in ("random", "np.random", "numpy.random") and called(node) == "sample"
    return not of_list and not _BUFFER.search(text.rpartition(".")[2] or text)


NO_EXPLORATION = Check(
    codes=("reward.no-exploration",),
    run=_explores,
    of_source=True,
    of_rewards=True,
    explains="reward.never-seen",
)
