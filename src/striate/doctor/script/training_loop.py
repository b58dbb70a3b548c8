"""The loop that a script trains in: found on the stack, and its body made a step that works on any batch."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from striate.doctor.script.iterated_loop import (
    asked_for_next,
    gone_over_together,
    number_batches,
    numbers_like,
    taken_in_groups,
    values_of,
)
from striate.doctor.script.loop_syntax import (
    are_batches,
    counts,
    name_of,
    number_for,
    syntax_of,
    tuple_with_number,
    unwrapped,
    value_of,
    walk,
)
from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.recorded_iterators import batches_behind, is_read_once, recorded_in
from striate.doctor.setup.script_source import called
from striate.observe.tensors import tensors_in

_DRAWN = 40
_FEW = 16
"""A tensor of fewer rows is no data set."""
_PASSED_OVER = 100
"""Batches in a row that a loop may pass over."""
_TAKEN = "__striate_taken_"
_DONE = "__striate_done__"
_LOSS = "__striate_loss__"
_NUMBERS = "__striate_numbers__"


@dataclass(frozen=True)
class TrainingLoop:
    """`step(model, batch, optimizer, loss)` does what one pass of the loop does. `batches`: what the loop goes over, or
    what draws its batches. `where`: file and line. `names`: the user's variables in reach, with their values. `loss`:
    the name of the loss that it calls, empty where other functions do. `place`: file, first and last line, where it is
    the user's. `model`: what it trains, and `library` what is done around it, where the loop is a library's."""

    step: Callable[..., Any]
    batches: Iterable[Any]
    where: str
    names: dict[str, Any]
    loss: str = ""
    place: tuple[str, int, int] | None = None
    model: torch.nn.Module | None = None
    library: LibraryTraining | None = None


@dataclass(frozen=True)
class _Found:
    frame: types.FrameType
    loop: ast.For | ast.While


class Drawn:
    """Batches that a script draws with a call of its own."""

    draws_again = True
    """A sample may come several times in an epoch."""

    def __init__(
        self, draw: Callable[[], Any], drawn_once: str = "", passes: int | None = None, count: int = _DRAWN
    ) -> None:
        self.draw = draw
        self.count = count
        """Batches of an epoch."""
        self.passes = passes
        """How often the loop draws, where it counts."""
        self.drawn_once = drawn_once
        """The call that would give other samples each time, and stands in front of the loop."""

    def __iter__(self) -> Iterator[Any]:
        return (self.draw() for _ in range(self.count))


class NothingDrawn(Exception):
    """A loop passed over all batches that it drew."""


class Called:
    """Batches of a function that yields them, called anew for each pass."""

    def __init__(self, call: Callable[[], Iterator[Any]]) -> None:
        self.call = call

    def __iter__(self) -> Iterator[Any]:
        return self.call()


_Drawing = tuple[int, list[str], Callable[[], tuple[torch.Tensor, ...]], ast.For | ast.While]


def user_frames() -> list[types.FrameType]:
    """The frames of the user's code that are running, the innermost first; not of what runs the script."""
    frame, found = inspect.currentframe(), list[types.FrameType]()
    while frame is not None and frame.f_code.co_name != "diagnose_script":
        if written_by_user(frame.f_globals.get("__name__")) and Path(frame.f_code.co_filename).is_file():
            found.append(frame)
        frame = frame.f_back
    return found


def find_loop(frames: list[types.FrameType]) -> TrainingLoop | None:
    """The innermost loop around what is running that goes over batches or draws them; None where there is none."""
    for found in _loops(frames):
        loop, names = found.loop, {**found.frame.f_globals, **found.frame.f_locals}
        together = gone_over_together(loop, names)
        if together is not None:
            batches, body, beside = together
            return _made(found, body, batches, {**names, **beside})
        numbers = number_batches(loop, names)
        if isinstance(loop, ast.For) and not counts(loop.iter) and not numbers:
            inner, numbered = unwrapped(loop.iter)
            batches = value_of(inner, names)
            if isinstance(batches, types.GeneratorType) and _can_be_called_again(inner, loop.target, batches):
                batches = Called(functools.partial(value_of, inner, names))
            elif is_read_once(batches) and not isinstance(inner, ast.Call):
                batches = batches_behind(batches)
            if not are_batches(batches):
                continue
            assigned = ast.Assign([loop.target], tuple_with_number() if numbered else name_of("__batch__"))
            return _made(found, [assigned, *loop.body], batches, names)
        asked = asked_for_next(loop, names)
        if asked is not None:
            batches, body, iterator = asked
            return _made(found, body, batches, names, iterator)
        grouped = taken_in_groups(loop, names)
        if grouped is not None:
            batches, body = grouped
            return _made(found, body, _listed(batches, found, names), names)
        drawing = _drawing(loop, names)
        if drawing is not None:
            place, chosen, draw, loop = drawing
            counted = value_of(loop.iter, names) if isinstance(loop, ast.For) else None
            passes = len(counted) if isinstance(counted, range) else None
            drawn = Drawn(draw, passes=passes, count=numbers or _DRAWN)
            return _with_drawn(replace(found, loop=loop), place, chosen, drawn, names)
    for found in (*_loops(frames), *_called_in_loops(frames)):
        names = {**found.frame.f_globals, **found.frame.f_locals}
        found = _with_closure(found, names)
        fixed = _never_drawn(found.loop, names)
        if fixed is not None:
            chosen, draw = fixed
            batches = Drawn(draw, _drawn_once(found.frame.f_code.co_filename, chosen, names))
            return _with_drawn(found, 0, chosen, batches, names)
    return None


def _listed(batches: list[Any], found: _Found, names: dict[str, Any]) -> Any:
    """The loader of which `batches = list(loader)` has the batches, where that stands in the code."""
    for node in ast.walk(syntax_of(found.frame.f_code.co_filename)):
        named = dict[ast.expr, ast.expr]()
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    named |= dict(zip(target.elts, node.value.elts, strict=False))
                else:
                    named[target] = node.value
        for target, value in named.items():
            if isinstance(target, ast.Name) and names.get(target.id) is batches and called(value) == "list":
                loader = value_of(unwrapped(value)[0], names)
                if are_batches(loader):
                    return loader
    return batches


def _with_drawn(found: _Found, place: int, chosen: list[str], drawn: Drawn, names: dict[str, Any]) -> TrainingLoop:
    """The loop with a batch for the names of what it draws, in front of a statement of its body."""
    loop = found.loop
    target: ast.expr = ast.Tuple([ast.Name(name, ast.Store()) for name in chosen], ast.Store())
    given = ast.Assign([target], name_of("__batch__"))
    counted = [ast.Assign([loop.target], number_for(loop.target))] if isinstance(loop, ast.For) else []
    if isinstance(loop, ast.For) and number_batches(loop, names):  # only how many there are is asked of them
        names = names | {_NUMBERS: numbers_like(loop, names)}
        some = ast.parse(f"{_NUMBERS}[:len(__batch__[0])]", mode="eval").body
        numbered = isinstance(loop.target, ast.Tuple)
        value = ast.Tuple([name_of("__number__"), some], ast.Load()) if numbered else some
        counted = [ast.Assign([loop.target], value)]
    return _made(found, [*counted, *loop.body[:place], given, *loop.body[place:]], drawn, names)


def _loops(frames: list[types.FrameType]) -> Iterator[_Found]:
    for frame in frames:
        around = [
            loop
            for node in ast.walk(syntax_of(frame.f_code.co_filename))
            if (loop := _as_loop(node)) is not None
            and loop.lineno <= frame.f_lineno <= (loop.end_lineno or 0)
            and frame.f_code.co_firstlineno <= loop.lineno
            and frame.f_code.co_name not in _COMPREHENSIONS  # the function around it has the names
        ]
        for loop in sorted(around, key=lambda node: -node.lineno):
            yield _Found(frame, loop)


_COMPREHENSIONS = ("<listcomp>", "<genexpr>")


def _as_loop(node: ast.AST) -> ast.For | ast.While | None:
    """A loop, also of `[self.process(batch) for batch in loader]`."""
    if isinstance(node, ast.For | ast.While):
        return node
    if isinstance(node, ast.ListComp | ast.GeneratorExp) and isinstance(node.elt, ast.Call):
        (part, *more) = node.generators
        if not more and not part.ifs:
            return ast.copy_location(ast.For(part.target, part.iter, [ast.Expr(node.elt)], []), node)
    return None


def _called_in_loops(frames: list[types.FrameType]) -> Iterator[_Found]:
    """Functions that are running and that a loop calls, `for epoch in range(200): train(epoch)`: the body of each as
    that of a loop."""
    around = next(_loops(frames), None)
    for frame in frames if around is not None else ():
        if around is not None and frame is around.frame:
            return
        for node in ast.walk(syntax_of(frame.f_code.co_filename)):
            if isinstance(node, ast.FunctionDef) and node.name == frame.f_code.co_name:
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                if frame.f_lineno in lines:
                    yield _Found(frame, ast.copy_location(ast.While(ast.Constant(True), node.body, []), node))


def loop_around(frames: list[types.FrameType]) -> tuple[str, int, int] | None:
    """File, first and last line of the innermost loop around what is running; None where there is none."""
    found = next(_loops(frames), None)
    if found is None:
        return None
    return found.frame.f_code.co_filename, found.loop.lineno, found.loop.end_lineno or found.loop.lineno


def called_from(frames: list[types.FrameType]) -> tuple[object, ...] | None:
    """The innermost loop around what is running, with the lines from which its function was called: one function that
    is called twice makes two trainings."""
    found = next(_loops(frames), None)
    if found is None:
        return None
    outer = frames[frames.index(found.frame) + 1 :]
    return (
        found.frame.f_code.co_filename,
        found.loop.lineno,
        *((frame.f_code.co_filename, frame.f_lineno) for frame in outer),
    )


def passes_over(loop: TrainingLoop, frames: list[types.FrameType]) -> int | None:
    """How often the training loop is gone through, by the loop around it; None where none counts."""
    for found in _loops(frames):
        here = (found.frame.f_code.co_filename, found.loop.lineno)
        if isinstance(found.loop, ast.For) and (loop.place is None or here != loop.place[:2]):
            values = value_of(found.loop.iter, {**found.frame.f_globals, **found.frame.f_locals})
            named = isinstance(values, list | tuple) and any(isinstance(value, str) for value in values)  # phases
            if isinstance(values, range | list | tuple) and not named:
                return len(values)
    return None


def _drawing(loop: ast.For | ast.While, names: dict[str, Any]) -> _Drawing | None:
    """Where in the body the network is called first, the tensors that the statements before have made for it by name,
    what makes them anew: `xb, yb = get_batch("train")`, or `x, y = X[i : i + 32], Y[i : i + 32]`; and the loop,
    in which what is taken out of tensors only as the network is called has names."""
    taken = _taken_before(loop, names)
    return (
        (None if taken is None else _drawn_first(taken, names))
        or _drawn_first(loop, names)
        or _drawn_later(loop, names)
    )


def _drawn_first(loop: ast.For | ast.While, names: dict[str, Any]) -> _Drawing | None:
    place = next((n for n, statement in enumerate(loop.body) if _calls_network(statement, names)), None)
    if place is None:  # of weights without a module the first use
        uses = (n for n, statement in enumerate(loop.body) if _uses_weights(statement, names))
        place = next(uses, 0)
    before, rest = loop.body[:place], loop.body[place:]
    wanted = {node.id for statement in rest for node in ast.walk(statement) if isinstance(node, ast.Name)}
    stored = (node for statement in before for node in walk(statement) if isinstance(node, ast.Name))
    made = dict.fromkeys(node.id for node in stored if isinstance(node.ctx, ast.Store) and node.id in wanted)
    try:
        world = next(_run(loop, before, names))
    except Exception:  # the user's statements, which may need what is not there
        return None
    numbers = _numbers_of_samples(loop)  # which are not inputs
    chosen = [name for name in made if _is_plain_tensor(world.get(name)) and name not in numbers]
    if not chosen:
        return None
    again = _run(loop, copy.deepcopy(_needed_for(chosen, before)), names)  # the step's are changed

    def draw() -> tuple[torch.Tensor, ...]:
        drawn = next(again)
        return tuple(drawn[name] for name in chosen)

    return place, chosen, draw, loop


def _numbers_of_samples(loop: ast.For | ast.While) -> set[str]:
    """Names with which a loop takes samples out of something: `x[index]`."""
    nodes = (node for statement in loop.body for node in ast.walk(statement))
    slices = (node.slice for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load))
    return {part.id for part in slices if isinstance(part, ast.Name)}


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
    """Those that give the chosen names their values, or pass over a batch; not what is measured or saved beside."""
    needed, kept = set(chosen), list[ast.stmt]()
    for statement in reversed(statements):
        nodes = list(walk(statement))
        named = [node for node in nodes if isinstance(node, ast.Name)]
        gives = any(node.id in needed and isinstance(node.ctx, ast.Store) for node in named)
        changes = isinstance(statement, ast.Expr) and any(node.id in needed for node in named)
        if gives or changes or any(isinstance(node, ast.Continue) for node in nodes):
            needed |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            kept.insert(0, statement)
    return kept


def _drawn_later(loop: ast.For | ast.While, names: dict[str, Any]) -> _Drawing | None:
    """Batches that are drawn for the next pass, as `X, Y = get_batch("train")` behind the network's call: the step
    keeps the one that it is given."""
    made = copy.deepcopy(loop)
    for node in ast.walk(made):
        target = node.targets[0] if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Tuple):
            continue
        chosen = [part.id for part in target.elts if isinstance(part, ast.Name)]
        if len(chosen) != len(target.elts) or not all(_is_plain_tensor(names.get(name)) for name in chosen):
            continue
        call = node.value

        def draw(call: ast.expr = call) -> tuple[torch.Tensor, ...]:
            return tuple(value_of(call, names))

        if isinstance(value_of(call, names), tuple):
            node.value = ast.Tuple([name_of(name) for name in chosen], ast.Load())
            return 0, chosen, draw, ast.fix_missing_locations(made)
    return None


def _with_closure(found: _Found, names: dict[str, Any]) -> _Found:
    """With the function that `optimizer.step(closure)` calls in the body, where it is defined before the loop."""
    for node in (node for statement in found.loop.body for node in walk(statement)):
        if not (isinstance(node, ast.Call) and called(node) == "step" and node.args):
            continue
        code = getattr(value_of(node.args[0], names), "__code__", None)
        if code is None or code.co_filename != found.frame.f_code.co_filename:
            continue
        for other in (part for part in ast.walk(syntax_of(code.co_filename)) if isinstance(part, ast.FunctionDef)):
            first = min([other.lineno, *(d.lineno for d in other.decorator_list)])
            if first == code.co_firstlineno and not found.loop.lineno <= first <= (found.loop.end_lineno or 0):
                loop = copy.copy(found.loop)
                loop.body = [_Global().visit(other), *loop.body]
                return replace(found, loop=loop)
    return found


class _Global(ast.NodeTransformer):
    """Variables of the function around are those of the step's world."""

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Global:
        return ast.copy_location(ast.Global(node.names), node)


def _drawn_once(file: str, chosen: list[str], names: dict[str, Any]) -> str:
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
        again = value_of(node.value, names)
        first = again[0] if isinstance(again, tuple) and again else None
        known = names[chosen[0]]
        if isinstance(first, torch.Tensor) and first.shape == known.shape and not torch.equal(first, known):
            return ast.unparse(node)
    return ""


def _never_drawn(
    loop: ast.For | ast.While, names: dict[str, Any]
) -> tuple[list[str], Callable[[], tuple[torch.Tensor, ...]]] | None:
    """Tensors of as many rows as what the network is called with, that no statement of the loop draws: all of the
    data, or one batch over and over."""
    inside = [
        node for statement in loop.body
        for node in (ast.walk(statement) if isinstance(statement, ast.FunctionDef) else walk(statement))
    ]  # fmt: skip
    stored = {node.id for node in inside if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    given = [
        part.id
        for node in inside
        if isinstance(node, ast.Call) and _of_network(node.func, names)
        for part in [*node.args, *(word.value for word in node.keywords)]
        if isinstance(part, ast.Name)
    ]
    shown = next((name for name in given if name not in stored and _is_plain_tensor(names.get(name))), "")
    rows = len(names[shown]) if shown else 0
    if rows < 2:
        return None
    used = [node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    chosen = [shown]
    for name in dict.fromkeys(used):
        value = names.get(name)
        if name == shown or name in stored or not isinstance(value, torch.Tensor):
            continue
        if _is_plain_tensor(value) and len(value) == rows:
            chosen.append(name)

    def draw() -> tuple[torch.Tensor, ...]:
        return tuple(names[name] for name in chosen)

    return chosen, draw


def _taken_before(loop: ast.For | ast.While, names: dict[str, Any]) -> ast.For | ast.While | None:
    """The loop with `model(x[index])` as `taken = x[index]` and `model(taken)`, and so for each tensor; None where the
    network is given nothing of the kind."""
    place = next((n for n, statement in enumerate(loop.body) if _calls_network(statement, names)), 0)
    taking = _Taking(names)
    rest = [taking.visit(copy.deepcopy(statement)) for statement in loop.body[place:]]
    calls = [node for statement in rest for node in ast.walk(statement) if isinstance(node, ast.Call)]
    calls = [call for call in calls if _of_network(call.func, names)]
    given = any(isinstance(part, ast.Name) and part.id.startswith(_TAKEN) for call in calls for part in call.args)
    if not given and not (taking.found and number_batches(loop, names)):
        return None
    taken = list[ast.stmt]()
    for chosen, node in taking.found.values():
        stored: list[ast.expr] = [ast.Name(name, ast.Store()) for name in chosen]
        taken.append(ast.Assign([stored[0] if len(stored) == 1 else ast.Tuple(stored, ast.Store())], node))
    made = copy.copy(loop)
    made.body = [*loop.body[:place], *taken, *rest]
    return ast.fix_missing_locations(made)


class _Taking(ast.NodeTransformer):
    """Gives `x[index]` and `y[i : i + 32]` of the user's tensors a name each, and what the network is called with where
    a function draws it: `model(*get_batch("train"))`."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.found: dict[str, tuple[list[str], ast.expr]] = {}

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        whole = value_of(node.value, self.names)
        sliced = isinstance(node.slice, ast.Name | ast.Slice)
        if not sliced or not isinstance(node.ctx, ast.Load) or not _is_plain_tensor(whole) or len(whole) < _FEW:
            return self.generic_visit(node)
        return ast.copy_location(self._named(node, 1)[0], node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _of_network(node.func, self.names):
            node.args = [own for part in node.args for own in self._drawn(part)]
        return self.generic_visit(node)

    def _drawn(self, part: ast.expr) -> list[ast.expr]:
        call = part.value if isinstance(part, ast.Starred) else part
        if not isinstance(call, ast.Call) or not self._is_drawing(call):
            return [part]
        value = value_of(call, self.names)
        if isinstance(part, ast.Starred) and isinstance(value, tuple) and all(map(_is_plain_tensor, value)):
            return self._named(call, len(value))
        return self._named(call, 1) if call is part and _is_plain_tensor(value) else [part]

    def _is_drawing(self, call: ast.Call) -> bool:
        """Whether a function of the user's makes tensors of none."""
        function = value_of(call.func, self.names)
        given = (value_of(node, self.names) for node in ast.walk(call) if isinstance(node, ast.Name))
        own = written_by_user(getattr(function, "__module__", None))
        return own and not any(isinstance(value, torch.Tensor | torch.nn.Module) for value in given)

    def _named(self, node: ast.expr, parts: int) -> list[ast.expr]:
        count = sum(len(names) for names, _ in self.found.values())
        new = [f"{_TAKEN}{count + number}" for number in range(parts)]
        return [name_of(name) for name in self.found.setdefault(ast.unparse(node), (new, node))[0]]


def _calls_network(statement: ast.stmt, names: dict[str, Any]) -> bool:
    """Whether a network is called in a statement, or handed to a function."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            given = any(_is_network(part, names) for part in (node.func, *node.args))
            if given or (_of_network(node.func, names) and any(_has_rows(part, names) for part in node.args)):
                return True
    return False


def weights_alone(names: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors that variables hold and that gradients are asked for, where no variable holds a network."""
    modules = (value for value in names.values() if isinstance(value, torch.nn.Module))
    if any(True for module in modules for _ in module.parameters()):
        return {}
    leaves = {name: value for name, value in names.items() if isinstance(value, torch.Tensor) and value.is_leaf}
    return {name: value for name, value in leaves.items() if value.requires_grad}


def _uses_weights(statement: ast.stmt, names: dict[str, Any]) -> bool:
    known = weights_alone(names)
    return any(isinstance(node, ast.Name) and node.id in known for node in walk(statement))


def _has_rows(node: ast.expr, names: dict[str, Any]) -> bool:
    """Whether an argument is a tensor, or taken out of one."""
    if isinstance(node, ast.Name) and node.id.startswith(_TAKEN):
        return True
    value = value_of(node.value if isinstance(node, ast.Subscript) else node, names)
    return isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and _is_plain_tensor(value)


def _is_network(node: ast.expr, names: dict[str, Any]) -> bool:
    value = value_of(node, names) if isinstance(node, ast.Name | ast.Attribute) else None
    return isinstance(value, torch.nn.Module) and any(True for _ in value.parameters())


def _of_network(node: ast.expr, names: dict[str, Any]) -> bool:
    """Whether an expression is a network with parameters, or a method of the user's of one."""
    value = value_of(node, names) if isinstance(node, ast.Name | ast.Attribute) else None
    if isinstance(value, types.MethodType) and written_by_user(value.__func__.__module__):
        value = value.__self__
    return isinstance(value, torch.nn.Module) and any(True for _ in value.parameters())


def _is_plain_tensor(value: Any) -> bool:
    dense = isinstance(value, torch.Tensor) and value.layout == torch.strided  # the links of a graph are no samples
    return dense and value.ndim > 0 and not value.requires_grad


def _can_be_called_again(call: ast.expr, target: ast.expr, made: Iterator[Any]) -> bool:
    """Whether what a call yields are batches, and its arguments are not what the loop gives other values."""
    given = {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
    read = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
    if not isinstance(call, ast.Call) or given & read:
        return False
    try:
        return bool(list(tensors_in(next(made, None))))
    except Exception:  # the user's function
        return False


class _Returning(ast.NodeTransformer):
    """`break` and `continue` of the loop itself end the step; an annotation of a global is none."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        made = ast.Pass() if node.value is None else ast.Assign([node.target], node.value)
        return ast.copy_location(made, node)

    def visit_Break(self, node: ast.Break) -> ast.Return:
        return ast.copy_location(ast.Return(None), node)

    def visit_Continue(self, node: ast.Continue) -> ast.Return:
        return ast.copy_location(ast.Return(None), node)

    def visit_For(self, node: ast.For) -> ast.For:
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node


class _OwnLoss(ast.NodeTransformer):
    """Calls of the loss by its name are calls of the loss that the step is given."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == self.name:
            node.func = ast.copy_location(name_of(_LOSS), node.func)
        return node


def _made(
    found: _Found, body: list[ast.stmt], batches: Any, names: dict[str, Any], main: object = None
) -> TrainingLoop:
    """The body as a function whose assignments are those of a world of its own, as are the user's names in it. `main`:
    the iterator that gave its batches."""
    loss = _loss_name(body, names)
    statements = [_Returning().visit(statement) for statement in body]
    if loss:
        statements = [_OwnLoss(loss).visit(statement) for statement in statements]
    stored = {
        node.id for statement in statements for node in walk(statement) if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Store | ast.Del)
    }  # fmt: skip
    head: list[ast.stmt] = [ast.Global(sorted(stored))] if stored else []
    made = ast.parse(f"def training_step(__model__, __batch__, __optimizer__, {_LOSS}, __number__): pass").body[0]
    assert isinstance(made, ast.FunctionDef)
    made.body = [*head, *statements]
    file = found.frame.f_code.co_filename
    world = dict(names)
    for statement in statements:
        for node in ast.walk(statement):  # what is done at each hundredth step, as at step 0, is left out
            if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name):
                one = isinstance(node.value, ast.Constant) and node.value.value == 1
                if one and type(world.get(node.target.id)) is int and not world[node.target.id]:
                    world[node.target.id] = 1
    exec(compile(ast.fix_missing_locations(ast.Module([made], [])), file, "exec"), world)
    module = found.frame.f_globals.get("__name__", "__main__")
    world["training_step"].__module__ = module
    step = _as_step(world["training_step"], module)
    cast(Any, step).iterators = recorded_in(step, main)
    place = file, found.loop.lineno, found.loop.end_lineno or found.loop.lineno
    return TrainingLoop(step, batches, f"{Path(file).name}, line {found.loop.lineno}", names, loss, place)


def _loss_name(body: Iterable[ast.stmt], names: dict[str, Any]) -> str:
    """The name of the loss that the body calls; empty where it is called by none."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                value = names.get(node.func.id)
                if isinstance(value, torch.nn.Module) and type(value).__name__.lower().endswith(("loss", "entropy")):
                    return node.func.id
    return ""


def _as_step(body: Callable[..., Any], module: str) -> Callable[..., Any]:
    """One pass of the loop, which gives what went backward as its loss, as it was before a GradScaler made it larger.
    It counts as the user's code, so that what it holds is copied with it."""
    count = [0]  # what is done at each hundredth step, as at step 0, is left out

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Any:
        count[0] += 1
        found: list[torch.Tensor] = []
        plain: dict[int, torch.Tensor] = {}
        original, scaling = torch.autograd.backward, torch.amp.GradScaler.scale

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            last = tensors if isinstance(tensors, torch.Tensor) else next(iter(tensors))
            found.append(plain.pop(id(last), last))
            original(tensors, *args, **kwargs)

        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = scaling(scaler, outputs)
            if isinstance(outputs, torch.Tensor):
                plain[id(scaled)] = outputs
            return scaled

        torch.autograd.backward = backward
        torch.amp.GradScaler.scale = scale  # type: ignore[method-assign, assignment]
        try:
            body(model, batch, optimizer, loss, count[0])
        finally:
            torch.autograd.backward = original
            torch.amp.GradScaler.scale = scaling  # type: ignore[method-assign]
        return found[-1].detach() if found else None

    step.__module__ = module
    return step
