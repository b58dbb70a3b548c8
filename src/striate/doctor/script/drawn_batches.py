"""Batches that a script draws without a loader: the statements that draw them, and how to draw further ones."""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from striate.doctor.script.iterated_loop import are_indices, count_index_batches, values_of
from striate.doctor.script.loop_syntax import name_of, syntax_of, value_of, walk
from striate.doctor.script.network_calls import (
    TAKEN,
    computes,
    evaluation_nodes,
    held_value,
    is_batch,
    is_plain_tensor,
    is_rows,
    is_taken,
    of_network,
    only_evaluates,
    place_of_call,
    trains,
    uses_weights,
)
from striate.doctor.setup.reached_objects import global_names, written_by_user
from striate.doctor.setup.syntax import names_in, nodes_in, stored_in, variable_of
from striate.observe.tensors import tensors_in

DRAWN = 40
_FEW = 16
"""Fewest rows of a tensor that may be a data set."""
_PASSED_OVER = 100
"""Most consecutive batches that a loop may skip."""
_DONE = "__striate_done__"


class DrawnBatches:
    """Batches that a script draws with its own code."""

    repeats_samples = True
    """A sample may come several times in an epoch."""

    def __init__(
        self, draw: Callable[[], Any], drawn_once: str = "", passes: int | None = None, count: int = DRAWN
    ) -> None:
        self.draw = draw
        self.count = count
        """Batches of an epoch."""
        self.passes = passes
        """How many batches the loop draws; None where unknown."""
        self.as_written: Callable[..., Any] | None = None
        """The step as in the script, where it draws a batch for each of several parts whose gradients it accumulates;
        other steps use one batch for all parts. None where there are no such parts."""
        self.by_chance = False
        """Whether the script's function that draws makes random numbers."""
        self.alike = 0
        """Number of batches of a pass, where all have the same samples, and those of the next pass have others; else
        0."""
        self.sampler: Any = None
        """The iterable of the loop, where it yields the sample indices of each batch."""
        self.drawn_once = drawn_once
        """The statement before the loop that drew the only batch, and would draw another each time; else empty."""

    def __iter__(self) -> Iterator[Any]:
        return (self.draw() for _ in range(self.count))


class NoBatchDrawn(Exception):
    """A loop skipped all batches that it drew."""


FoundDraw = tuple[int, list[str], Callable[[], tuple[torch.Tensor, ...]], ast.For | ast.While]


def find_drawn_batches(
    loop: ast.For | ast.While, names: dict[str, Any], running: frozenset[str] = frozenset()
) -> FoundDraw | None:
    """The batches that a loop draws, as with `xb, yb = get_batch("train")` or `x, y = X[i : i + 32], Y[i : i + 32]`:
    the position in the body of the network's first call; the names of the batch's tensors, which earlier statements
    draw; a function that draws the next batch; and the loop, in which rows that are taken from tensors in the network's
    call have names. `running`: the user's running functions, inside the loop, which call the network:
    `self.train_step(X[index], y[index])`."""
    taken = _taken_before(loop, names, running)
    return (
        (None if taken is None else _drawn_first(taken, names, running))
        or _drawn_first(loop, names, running)
        or _drawn_later(loop, names)
    )


def _drawn_first(loop: ast.For | ast.While, names: dict[str, Any], running: frozenset[str]) -> FoundDraw | None:
    place = place_of_call(loop, names, running)
    if place is None:  # without a module, the first use of weights
        uses = (n for n, statement in enumerate(loop.body) if uses_weights(statement, names))
        place = next(uses, 0)
    before, rest = loop.body[:place], loop.body[place:]
    if any(trains(node) for node in nodes_in(before)):
        return None
    used = {name for statement in rest for name in names_in(statement)}
    stored = (node for statement in before for node in walk(statement) if isinstance(node, ast.Name))
    made = dict.fromkeys(node.id for node in stored if isinstance(node.ctx, ast.Store) and node.id in used)
    try:
        world = next(_run(loop, _needed_for(list(made), before), names))
    except Exception:  # the user's statements may need variables that do not exist yet
        return None
    numbers = _sample_indices(loop)  # these are no inputs
    chosen = [name for name in made if is_plain_tensor(world.get(name)) and name not in numbers]
    whole = not chosen
    if whole:  # a function draws a tuple or a dictionary of all tensors
        chosen = [name for name in made if is_batch(world.get(name))][:1]
    if not chosen:
        return None
    needed = copy.deepcopy(_needed_for(chosen, before))  # the statements of the step are changed
    again = _run(loop, needed, names)

    def draw() -> tuple[torch.Tensor, ...]:
        nonlocal again
        drawn = next(again)
        # After the end of `order[i : i + 32]`, batches are empty.
        if not all(len(part) for name in chosen for part in tensors_in(drawn[name])):
            again = _run(loop, needed, names)
            drawn = next(again)
        return drawn[chosen[0]] if whole else tuple(drawn[name] for name in chosen)

    return place, chosen, draw, loop


def _sample_indices(loop: ast.For | ast.While) -> set[str]:
    """Variables that a loop indexes samples with, `x[index]`, and those that these are parts of."""
    nodes = list(nodes_in(loop.body))
    slices = (node.slice for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load))
    numbers = {part.id for part in slices if isinstance(part, ast.Name)}
    parted = (node.iter for node in nodes if isinstance(node, ast.For) and variable_of(node.target) in numbers)
    return numbers | {name for whole in parted for name in names_in(whole)}


def _run(loop: ast.For | ast.While, statements: list[ast.stmt], names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The variables after these statements of a loop, pass by pass, without passes that `continue` ends there. Raises
    the errors of the statements, and NoBatchDrawn."""
    world, values = dict(names), values_of(loop, names)
    target = [ast.Assign([loop.target], name_of("__value__"))] if isinstance(loop, ast.For) else []
    once = ast.For(ast.Name("_", ast.Store()), ast.Tuple([ast.Constant(None)], ast.Load()), [], [])
    once.body = [*target, *statements, *ast.parse(f"{_DONE} = True").body]
    code = compile(ast.fix_missing_locations(ast.Module([once], [])), "<striate>", "exec")
    passed = 0
    while passed < _PASSED_OVER:
        world |= {_DONE: False, "__value__": next(values)}
        exec(code, world)
        passed = 0 if world[_DONE] else passed + 1
        if world[_DONE]:
            yield world
    raise NoBatchDrawn


def _needed_for(chosen: list[str], statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements that assign the chosen names, in this pass or for the next one, or skip a batch; not those that
    measure or save something."""
    needed, positions, before = set(chosen), set[int](), -1
    while before < len(positions):
        before = len(positions)
        for number, statement in reversed(list(enumerate(statements))):
            if number not in positions and (_gives(statement, needed) or _changes(statement, needed)):
                needed |= names_in(statement)
                positions.add(number)
    return [statement for number, statement in enumerate(statements) if number in positions]


def _gives(statement: ast.stmt, needed: set[str]) -> bool:
    """Whether a statement assigns one of these names, or a part of one; or skips a batch."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name in needed
    nodes = list(walk(statement))
    parts = (node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store))
    return any(variable_of(part) in needed for part in parts) or any(isinstance(node, ast.Continue) for node in nodes)


def _changes(statement: ast.stmt, needed: set[str]) -> bool:
    """Whether a statement is a call with one of these names, `random.shuffle(order)`, or contains a statement that
    calls a method of one, `rows.append(row)`."""
    if isinstance(statement, ast.Expr):
        return any(isinstance(node, ast.Name) and node.id in needed for node in walk(statement))
    calls = (node.value for node in walk(statement) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    return any(isinstance(call.func, ast.Attribute) and variable_of(call.func) in needed for call in calls)


def _drawn_later(loop: ast.For | ast.While, names: dict[str, Any]) -> FoundDraw | None:
    """Batches that are drawn for the next pass, as `X, Y = get_batch("train")` after the network's call. In the loop
    that is returned, the step leaves the batch unchanged."""
    made = copy.deepcopy(loop)
    for node in ast.walk(made):
        target = node.targets[0] if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Tuple):
            continue
        kept = [number for number, part in enumerate(target.elts) if ast.unparse(part) != "_"]
        chosen = [part.id for part in (target.elts[number] for number in kept) if isinstance(part, ast.Name)]
        if len(chosen) != len(kept) or not all(is_plain_tensor(names.get(name)) for name in chosen):
            continue
        call = node.value

        def draw(call: ast.expr = call, kept: Sequence[int] = kept) -> tuple[torch.Tensor, ...]:
            drawn = value_of(call, names)
            return tuple(drawn[number] for number in kept)

        drawn = value_of(call, names)
        if kept and isinstance(drawn, tuple) and all(map(is_plain_tensor, drawn)):
            target.elts = [target.elts[number] for number in kept]
            node.value = ast.Tuple([name_of(name) for name in chosen], ast.Load())
            return 0, chosen, draw, ast.fix_missing_locations(made)
    return None


_CHANCE = {"rand", "randn", "randint", "randperm", "permutation", "choice", "choices", "sample", "integers", "random",
           "uniform", "normal", "multinomial"}  # fmt: skip


def by_chance(loop: ast.For | ast.While, chosen: list[str], names: dict[str, Any]) -> bool:
    """Whether the script's function that returns the tensors of these names makes random numbers."""
    for node in nodes_in(loop.body):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        target = node.targets[0]
        stored = [ast.unparse(part) for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
        function = value_of(node.value.func, names)
        if stored[:1] == chosen[:1] and isinstance(function, types.FunctionType):
            return bool(global_names(function.__code__) & _CHANCE)
    return False


def draws_in_parts(loop: ast.For | ast.While, chosen: list[str]) -> bool:
    """Whether a loop in the body draws these tensors again, as for each of several backward passes of a step."""
    inner = list(nodes_in(loop.body, ast.For))
    named = {name for part in inner for name in names_in(part)}
    if chosen[0].startswith(TAKEN):  # drawn in the network's call
        return chosen[0] in named
    stored = nodes_in(inner, ast.Assign)
    given = (target for node in stored for target in node.targets if isinstance(target, ast.Tuple))
    return any([ast.unparse(part) for part in target.elts] == chosen for target in given)


def drawn_once(file: str, chosen: list[str], names: dict[str, Any]) -> str:
    """The user's statement that drew the tensors of these names, and would draw others when repeated; empty where there
    is none."""
    for node in ast.walk(syntax_of(file)):
        target = node.targets[0] if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Tuple):
            continue
        made = [part.id for part in target.elts if isinstance(part, ast.Name)]
        function = value_of(node.value.func, names) if isinstance(node.value, ast.Call) else None
        if made[:1] != chosen[:1] or not written_by_user(getattr(function, "__module__", None)):
            continue
        if _makes_data(node.value, names):
            continue
        first = _first_of(value_of(node.value, names))
        if first is None or first.shape != names[chosen[0]].shape or torch.equal(first, names[chosen[0]]):
            continue
        second = _first_of(value_of(node.value, names))  # the first result may have been scaled since
        if second is not None and not torch.equal(first, second):
            return ast.unparse(node)
    return ""


def _first_of(given: Any) -> torch.Tensor | None:
    return given[0] if isinstance(given, tuple) and given and isinstance(given[0], torch.Tensor) else None


def _makes_data(call: ast.expr, names: dict[str, Any]) -> bool:
    """Whether a call has a generator but no data to draw from as an argument: it generates the data."""
    given = [value_of(node, names) for node in nodes_in(call, ast.Name)]
    held = any(isinstance(value, torch.Tensor | np.ndarray | list | tuple | dict | Dataset) for value in given)
    return not held and any(isinstance(value, torch.Generator | np.random.Generator) for value in given)


def fixed_batch(
    loop: ast.For | ast.While, names: dict[str, Any]
) -> tuple[list[str], Callable[[], tuple[torch.Tensor, ...]]] | None:
    """The tensors with as many rows as the network's input, where no statement of the loop draws them: all data, or the
    same batch at each step. None where there are none."""
    inside = [
        node for statement in loop.body
        for node in (ast.walk(statement) if isinstance(statement, ast.FunctionDef) else walk(statement))
    ]  # fmt: skip
    stored = {node.id for node in inside if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    asking = evaluation_nodes(loop)
    calls = (node for node in inside if isinstance(node, ast.Call) and only_evaluates(node, names))
    asking |= {id(part) for call in calls for part in ast.walk(call)}
    given = [
        part.id
        for node in inside
        if isinstance(node, ast.Call) and of_network(node.func, names) and id(node) not in asking
        for part in [*node.args, *(word.value for word in node.keywords)]
        if isinstance(part, ast.Name)
    ]
    shown = next((name for name in given if name not in stored and is_plain_tensor(names.get(name))), "")
    rows = len(names[shown]) if shown else 0
    if rows < 2:
        return None
    read = [node for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    used = [node.id for node in read if id(node) not in asking]
    chosen = [shown]
    for name in dict.fromkeys(used):
        value = names.get(name)
        if name == shown or name in stored or not isinstance(value, torch.Tensor):
            continue
        if is_plain_tensor(value) and len(value) == rows:
            chosen.append(name)

    def draw() -> tuple[torch.Tensor, ...]:
        return tuple(names[name] for name in chosen)

    return chosen, draw


def with_attributes_named(
    loop: ast.For | ast.While, names: dict[str, Any]
) -> tuple[ast.For | ast.While, dict[str, Any]]:
    """The loop with a variable in place of each of several tensors of an object, as for `data.x` and `data.y`; and the
    values of all variables."""
    held: dict[tuple[str, int], dict[str, torch.Tensor]] = {}
    stored = set[str]()
    for node in nodes_in(loop, ast.Attribute):
        if isinstance(node.value, ast.Name):
            value, text = value_of(node, names), ast.unparse(node)
            if not isinstance(node.ctx, ast.Load):
                stored.add(text)
            elif is_plain_tensor(value) and len(value) >= _FEW:
                held.setdefault((node.value.id, len(value)), {})[text] = value
    together = (parts for parts in held.values() if len(parts) > 1 and not stored & set(parts))
    naming = _Naming({text: tensor for parts in together for text, tensor in parts.items()})
    if not naming.tensors:
        return loop, names
    made = naming.visit(copy.deepcopy(loop))
    return made, names | {naming.name(text): tensor for text, tensor in naming.tensors.items()}


class _Naming(ast.NodeTransformer):
    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def name(self, text: str) -> str:
        return TAKEN + text.replace(".", "_")

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        text = ast.unparse(node)
        if text not in self.tensors:
            return self.generic_visit(node)
        return ast.copy_location(ast.Name(self.name(text), ast.Load()), node)


def _taken_before(
    loop: ast.For | ast.While, names: dict[str, Any], running: frozenset[str]
) -> ast.For | ast.While | None:
    """The loop with `model(x[index])` as `taken = x[index]` and `model(taken)`, likewise for each tensor; None where
    the network has no such arguments."""
    place = place_of_call(loop, names, running) or 0
    made_in = stored_in(loop)
    taking = _Taking(names, running, made_in)
    rest = [taking.visit(copy.deepcopy(statement)) for statement in loop.body[place:]]
    calls = list(nodes_in(rest, ast.Call))
    calls = [call for call in calls if computes(call, names, running)]
    given = any(is_taken(part) for call in calls for part in (*call.args, *(word.value for word in call.keywords)))
    if not given and not (taking.found and count_index_batches(loop, names)):
        return None
    taken = list[ast.stmt]()
    for chosen, node in taking.found.values():
        stored: list[ast.expr] = [ast.Name(name, ast.Store()) for name in chosen]
        taken.append(ast.Assign([stored[0] if len(stored) == 1 else ast.Tuple(stored, ast.Store())], node))
    made = copy.copy(loop)
    made.body = [*loop.body[:place], *_first_parts(loop.body[place:], taken), *taken, *rest]
    return ast.fix_missing_locations(made)


def _first_parts(statements: list[ast.stmt], taken: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Assignments of the first value to the targets of loops in the step, `for part in rows.split(16)`, where rows are
    indexed with these."""
    indices = {name for statement in taken for name in names_in(statement)}
    for loop in statements:
        if isinstance(loop, ast.For) and indices & {
            part.id for part in walk(loop.target) if isinstance(part, ast.Name)
        }:
            first = ast.Call(name_of("next"), [ast.Call(name_of("iter"), [loop.iter], [])], [])
            yield ast.Assign([loop.target], first)


class _Taking(ast.NodeTransformer):
    """Replaces by variables: rows `x[index]` and `y[i : i + 32]` of the user's tensors, and arguments of the network
    that a function draws, `model(*get_batch("train"))`."""

    def __init__(self, names: dict[str, Any], running: frozenset[str], stored: set[str]) -> None:
        self.names, self.running, self.stored = names, running, stored
        self.found: dict[str, tuple[list[str], ast.expr]] = {}

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        whole = held_value(node.value, self.names)
        sliced = isinstance(node.slice, ast.Name | ast.Slice) or are_indices(held_value(node.slice, self.names))
        if not sliced or not isinstance(node.ctx, ast.Load) or not is_rows(whole) or len(whole) < _FEW:
            return self.generic_visit(node)
        if not isinstance(whole, np.ndarray):
            return ast.copy_location(self._named(node, 1)[0], node)
        tensor = ast.parse(f"__import__('torch').as_tensor({ast.unparse(node)})", mode="eval").body
        (name,) = self._named(tensor, 1)  # batches are tensors
        return ast.copy_location(ast.parse(f"{ast.unparse(name)}.numpy(force=True)", mode="eval").body, node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if computes(node, self.names, self.running):
            node.args = [own for part in node.args for own in self._drawn(part)]
            for word in node.keywords:
                word.value = self._drawn(word.value)[0]
        return self.generic_visit(node)

    def _drawn(self, part: ast.expr) -> list[ast.expr]:
        call = part.value if isinstance(part, ast.Starred) else part
        if not isinstance(call, ast.Call) or not self._is_drawing(call, isinstance(part, ast.Starred)):
            return [part]
        value = value_of(call, self.names)
        if isinstance(part, ast.Starred) and isinstance(value, tuple) and all(map(is_plain_tensor, value)):
            return self._named(call, len(value))
        return self._named(call, 1) if call is part and (is_plain_tensor(value) or is_batch(value)) else [part]

    def _is_drawing(self, call: ast.Call, several: bool) -> bool:
        """Whether a call is of a user's function that draws tensors: without tensors as arguments, or, for `several`
        tensors, with tensors that stay the same while the loop runs: `model(*get_batch(train_data))`."""
        function = value_of(call.func, self.names)
        given = {node.id: value_of(node, self.names) for node in nodes_in(call, ast.Name)}
        fixed = torch.nn.Module if several else (torch.nn.Module, torch.Tensor)
        made = {name for name, value in given.items() if isinstance(value, torch.Tensor) and name in self.stored}
        own = written_by_user(getattr(function, "__module__", None))
        return own and not made and not any(isinstance(value, fixed) for value in given.values())

    def _named(self, node: ast.expr, parts: int) -> list[ast.expr]:
        count = sum(len(names) for names, _ in self.found.values())
        new = [f"{TAKEN}{count + number}" for number in range(parts)]
        return [name_of(name) for name in self.found.setdefault(ast.unparse(node), (new, node))[0]]
