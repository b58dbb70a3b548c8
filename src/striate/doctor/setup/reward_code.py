"""Where the user's code steps an environment, and learns values by bootstrapping."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from striate.doctor.setup.reached_objects import parameters_held, written_by_user
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import (
    assigned,
    called,
    definition_of,
    is_constant,
    is_operation,
    last_name,
    nodes_in,
    receiver_of,
)

_FOLLOWING = re.compile(r"next|after|following|prime|^(ns|sp|s_|s_?2|s_?1|new_(s|obs|states?))$", re.IGNORECASE)
_DISCOUNT = re.compile(r"gamma|discount", re.IGNORECASE)
_REWARD = re.compile(r"^rew")
_LIMIT = re.compile(r"limit|max|horizon|trunc|timeout|time_?out|age|elapsed|steps?\b|^t\b|\.t\b", re.IGNORECASE)
_MASKS = re.compile(r"done|termin|final|mask|alive|not_end|nonterm|over\b", re.IGNORECASE)
_ENDS = re.compile(r"^(?!.*(no|un|1m|minus|mask|inv)).*(done|termina|finished)|^d$", re.IGNORECASE)
_KEEPING = ("float", "double", "int", "to", "type", "view", "reshape", "squeeze", "unsqueeze")
_MOSTLY = 0.5


@dataclass(frozen=True)
class Bootstrap:
    """A product `discount * value`, in which a network computes the value of the next state."""

    node: ast.BinOp
    """The product."""
    discount: ast.expr
    parts: tuple[ast.AST, ...]
    """All nodes of its statement, and of the assignments in its function that the statement's names come from."""

    @property
    def masked(self) -> bool:
        """Whether something in it masks the end of an episode: `1 - done`, a mask, a comparison with None."""
        for part in self.parts:
            if isinstance(part, ast.Name) and (_MASKS.search(part.id) or part.id in ("d", "end", "ends")):
                return True
            if isinstance(part, ast.Attribute) and _MASKS.search(part.attr):
                return True
            if is_operation(part, ast.Sub) and is_constant(part.left, 1):
                return True
            if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Invert | ast.Not):
                return True
            if called(part) in ("where", "masked_fill", "masked_fill_", "logical_not"):
                return True
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and _MASKS.search(part.value):
                return True
        return False


def is_environment(value: Any) -> bool:
    """Whether an object is an environment of gymnasium, or one of the user's with the same `step`: it takes an action
    and returns an observation, a reward and an end. Without a `reset` method, `step` must name the reward."""
    spaces = ("action_space", "single_action_space")
    if isinstance(value, type | nn.Module) or not callable(getattr(value, "step", None)):
        return False
    if not hasattr(value, "reset"):
        return _steps_like_one(value.step, _REWARD)
    return any(hasattr(value, s) for s in spaces) or _steps_like_one(value.step)


def _steps_like_one(step: Any, returned: re.Pattern[str] = re.compile("")) -> bool:
    """Whether a user's method takes one argument, and returns a tuple of three to five values, one with such a name."""
    code = getattr(step, "__code__", None)
    if code is None or not written_by_user(step.__module__) or code.co_argcount != 2:
        return False
    tree = definition_of(step)
    for node in () if tree is None else ast.walk(tree):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            named = any(returned.search(last_name(part)) for part in ast.walk(node.value))
            return 3 <= len(node.value.elts) <= 5 and named
    return False


def environment_steps(source: ScriptSource) -> list[ast.Call]:
    """All calls `env.step(action)` of environments."""
    return [site.node for site in source.calls("step") if is_environment(source.value(receiver_of(site.node)))]


def bootstraps(source: ScriptSource) -> Iterator[Bootstrap]:
    """Products of a discount and a network's output."""
    for node in source.nodes():
        if not is_operation(node, ast.Mult):
            continue
        discount = next((side for side in _factors(node) if _DISCOUNT.search(last_name(side))), None)
        inner = any(is_operation(around, ast.Mult) for around in _up(source, node))
        if discount is None or inner:
            continue
        scope, statement = source.scope_of(node), _statement(source, node)
        parts = tuple(origins(scope, statement))
        if any(_is_network_call(source, part) for part in parts):
            yield Bootstrap(node, discount, parts)


def learns_values(source: ScriptSource) -> bool:
    """Whether a network is trained on discounted values that a network predicts for the next states, also without an
    environment object. False where the training loop reads stored batches from a DataLoader."""
    loop = source.training_loop
    from_loader = isinstance(loop, ast.For) and isinstance(source.value(loop.iter), DataLoader)
    return not from_loader and any(
        isinstance(part, ast.Call) and _is_network_call(source, part) and any(map(_follows, part.args))
        for bootstrap in bootstraps(source)
        for part in bootstrap.parts
    )


def _follows(given: ast.expr) -> bool:
    return _FOLLOWING.search(name_or_key(given)) is not None


def only_at_ends(source: ScriptSource, found: Bootstrap) -> bool:
    """Whether a bootstrap is multiplied by the end of the episode itself, `done` in place of `1 - done`. Names decide;
    the value at the first step, if known, must be mostly 0. False where its file negates ends anywhere, other than as
    a condition."""
    for factor in _factors(found.node):
        while isinstance(factor, ast.Call) and called(factor) in _KEEPING:
            factor = receiver_of(factor) or factor.args[0]
        if isinstance(factor, ast.Subscript) and not name_or_key(factor):
            factor = factor.value
        if _ENDS.search(name_or_key(factor)) and not _negates_ends(source.trees[source.file_of(found.node)]):
            value = source.value(factor)
            return value is None or float(torch.as_tensor(value).double().mean()) < _MOSTLY
    return False


def _negates_ends(tree: ast.AST) -> bool:
    """Whether code has `1 - done`, `not done`, `~done`, `done == 0` or such a call, other than as a condition."""
    conditions = {id(node.test) for node in ast.walk(tree) if isinstance(node, ast.If | ast.While)}
    for node in ast.walk(tree):
        one_less = is_operation(node, ast.Sub) and isinstance(node.left, ast.Constant)
        negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert)
        other = isinstance(node, ast.Compare) or called(node) in ("logical_not", "rsub", "where", "bitwise_not")
        named = (one_less or negated or other) and any(_ENDS.search(name_or_key(part)) for part in ast.walk(node))
        if named and id(node) not in conditions:
            return True
    return False


def recorded_bootstraps(source: ScriptSource) -> Iterator[Bootstrap]:
    """Products of a number and a record, known by its name, of the value that a network predicted for the next
    observation of an environment's step. Their `parts` include those of the record."""
    records = dict(_recorded_values(source))
    for node in source.nodes() if records else ():
        if not is_operation(node, ast.Mult):
            continue
        for discount, value in ((node.left, node.right), (node.right, node.left)):
            names = {_stem(name) for name in _recorded_names(source, value)} & records.keys()
            outer = source.parent(node)
            within = is_operation(outer, ast.Mult)
            if isinstance(source.value(discount), float) and names and not within:
                parts = [*origins(source.scope_of(node), _statement(source, node)), *records[names.pop()]]
                yield Bootstrap(node, discount, tuple(parts))


def _recorded_names(source: ScriptSource, node: ast.expr) -> Iterator[str]:
    """The names of a record: its variable, attribute or key, and those of the arguments that calls pass for it."""
    while isinstance(node, ast.Subscript) and not name_or_key(node):
        node = node.value
    function = source.function_of(node)
    yield name_or_key(node)
    if function is None or not isinstance(node, ast.Name):
        return
    if given := source.last_value(node, node.id):
        yield from _recorded_names(source, given)
    for site in source.calls_of(function):
        yield from (name_or_key(given) for name, given in source.arguments(function, site.node) if name == node.id)


def name_or_key(node: ast.AST) -> str:
    """The name of a variable or an attribute, or a string key in a subscript; else empty."""
    key = node.slice if isinstance(node, ast.Subscript) else None
    return str(key.value) if isinstance(key, ast.Constant) and isinstance(key.value, str) else last_name(node)


def _stem(name: str) -> str:
    return name.lower().strip("_").removesuffix("s")


def _recorded_values(source: ScriptSource) -> Iterator[tuple[str, list[ast.AST]]]:
    """Names that record the value of the next observation at each step of an environment whose episodes may end by
    themselves, each with all nodes that are assigned to it."""
    for call in environment_steps(source):
        led = next(source.enclosing(call, ast.Assign), None)
        loop, target = next(iter(source.loops_of(call)), None), None if led is None else led.targets[0]
        if loop is None or not isinstance(target, ast.Tuple) or not _may_end(source, call, target.elts[2:3]):
            continue
        after = [node for node in ast.walk(loop) if getattr(node, "lineno", 0) > call.lineno]
        for node in after:
            of = node.args[0] if isinstance(node, ast.Call) and node.args and _is_network_call(source, node) else None
            if of is None or last_name(target.elts[0]) not in {last_name(part) for part in ast.walk(of)}:
                continue
            for around in source.enclosing(node):
                places = around.targets if isinstance(around, ast.Assign) else []
                if called(around) == "append" and isinstance(around, ast.Call):
                    places = [part for part in (receiver_of(around),) if part is not None]
                for name in filter(None, (_stem(name_or_key(place)) for place in places)):
                    yield name, list(_assigned_to(source, name))
                if isinstance(around, ast.stmt):
                    break


def _assigned_to(source: ScriptSource, name: str) -> Iterator[ast.AST]:
    """All nodes that are assigned to a name, and `mask` where a constant or a condition among them may mask ends."""
    for node in source.nodes():
        pairs = [(node.func, node)] if isinstance(node, ast.Call) else list(assigned(node))
        for target, value in pairs:
            if name in {_stem(name_or_key(part)) for part in ast.walk(target)}:
                yield from (*ast.walk(target), *ast.walk(value))
                inside = (*source.enclosing(node), *ast.walk(value))
                if isinstance(value, ast.Constant) or any(isinstance(part, ast.If | ast.IfExp) for part in inside):
                    yield ast.Name("mask")


def _may_end(source: ScriptSource, call: ast.Call, ends: list[ast.expr]) -> bool:
    """Whether the third value that a step returns is used, and means more than that a step limit is reached, as far as
    the environment's code is available."""
    name = "" if not ends else last_name(ends[0])
    if not name.strip("_") or name.startswith("_") or _LIMIT.search(name):
        return False
    for function in source.functions_of(call):
        for node in nodes_in(function, ast.Return):
            if isinstance(node.value, ast.Tuple):
                parts = list(origins(function, node.value.elts[2]))
                tests = [part for part in parts if isinstance(part, ast.Compare)]
                return any(not _LIMIT.search(ast.unparse(test)) for test in tests) or not (tests or _constant(parts))
    return True


def _constant(parts: list[ast.AST]) -> bool:
    return any(isinstance(part, ast.Constant) and part.value is False for part in parts)


def _up(source: ScriptSource, node: ast.AST) -> Iterator[ast.AST]:
    for around in source.enclosing(node):
        if not isinstance(around, ast.expr):
            return
        yield around


def _statement(source: ScriptSource, node: ast.AST) -> ast.AST:
    return next(source.enclosing(node, ast.stmt))


def _factors(node: ast.expr) -> Iterator[ast.expr]:
    if is_operation(node, ast.Mult, ast.Pow):
        yield from _factors(node.left)
        yield from _factors(node.right)
    else:
        yield node


def _is_network_call(source: ScriptSource, node: ast.AST) -> bool:
    return network_called(source, node) is not None or source.runs_network(node)


def network_called(source: ScriptSource, node: ast.AST) -> ast.expr | None:
    """The function of a call, where its value is a network or a method of a user's network, or its name is that of a
    target network; else None."""
    if not isinstance(node, ast.Call):
        return None
    function = node.func
    value = source.value(function)
    if isinstance(owner := getattr(value, "__self__", None), nn.Module) and written_by_user(type(owner).__module__):
        value = owner
    if isinstance(value, nn.Module):
        return function if any(True for _ in value.parameters()) else None
    return function if value is None and re.search(r"targ|q_?net|critic", last_name(function), re.IGNORECASE) else None


def origins(scope: ast.AST, node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a statement or an expression, and of the assignments in its function that its names come from."""
    given: dict[str, list[ast.AST]] = {}
    for statement in own_nodes(scope):
        for target, value in assigned(statement):
            for place in target.elts if isinstance(target, ast.Tuple) else [target]:
                inside = place.value if isinstance(place, ast.Subscript) else None  # without the index
                for name in nodes_in(inside or place, ast.Name):
                    given.setdefault(name.id, []).extend((value, place) if inside else (value,))
    awaiting, seen, names = [node], set[int](), set[str]()
    while awaiting:
        current = awaiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for part in ast.walk(current):
            yield part
            if isinstance(part, ast.Name) and part.id not in names:
                names.add(part.id)
                awaiting += given.get(part.id, [])


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function, or the nodes of a module that are in no function."""
    awaiting = [scope]
    while awaiting:
        node = awaiting.pop(0)
        yield node
        inner = ast.iter_child_nodes(node)
        awaiting += (part for part in inner if not (isinstance(scope, ast.Module) and isinstance(part, Function)))


def optimized(source: ScriptSource) -> set[int]:
    """The ids of all parameters of the script's optimizers."""
    held = [*source.names.values()]
    held += [part for value in source.names.values() if hasattr(value, "__dict__") for part in vars(value).values()]
    return parameters_held(*(value for value in held if isinstance(value, Optimizer)))
