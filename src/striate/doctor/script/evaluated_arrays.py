"""Validation data by their use: tensors that a script passes to its network without gradients, whatever their names."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.script.later_trainings import is_of_later_training
from striate.doctor.script.loop_syntax import syntax_of, value_of
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.setup.syntax import called, definition_of, names_in, nodes_in, says_no_gradient, stored_in

_FEWEST = 8


def evaluated_arrays(
    loop: TrainingLoop, frames: list[Any], inputs: torch.Tensor | None, targets: torch.Tensor | None
) -> DataLoader[Any] | None:
    """A loader of tensors like the training `inputs` that a running function passes to a network without gradients,
    and of the only other variable there with as many rows like `targets`. None where there is none, where several
    differ, and for tensors that training uses."""
    if inputs is None or targets is None:
        return None
    own = {t.data_ptr() for t in getattr(getattr(loop.batches, "dataset", None), "tensors", ())}
    for frame in frames:  # under other names in the functions that train on them
        read = _trained_on(syntax_of(frame.f_code.co_filename)) & frame.f_locals.keys()
        own |= {frame.f_locals[n].data_ptr() for n in read if isinstance(frame.f_locals[n], torch.Tensor)}
    for frame in frames:
        names = {**frame.f_globals, **frame.f_locals}
        tree = syntax_of(frame.f_code.co_filename)
        trained = _trained_on(tree) | {name for repeated in _training_loops(tree) for name in stored_in(repeated)}
        for given, partner in _evaluated(tree, names):
            x = value_of(given, names)
            alike = isinstance(x, torch.Tensor) and x.dtype == inputs.dtype and x.shape[1:] == inputs.shape[1:]
            if not alike or len(x) < _FEWEST or x.data_ptr() in own or names_in(given) & trained:
                continue
            if is_of_later_training(x, frames, loop.batches):
                continue
            y = _only_targets(names if partner is None else {"": value_of(partner, names)}, x, targets)
            if y is not None:
                return DataLoader(TensorDataset(x, y), batch_size=64)
    return None


def _evaluated(tree: ast.AST, names: dict[str, Any]) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """The only arguments of networks in blocks without gradients; and each two arguments in a row of functions of the
    script that predict without gradients and train nothing, `evaluate(net, x, y)`."""
    for call in (node for node in nodes_in(tree, ast.Call) if len(node.args) > 2):
        function = unwrapped(value_of(call.func, names))
        if getattr(function, "__module__", "") == "__main__" and only_evaluates(function):
            yield from pairwise(part for part in call.args if isinstance(part, ast.Name | ast.Subscript))
    for block in nodes_in(tree, ast.With):
        if not says_no_gradient(item.context_expr for item in block.items):
            continue
        for node in nodes_in(block.body):
            given = node.args[0] if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords else None
            if isinstance(given, ast.Name | ast.Subscript) and isinstance(value_of(node.func, names), nn.Module):  # type: ignore[attr-defined]
                yield given, None


def unwrapped(value: Any) -> Any:
    """A function without its decorators; `len` for other values, which may be tensors."""
    return inspect.unwrap(value if callable(value) else len)


def only_evaluates(function: Callable[..., Any]) -> bool:
    """Whether a function predicts without gradients, and trains nothing."""
    tree = definition_of(function)
    nodes = [] if tree is None else list(ast.walk(tree))
    without = (part for node in nodes for part in getattr(node, "decorator_list", []) + getattr(node, "items", []))
    without_gradients = says_no_gradient(getattr(part, "context_expr", part) for part in without)
    return without_gradients and not any(called(node) == "backward" for node in nodes)


def _trained_on(tree: ast.AST) -> set[str]:
    """Variables that loops with a backward pass use outside of blocks without gradients."""
    return {name for loop in _training_loops(tree) for line in _own_lines(loop) for name in names_in(line)}


def _training_loops(tree: ast.AST) -> list[ast.For | ast.While]:
    """Loops whose own lines have a backward pass."""
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While))
    return [loop for loop in loops if any(n.attr == "backward" for n in nodes_in(_own_lines(loop), ast.Attribute))]


def _own_lines(loop: ast.For | ast.While) -> list[ast.stmt]:
    return [line for line in loop.body if not isinstance(line, ast.With | ast.For | ast.While)]


def _only_targets(names: dict[str, Any], x: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """The variable with a target for each row of `x`, as a tensor of the type of the training targets; None where there
    are none, or several that differ."""
    found: list[torch.Tensor] = []
    for value in names.values():
        y = torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" else value
        if not isinstance(y, torch.Tensor) or y.shape != (len(x), *like.shape[1:]) or y is x:
            continue
        if y.is_floating_point() == like.is_floating_point() and not any(
            torch.equal(y.to(like.dtype), o) for o in found
        ):
            found.append(y.to(like.dtype))
    return found[0] if len(found) == 1 else None
