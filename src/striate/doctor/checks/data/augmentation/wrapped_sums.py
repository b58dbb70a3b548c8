"""Sums, differences and products of bytes, whose results are bytes and wrap around."""

from __future__ import annotations

import ast
import linecache
import operator
import types
from collections import defaultdict
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.syntax import called, nodes_in

_OPERATIONS: dict[type[ast.operator], Any] = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
_PLAIN = (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.Slice, ast.Call)
_AGAIN = frozenset((
    "astype", "to", "byte", "uint8", "array", "asarray", "from_numpy", "tensor", "int", "round", "randint", "integers",
))  # fmt: skip
"""Functions that may be called a second time: they change nothing but the random state."""
_CHOSEN = frozenset(("where", "view", "select"))
"""Functions that may select only values that did not wrap around, such as `np.where(a > b, a - b, b - a)`."""
_FEWEST, _MOST = 64, 5_000_000


class Sums:
    """Records the exact results of sums in the user's code that are computed in bytes, by file and line. `trace` is a
    function for `sys.settrace`; `loop` is the file of the code that was compiled as `<striate>`."""

    def __init__(self, loop: str) -> None:
        self.noted = defaultdict[tuple[str, int, str], list[torch.Tensor]](list)
        self._loop = loop
        self._lines = dict[str, dict[int, list[ast.BinOp]]]()

    def trace(self, frame: types.FrameType, event: str, _: Any) -> Any:
        """Compute the exact results of a line's sums before it runs."""
        file = frame.f_code.co_filename
        file = self._loop if file == "<striate>" else file
        if file not in self._lines:
            self._lines[file] = _sums_of(file) if written_by_user(frame.f_globals.get("__name__")) else {}
        if not self._lines[file]:
            return None
        for node in self._lines[file].get(frame.f_lineno, ()) if event == "line" else ():
            with suppress(Exception):  # a variable of the line may not exist yet
                exact = _in_whole_numbers(_value(node.left, frame), _value(node.right, frame), type(node.op))
                if exact is not None:
                    self.noted[file, frame.f_lineno, ast.unparse(node)].append(exact)
        return self.trace


def _sums_of(file: str) -> dict[int, list[ast.BinOp]]:
    """The sums of a file that can be computed a second time, by line."""
    found = defaultdict[int, list[ast.BinOp]](list)
    awaiting = list[ast.AST]()
    with suppress(SyntaxError):
        awaiting.append(ast.parse("".join(linecache.getlines(file))))
    while awaiting:
        node = awaiting.pop()
        if isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and called(node) in _CHOSEN):
            continue
        awaiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.AugAssign):
            before = ast.parse(ast.unparse(node.target), mode="eval").body
            node = ast.copy_location(ast.BinOp(before, node.op, node.value), node)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            parts = list(nodes_in(node, ast.expr))
            calls = {called(part) for part in parts if isinstance(part, ast.Call)}
            if all(isinstance(part, _PLAIN) for part in parts) and calls <= _AGAIN:
                found[node.lineno].append(node)
    return found


def _value(node: ast.expr, frame: types.FrameType) -> Any:
    return eval(compile(ast.Expression(node), "<striate>", "eval"), frame.f_globals, frame.f_locals)


def _in_whole_numbers(left: Any, right: Any, kind: type[ast.operator]) -> torch.Tensor | None:
    """The exact result of a sum with an image, as int64; None if it is not computed in bytes."""
    sizes = [np.prod(one.shape) for one in (left, right) if isinstance(one, np.ndarray | torch.Tensor) and one.ndim > 1]
    if not sizes or not _FEWEST <= max(sizes) <= _MOST:
        return None
    given = _OPERATIONS[kind](left, right)
    if given.dtype not in (np.uint8, torch.uint8):
        return None
    wide = (torch.as_tensor(np.asarray(one)).long() for one in (left, right))
    exact: torch.Tensor = _OPERATIONS[kind](*wide)
    return exact.flatten()
