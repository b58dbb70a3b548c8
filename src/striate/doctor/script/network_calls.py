"""Where the statements of a loop call the network, and with which arguments."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from striate.doctor.script.loop_syntax import value_of, walk
from striate.doctor.setup.reached_objects import global_names, written_by_user
from striate.doctor.setup.syntax import called, definition_of, names_in, nodes_in, says_no_gradient, stored_in

TAKEN = "__striate_taken_"
"""Prefix of the variables that stand for rows taken from a tensor."""


def place_of_call(loop: ast.For | ast.While, names: dict[str, Any], running: frozenset[str]) -> int | None:
    """The position of the first statement of the body that calls the network to train it, or with a batch that earlier
    statements made, as a teacher; else of the first that evaluates it on other data; None without a call."""
    made, asking = set[str](), evaluation_nodes(loop)
    evaluates: int | None = None
    for number, statement in enumerate(loop.body):
        calls = list(_network_calls(statement, names, running))
        if any(id(call) not in asking and not only_evaluates(call, names) for call in calls):
            return number
        if calls and made & names_in(statement):
            return number
        evaluates = number if calls and evaluates is None else evaluates
        stored = ((name, names.get(name)) for name in stored_in(statement))
        made |= {name for name, value in stored if is_rows(value) or is_batch(value)}
    return evaluates


def trains(node: ast.AST) -> bool:
    """Whether it calls `step` or `backward`."""
    method = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
    return method in ("step", "backward")


def evaluation_nodes(tree: ast.AST) -> set[int]:
    """The ids of the nodes in blocks without gradients, and in `if` blocks that set evaluation mode and make no
    step."""
    found = set[int]()
    for node in ast.walk(tree):
        asks = isinstance(node, ast.With) and says_no_gradient(item.context_expr for item in node.items)
        if isinstance(node, ast.If):
            inside = list(nodes_in(node.body))
            asks = any(called(part) == "eval" for part in inside) and not any(map(trains, inside))
        if asks and isinstance(node, ast.With | ast.If):
            found |= {id(part) for part in nodes_in(node.body)}
    return found


def only_evaluates(call: ast.Call, names: dict[str, Any]) -> bool:
    """Whether a call is of a user's function that computes without gradients, or in evaluation mode."""
    function = value_of(call.func, names) if isinstance(call.func, ast.Name | ast.Attribute) else None
    if not isinstance(function, types.FunctionType | types.MethodType):
        return False
    tree = definition_of(function)
    if not isinstance(tree, ast.FunctionDef) or any(map(trains, ast.walk(tree))):
        return False
    sets_mode = any(called(node) == "eval" for node in ast.walk(tree))
    asking = evaluation_nodes(tree)
    return sets_mode or says_no_gradient(tree.decorator_list) or any(id(node) in asking for node in ast.walk(tree))


def computes(call: ast.Call, names: dict[str, Any], running: frozenset[str]) -> bool:
    """Whether a call is of a network, of a function that calls it, or of a function that takes it as an argument and
    does not only evaluate: `diffusion_loss(model, *get_batch("train"))`."""
    if called(call) in running or of_network(call.func, names):
        return True
    return any(_is_network(part, names) for part in call.args) and not only_evaluates(call, names)


def _network_calls(statement: ast.stmt, names: dict[str, Any], running: frozenset[str]) -> Iterator[ast.Call]:
    """Calls in a statement: of a network, of a function that takes one as an argument, or of one that calls it."""
    for node in nodes_in(statement, ast.Call):
        given = any(_is_network(part, names) for part in (node.func, *node.args))
        rows = any(_has_rows(part, names) for part in node.args)
        if given or (rows and (called(node) in running or of_network(node.func, names))):
            yield node


def weights_alone(names: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The leaf tensors with `requires_grad` in variables or dictionaries, where no variable is a network with values;
    one on the device `meta` has none."""
    modules = (value for value in names.values() if isinstance(value, torch.nn.Module))
    if any(not parameter.is_meta for module in modules for parameter in module.parameters()):
        return {}
    return {
        f"{name}.{key}" if key else name: value
        for name, held in names.items()
        for key, value in (held.items() if isinstance(held, dict) else [("", held)])
        if _is_weight(value)
    }


def uses_weights(statement: ast.stmt, names: dict[str, Any]) -> bool:
    """Whether a statement uses tensors of `weights_alone`."""
    known = {name.partition(".")[0] for name in weights_alone(names)}
    return any(isinstance(node, ast.Name) and node.id in known for node in walk(statement))


def _has_rows(node: ast.expr, names: dict[str, Any]) -> bool:
    """Whether an argument is a batch, a tensor or a NumPy array, or rows of one."""
    if is_taken(node):
        return True
    value = held_value(node.value if isinstance(node, ast.Subscript) else node, names)
    return isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and (is_rows(value) or is_batch(value))


def held_value(node: ast.expr, names: dict[str, Any]) -> Any:
    """The value of an expression without calls; None for one with calls, which would run the user's code."""
    return None if any(isinstance(part, ast.Call) for part in ast.walk(node)) else value_of(node, names)


def is_taken(node: ast.expr) -> bool:
    """Whether it contains a variable that stands for rows taken from a tensor or an array."""
    return any(part.id.startswith(TAKEN) for part in nodes_in(node, ast.Name))


def _is_network(node: ast.expr, names: dict[str, Any]) -> bool:
    value = value_of(node, names) if isinstance(node, ast.Name | ast.Attribute) else None
    return _has_parameters(value)


def of_network(node: ast.expr, names: dict[str, Any]) -> bool:
    """Whether an expression is a network with parameters, a user's method of one or of an object that uses one,
    `trainer.loss(x, y)`, or a user's function that uses one, or weights of its own, as a global or in its closure:
    `loss_of(x, y)`."""
    value = value_of(node, names) if isinstance(node, ast.Name | ast.Attribute) else None
    known = [value]
    if isinstance(value, types.MethodType) and written_by_user(value.__func__.__module__):
        known = [value.__self__, *_used_by(value)]
    if isinstance(value, types.FunctionType) and written_by_user(value.__module__):
        closure = inspect.getclosurevars(value)
        known = [*closure.nonlocals.values(), *closure.globals.values()]
    return any(_has_parameters(one) or _is_weight(one) for one in known)


def _has_parameters(value: Any) -> bool:
    return isinstance(value, torch.nn.Module) and any(True for _ in value.parameters())


def _is_weight(value: Any) -> bool:
    """Whether it is a tensor that may be trained without a module."""
    return isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad


def _used_by(method: types.MethodType) -> list[Any]:
    """The values of the attributes that a method, and the methods of the same object that it calls, may use."""
    owner, found = method.__self__, dict[str, Any]()
    waiting: list[Any] = [method.__func__]
    while waiting:
        code = getattr(waiting.pop(), "__code__", None)
        for name in (global_names(code) if code is not None else set[str]()) - found.keys():
            found[name] = getattr(owner, "__dict__", {}).get(name)
            waiting.append(getattr(type(owner), name, None))
    return list(found.values())


def is_batch(value: Any) -> bool:
    """Whether it is a named tuple or a dictionary of tensors of the same length."""
    tensors = value if isinstance(value, tuple) and hasattr(value, "_fields") else ()
    tensors = tuple(value.values()) if isinstance(value, dict) else tensors
    return len(tensors) > 1 and all(map(is_plain_tensor, tensors)) and len({len(part) for part in tensors}) == 1


def is_rows(value: Any) -> bool:
    array = isinstance(value, np.ndarray) and value.ndim > 0 and value.dtype.kind in "biuf"
    return array or is_plain_tensor(value)


def is_plain_tensor(value: Any) -> bool:
    dense = (
        isinstance(value, torch.Tensor) and value.layout == torch.strided
    )  # sparse adjacency matrices are no samples
    return dense and value.ndim > 0 and not value.requires_grad
