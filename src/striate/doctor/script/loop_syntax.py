"""The syntax of loops, and the values of expressions with the user's variables."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from typing import Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

from striate.doctor.setup.syntax import called, nodes_in
from striate.observe.tensors import tensors_in

_COUNTING = ("range", "count", "trange")
_HARMLESS = frozenset((
    "range", "len", "int", "max", "min", "list", "tuple", "sorted", "reversed", "ceil", "floor", "round", "abs",
    "numel", "size",
))  # fmt: skip
"""Functions that may be called once more."""
_WRAPPERS = ("enumerate", "tqdm", "track", "islice", "iter", "cycle", "reversed", "list")


def syntax_of(file: str) -> ast.Module:
    """The syntax of a user's file. Raises SyntaxError, OSError or ValueError."""
    return ast.parse("".join(linecache.getlines(file)))


def counts(node: ast.expr) -> bool:
    """Whether a loop over it only counts, as over a `range`."""
    inner, _ = unwrapped(node)
    return called(inner) in _COUNTING


def unwrapped(node: ast.expr) -> tuple[ast.expr, bool]:
    """The iterable of a loop without `enumerate`, progress bars and other wrappers, and whether it is enumerated."""
    numbered = False
    while isinstance(node, ast.Call) and node.args and called(node) in _WRAPPERS:
        numbered |= called(node) == "enumerate"
        node = node.args[0]
    if isinstance(node, ast.Call) and called(node) == "log_every":  # of torchvision's references
        node = node.args[0]
    return node, numbered


def value_of(node: ast.expr, names: dict[str, Any]) -> Any:
    """The value of an expression with these variables; None where it raises an error, or would make a training step."""
    hook = register_optimizer_step_pre_hook(_refuse)
    try:
        return eval(compile(ast.Expression(node), "<striate>", "eval"), dict(names))
    except Exception:  # the user's expression
        return None
    finally:
        hook.remove()


def _refuse(*_: Any) -> None:
    raise RuntimeError("an expression that is only read must not train")


def harmless_value(node: ast.expr, names: dict[str, Any]) -> Any:
    """The value of an expression such as `range(epochs)`; None where a function of the user's would run."""
    calls = (called(part) for part in nodes_in(node, ast.Call))
    return value_of(node, names) if all(name in _HARMLESS for name in calls) else None


def passes_of(loop: ast.For | ast.While, names: dict[str, Any]) -> int | None:
    """The number of passes of a loop: the length of its `range`, or until a counter that it increases by 1 reaches the
    limit in `while step < 1000` or `if step >= 1000: break`; None where unknown."""
    if isinstance(loop, ast.For):
        counted = harmless_value(loop.iter, names)
        return len(counted) if isinstance(counted, range) else None
    raised = {
        ast.unparse(part.target)
        for part in loop.body
        if isinstance(part, ast.AugAssign) and isinstance(part.op, ast.Add) and ast.unparse(part.value) == "1"
    }
    ends = [
        part for part in loop.body if isinstance(part, ast.If) and isinstance(part.body[-1], ast.Break | ast.Return)
    ]
    found = []
    for test, kinds in ((loop.test, (ast.Lt, ast.LtE)), *((part.test, (ast.GtE, ast.Gt, ast.Eq)) for part in ends)):
        if not isinstance(test, ast.Compare) or len(test.ops) > 1 or not isinstance(test.ops[0], kinds):
            continue
        end = test.comparators[0]
        if ast.unparse(test.left) in raised and not any(isinstance(part, ast.Call) for part in ast.walk(end)):
            begun, last = value_of(test.left, names), value_of(end, names)
            if type(begun) is int and type(last) is int:
                found.append(last - begun + isinstance(test.ops[0], ast.LtE | ast.Gt))
    return min(found) if found and min(found) > 0 else None


def are_batches(value: Any) -> bool:
    """Whether it is an iterable of batches that can be iterated over again, not of optimizers or parameters."""
    if not hasattr(value, "__iter__") or hasattr(value, "__next__") or isinstance(value, str | dict):
        return False
    if not isinstance(value, list | tuple):
        return True
    tensors = list(tensors_in(value[0])) if value else []
    return bool(tensors) and not any(tensor.requires_grad for tensor in tensors)


def number_for(target: ast.expr) -> ast.expr:
    """The number of the pass in place of each target of a loop, as for `batch, i`."""
    if isinstance(target, ast.Tuple | ast.List):
        return ast.Tuple([number_for(part) for part in target.elts], ast.Load())
    return name_of("__number__")


def name_of(text: str) -> ast.Name:
    return ast.Name(text, ast.Load())


def tuple_with_number() -> ast.Tuple:
    return ast.Tuple([name_of("__number__"), name_of("__batch__")], ast.Load())


def walk(statement: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement, except those in functions and comprehensions."""
    yield statement
    for child in ast.iter_child_nodes(statement):
        if not isinstance(
            child, ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        ):
            yield from walk(child)
