"""Batches that a script draws by itself: the statements that make them, and what makes them anew."""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from striate.doctor.script.iterated_loop import are_numbers, number_batches, values_of
from striate.doctor.script.loop_syntax import name_of, syntax_of, value_of, walk
from striate.doctor.script.network_calls import (
    TAKEN,
    asking_nodes,
    computes,
    held_value,
    is_batch,
    is_plain_tensor,
    is_rows,
    is_taken,
    of_network,
    place_of_call,
    trains,
    uses_weights,
)
from striate.doctor.setup.reached_objects import global_names, written_by_user
from striate.doctor.setup.syntax import variable_of
from striate.observe.tensors import tensors_in

DRAWN = 40
_FEW = 16
"""A tensor of fewer rows is no data set."""
_PASSED_OVER = 100
"""Batches in a row that a loop may pass over."""
_DONE = "__striate_done__"


class Drawn:
    """Batches that a script draws with a call of its own."""

    repeats_samples = True
    """A sample may come several times in an epoch."""

    def __init__(
        self, draw: Callable[[], Any], drawn_once: str = "", passes: int | None = None, count: int = DRAWN
    ) -> None:
        self.draw = draw
        self.count = count
        """Batches of an epoch."""
        self.passes = passes
        """How often the loop draws, where it counts."""
        self.as_written: Callable[..., Any] | None = None
        """The step where parts whose gradients are added up are drawn each by itself, not the one given batch again."""
        self.by_chance = False
        """Whether a function of the script's that draws makes random numbers."""
        self.alike = 0
        """Batches of a pass, where all are of the same samples, and those of the next pass of others."""
        self.sampler: Any = None
        """What the loop goes over, where it yields the numbers of each batch's samples."""
        self.drawn_once = drawn_once
        """The call that would give other samples each time, and stands in front of the loop."""

    def __iter__(self) -> Iterator[Any]:
        return (self.draw() for _ in range(self.count))


class NothingDrawn(Exception):
    """A loop passed over all batches that it drew."""


Drawing = tuple[int, list[str], Callable[[], tuple[torch.Tensor, ...]], ast.For | ast.While]


def drawing(loop: ast.For | ast.While, names: dict[str, Any], running: frozenset[str] = frozenset()) -> Drawing | None:
    """Where in the body the network is called first, the tensors that the statements before have made for it by name,
    what makes them anew: `xb, yb = get_batch("train")`, or `x, y = X[i : i + 32], Y[i : i + 32]`; and the loop,
    in which what is taken out of tensors only as the network is called has names. `running`: the user's functions that
    the loop is in the middle of, which call the network: `self.train_step(X[index], y[index])`."""
    taken = _taken_before(loop, names, running)
    return (
        (None if taken is None else _drawn_first(taken, names, running))
        or _drawn_first(loop, names, running)
        or _drawn_later(loop, names)
    )


def _drawn_first(loop: ast.For | ast.While, names: dict[str, Any], running: frozenset[str]) -> Drawing | None:
    place = place_of_call(loop, names, running)
    if place is None:  # of weights without a module the first use
        uses = (n for n, statement in enumerate(loop.body) if uses_weights(statement, names))
        place = next(uses, 0)
    before, rest = loop.body[:place], loop.body[place:]
    if any(trains(node) for statement in before for node in ast.walk(statement)):
        return None
    wanted = {node.id for statement in rest for node in ast.walk(statement) if isinstance(node, ast.Name)}
    stored = (node for statement in before for node in walk(statement) if isinstance(node, ast.Name))
    made = dict.fromkeys(node.id for node in stored if isinstance(node.ctx, ast.Store) and node.id in wanted)
    try:
        world = next(_run(loop, _needed_for(list(made), before), names))
    except Exception:  # the user's statements, which may need what is not there
        return None
    numbers = _numbers_of_samples(loop)  # which are not inputs
    chosen = [name for name in made if is_plain_tensor(world.get(name)) and name not in numbers]
    whole = not chosen
    if whole:  # a tuple or a dictionary, of which a function draws all tensors
        chosen = [name for name in made if is_batch(world.get(name))][:1]
    if not chosen:
        return None
    needed = copy.deepcopy(_needed_for(chosen, before))  # the step's are changed
    again = _run(loop, needed, names)

    def draw() -> tuple[torch.Tensor, ...]:
        nonlocal again
        drawn = next(again)
        # Past the end of what `order[i : i + 32]` goes over.
        if not all(len(part) for name in chosen for part in tensors_in(drawn[name])):
            again = _run(loop, needed, names)
            drawn = next(again)
        return drawn[chosen[0]] if whole else tuple(drawn[name] for name in chosen)

    return place, chosen, draw, loop


def _numbers_of_samples(loop: ast.For | ast.While) -> set[str]:
    """Names with which a loop takes samples out of something, `x[index]`, and of what these are parts."""
    nodes = [node for statement in loop.body for node in ast.walk(statement)]
    slices = (node.slice for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load))
    numbers = {part.id for part in slices if isinstance(part, ast.Name)}
    parted = (node.iter for node in nodes if isinstance(node, ast.For) and variable_of(node.target) in numbers)
    return numbers | {part.id for whole in parted for part in ast.walk(whole) if isinstance(part, ast.Name)}


def _run(loop: ast.For | ast.While, statements: list[ast.stmt], names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What variables are worth after these statements of a loop, for one pass after the other; those that `continue`
    ends there are passed over. Raises what the statements raise, and NothingDrawn."""
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
    raise NothingDrawn


def _needed_for(chosen: list[str], statements: list[ast.stmt]) -> list[ast.stmt]:
    """Those that give the chosen names their values, in this pass or for the next one, or pass over a batch; not what
    is measured or saved beside."""
    needed, kept, before = set(chosen), set[int](), -1
    while before < len(kept):
        before = len(kept)
        for number, statement in reversed(list(enumerate(statements))):
            if number not in kept and (_gives(statement, needed) or _changes(statement, needed)):
                needed |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                kept.add(number)
    return [statement for number, statement in enumerate(statements) if number in kept]


def _gives(statement: ast.stmt, needed: set[str]) -> bool:
    """Whether a statement gives one of these a value, or a part of it one; or passes over a batch."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name in needed
    nodes = list(walk(statement))
    parts = (node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store))
    return any(variable_of(part) in needed for part in parts) or any(isinstance(node, ast.Continue) for node in nodes)


def _changes(statement: ast.stmt, needed: set[str]) -> bool:
    """Whether a statement calls something with one of these, `random.shuffle(order)`; one within another statement
    calls a method of it, `rows.append(row)`."""
    if isinstance(statement, ast.Expr):
        return any(isinstance(node, ast.Name) and node.id in needed for node in walk(statement))
    calls = (node.value for node in walk(statement) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    return any(isinstance(call.func, ast.Attribute) and variable_of(call.func) in needed for call in calls)


def _drawn_later(loop: ast.For | ast.While, names: dict[str, Any]) -> Drawing | None:
    """Batches that are drawn for the next pass, as `X, Y = get_batch("train")` behind the network's call: the step
    keeps the one that it is given."""
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
    """Whether the function of the script's whose call gives the tensors of these names makes random numbers."""
    for node in (node for statement in loop.body for node in ast.walk(statement)):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        target = node.targets[0]
        stored = [ast.unparse(part) for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
        function = value_of(node.value.func, names)
        if stored[:1] == chosen[:1] and isinstance(function, types.FunctionType):
            return bool(global_names(function.__code__) & _CHANCE)
    return False


def draws_for_parts(loop: ast.For | ast.While, chosen: list[str]) -> bool:
    """Whether a loop within the body draws these tensors anew, as for each of several backward passes of a step."""
    inner = [part for statement in loop.body for part in ast.walk(statement) if isinstance(part, ast.For)]
    named = {node.id for part in inner for node in ast.walk(part) if isinstance(node, ast.Name)}
    if chosen[0].startswith(TAKEN):  # where it was drawn as the network is called
        return chosen[0] in named
    stored = (node for part in inner for node in ast.walk(part) if isinstance(node, ast.Assign))
    given = (target for node in stored for target in node.targets if isinstance(target, ast.Tuple))
    return any([ast.unparse(part) for part in target.elts] == chosen for target in given)


def drawn_once(file: str, chosen: list[str], names: dict[str, Any]) -> str:
    """The user's call that gave the tensors of these names, and gives others when it is called again; empty where
    there is none."""
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
        second = _first_of(value_of(node.value, names))  # what it gave at first may have been scaled since
        if second is not None and not torch.equal(first, second):
            return ast.unparse(node)
    return ""


def _first_of(given: Any) -> torch.Tensor | None:
    return given[0] if isinstance(given, tuple) and given and isinstance(given[0], torch.Tensor) else None


def _makes_data(call: ast.expr, names: dict[str, Any]) -> bool:
    """Whether a call is given a generator and nothing to draw from: it makes up the data themselves."""
    given = [value_of(node, names) for node in ast.walk(call) if isinstance(node, ast.Name)]
    held = any(isinstance(value, torch.Tensor | np.ndarray | list | tuple | dict | Dataset) for value in given)
    return not held and any(isinstance(value, torch.Generator | np.random.Generator) for value in given)


def never_drawn(
    loop: ast.For | ast.While, names: dict[str, Any]
) -> tuple[list[str], Callable[[], tuple[torch.Tensor, ...]]] | None:
    """Tensors of as many rows as what the network is called with, that no statement of the loop draws: all of the
    data, or one batch over and over."""
    inside = [
        node for statement in loop.body
        for node in (ast.walk(statement) if isinstance(statement, ast.FunctionDef) else walk(statement))
    ]  # fmt: skip
    stored = {node.id for node in inside if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    asking = asking_nodes(loop)
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
    used = [node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
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
    """The loop with a name for each of several tensors that an object holds for all samples, `data.x` and `data.y`; and
    what has a name."""
    held: dict[tuple[str, int], dict[str, torch.Tensor]] = {}
    stored = set[str]()
    for node in ast.walk(loop):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
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
    """The loop with `model(x[index])` as `taken = x[index]` and `model(taken)`, and so for each tensor; None where the
    network is given nothing of the kind."""
    place = place_of_call(loop, names, running) or 0
    made_in = {node.id for node in ast.walk(loop) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    taking = _Taking(names, running, made_in)
    rest = [taking.visit(copy.deepcopy(statement)) for statement in loop.body[place:]]
    calls = [node for statement in rest for node in ast.walk(statement) if isinstance(node, ast.Call)]
    calls = [call for call in calls if computes(call, names, running)]
    given = any(is_taken(part) for call in calls for part in (*call.args, *(word.value for word in call.keywords)))
    if not given and not (taking.found and number_batches(loop, names)):
        return None
    taken = list[ast.stmt]()
    for chosen, node in taking.found.values():
        stored: list[ast.expr] = [ast.Name(name, ast.Store()) for name in chosen]
        taken.append(ast.Assign([stored[0] if len(stored) == 1 else ast.Tuple(stored, ast.Store())], node))
    made = copy.copy(loop)
    made.body = [*loop.body[:place], *_first_parts(loop.body[place:], taken), *taken, *rest]
    return ast.fix_missing_locations(made)


def _first_parts(statements: list[ast.stmt], taken: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What loops within the step begin with, `for part in rows.split(16)`, where samples are taken by it."""
    asked = {node.id for statement in taken for node in ast.walk(statement) if isinstance(node, ast.Name)}
    for loop in statements:
        if isinstance(loop, ast.For) and asked & {part.id for part in walk(loop.target) if isinstance(part, ast.Name)}:
            first = ast.Call(name_of("next"), [ast.Call(name_of("iter"), [loop.iter], [])], [])
            yield ast.Assign([loop.target], first)


class _Taking(ast.NodeTransformer):
    """Gives `x[index]` and `y[i : i + 32]` of the user's tensors a name each, and what the network is called with where
    a function draws it: `model(*get_batch("train"))`."""

    def __init__(self, names: dict[str, Any], running: frozenset[str], stored: set[str]) -> None:
        self.names, self.running, self.stored = names, running, stored
        self.found: dict[str, tuple[list[str], ast.expr]] = {}

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        whole = held_value(node.value, self.names)
        sliced = isinstance(node.slice, ast.Name | ast.Slice) or are_numbers(held_value(node.slice, self.names))
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
        """Whether a function of the user's makes tensors of none; `several` of them also of those that stay the same
        while the loop runs: `model(*get_batch(train_data))`."""
        function = value_of(call.func, self.names)
        given = {node.id: value_of(node, self.names) for node in ast.walk(call) if isinstance(node, ast.Name)}
        fixed = torch.nn.Module if several else (torch.nn.Module, torch.Tensor)
        made = {name for name, value in given.items() if isinstance(value, torch.Tensor) and name in self.stored}
        own = written_by_user(getattr(function, "__module__", None))
        return own and not made and not any(isinstance(value, fixed) for value in given.values())

    def _named(self, node: ast.expr, parts: int) -> list[ast.expr]:
        count = sum(len(names) for names, _ in self.found.values())
        new = [f"{TAKEN}{count + number}" for number in range(parts)]
        return [name_of(name) for name in self.found.setdefault(ast.unparse(node), (new, node))[0]]
