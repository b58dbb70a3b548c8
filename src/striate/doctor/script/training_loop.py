"""The training loop of a script, found on the stack; its body becomes a step that works on any batch."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from striate.doctor.script.drawn_batches import (
    DRAWN,
    DrawnBatches,
    by_chance,
    drawn_once,
    draws_in_parts,
    find_drawn_batches,
    fixed_batch,
    with_attributes_named,
)
from striate.doctor.script.iterated_loop import (
    batches_by_next,
    count_index_batches,
    grouped_batches,
    indices_by_next,
    indices_like,
    same_indices,
    zipped_batches,
    zipped_count,
)
from striate.doctor.script.loop_syntax import (
    are_batches,
    counts,
    harmless_value,
    name_of,
    number_for,
    passes_of,
    syntax_of,
    tuple_with_number,
    unwrapped,
    value_of,
    walk,
)
from striate.doctor.script.network_calls import is_batch
from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.recorded_iterators import batches_of_iterator, is_read_once, recorded_in
from striate.doctor.setup.syntax import called, is_constant, is_operation, names_in, nodes_in, receiver_of
from striate.observe.tensors import tensors_in

_LOSS = "__striate_loss__"
_NUMBERS = "__striate_numbers__"


@dataclass(frozen=True)
class TrainingLoop:
    """The training loop of a script, whose body is called as a training step."""

    step: Callable[..., Any]
    """`step(model, batch, optimizer, loss)` runs the body of the loop on one batch."""
    batches: Iterable[Any]
    """The iterable of the loop, or the batches that it draws."""
    where: str
    """File and line."""
    names: dict[str, Any]
    """The user's variables in the scope of the loop, with their values."""
    loss: str = ""
    """Name of the loss that the loop calls; empty where it calls none by a name, as where another function does."""
    place: tuple[str, int, int] | None = None
    """File, first line and last line of the user's loop; None for a library's."""
    model: torch.nn.Module | None = None
    """The network that a library's loop trains; None for the user's own loop."""
    library: LibraryTraining | None = None
    """The training that a library runs around the loop; None for the user's own loop."""
    steps: int | None = None
    """How many batches the loop takes, where it counts them itself; None for a loop over all batches."""


@dataclass(frozen=True)
class _Found:
    frame: types.FrameType
    loop: ast.For | ast.While


class CalledAgain:
    """Batches of a generator function, which is called again for each pass."""

    def __init__(self, call: Callable[[], Iterator[Any]]) -> None:
        self.call = call

    def __iter__(self) -> Iterator[Any]:
        return self.call()


def user_frames() -> list[types.FrameType]:
    """The running frames of the user's code, the innermost first; without those that run the script."""
    frame, found = inspect.currentframe(), list[types.FrameType]()
    while frame is not None and frame.f_code.co_name != "diagnose_script":
        if written_by_user(frame.f_globals.get("__name__")) and Path(frame.f_code.co_filename).is_file():
            found.append(frame)
        frame = frame.f_back
    return found


def find_loop(frames: list[types.FrameType]) -> TrainingLoop | None:
    """The innermost running loop that iterates over batches or draws them; None where there is none."""
    for found in _loops(frames):
        loop, names = found.loop, {**found.frame.f_globals, **found.frame.f_locals}
        together = zipped_batches(loop, names)
        if together is not None:
            batches, body, iterators = together
            return replace(_made(found, body, batches, {**names, **iterators}), steps=zipped_count(loop, names))
        numbers = count_index_batches(loop, names)
        if isinstance(loop, ast.For) and not counts(loop.iter) and not numbers:
            inner, numbered = unwrapped(loop.iter)
            batches = value_of(inner, names)
            if isinstance(batches, types.GeneratorType) and _can_be_called_again(inner, loop.target, batches):
                batches = CalledAgain(functools.partial(value_of, inner, names))
            elif is_read_once(batches) and not isinstance(inner, ast.Call):
                batches = batches_of_iterator(batches)
            if not are_batches(batches):
                continue
            assigned = ast.Assign([loop.target], tuple_with_number() if numbered else name_of("__batch__"))
            return _made(found, [assigned, *loop.body], batches, names)
        taking = indices_by_next(loop, names)
        names |= taking or {}
        by_next = batches_by_next(loop, names) if taking is None else None
        if by_next is None and taking is None and (whole := _with_function_inlined(found, frames)) is not None:
            by_next = batches_by_next(whole, names)
        if by_next is not None:
            batches, body, iterator, iterators = by_next
            steps = passes_of(loop, names) or numbers or None
            return replace(_made(found, body, batches, names | iterators, iterator), steps=steps)
        grouped = grouped_batches(loop, names)
        if grouped is not None:
            batches, body = grouped
            return _made(found, body, _loader_listed_in(batches, found, names), names)
        within = frozenset(frame.f_code.co_name for frame in frames[: frames.index(found.frame)])
        by_script = find_drawn_batches(loop, names, within)
        if by_script is not None:
            place, chosen, draw, made = by_script
            counted, passes = value_of(made.iter, names) if isinstance(made, ast.For) else None, passes_of(made, names)
            slices = passes if isinstance(counted, range) and counted.step > 1 else None  # `range(0, len(x), 32)`
            drawn = DrawnBatches(draw, passes=passes, count=numbers or slices or DRAWN)
            drawn.by_chance = by_chance(made, chosen, names)
            if isinstance(loop, ast.For) and numbers:
                drawn.alike = same_indices(loop, names)
                drawn.sampler = value_of(unwrapped(loop.iter)[0], names)
            if draws_in_parts(made, chosen):
                drawn.as_written = _with_drawn(found, 0, chosen, drawn, names).step
            return _with_drawn(replace(found, loop=made), place, chosen, drawn, names)
    for found in (*_loops(frames), *_called_in_loops(frames)):
        names = {**found.frame.f_globals, **found.frame.f_locals}
        found = _with_closure(found, names)
        loop, named = with_attributes_named(found.loop, names)
        fixed = fixed_batch(loop, named)
        if fixed is not None:
            chosen, draw = fixed
            batches = DrawnBatches(draw, drawn_once(found.frame.f_code.co_filename, chosen, named))
            return _with_drawn(replace(found, loop=loop), 0, chosen, batches, named)
    return None


def _loader_listed_in(batches: list[Any], found: _Found, names: dict[str, Any]) -> Any:
    """The loader of `batches = list(loader)`, where the code has such a line; else the batches."""
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


def _with_drawn(
    found: _Found, place: int, chosen: list[str], drawn: DrawnBatches, names: dict[str, Any]
) -> TrainingLoop:
    """The loop with an assignment of the step's batch to the names that it draws, before the statement at `place`."""
    loop = found.loop
    target: ast.expr = ast.Tuple([ast.Name(name, ast.Store()) for name in chosen], ast.Store())
    if len(chosen) == 1 and is_batch(drawn.draw()):
        target = ast.Name(chosen[0], ast.Store())
    given = ast.Assign([target], name_of("__batch__"))
    counted = [ast.Assign([loop.target], number_for(loop.target))] if isinstance(loop, ast.For) else []
    if isinstance(loop, ast.For) and count_index_batches(loop, names):  # only their number is used
        names = names | {_NUMBERS: indices_like(loop, names)}
        first = "next(iter(__batch__.values()))" if isinstance(drawn.draw(), dict) else "__batch__[0]"
        some = ast.parse(f"{_NUMBERS}[:len({first})]", mode="eval").body
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
            and frame.f_code.co_name not in _COMPREHENSIONS  # the enclosing function has the variables
        ]
        for loop in sorted(around, key=lambda node: -node.lineno):
            yield _Found(frame, loop)


_COMPREHENSIONS = ("<listcomp>", "<genexpr>")


def _as_loop(node: ast.AST) -> ast.For | ast.While | None:
    """A loop; a comprehension such as `[self.process(batch) for batch in loader]` as a loop; else None."""
    if isinstance(node, ast.For | ast.While):
        return node
    if isinstance(node, ast.ListComp | ast.GeneratorExp) and isinstance(node.elt, ast.Call):
        (part, *more) = node.generators
        if not more and not part.ifs:
            return ast.copy_location(ast.For(part.target, part.iter, [ast.Expr(node.elt)], []), node)
    return None


def _called_in_loops(frames: list[types.FrameType]) -> Iterator[_Found]:
    """The running functions that a loop calls, `for epoch in range(200): train(epoch)`, each with its body as that of a
    loop."""
    around = next(_loops(frames), None)
    for frame in frames if around is not None else ():
        if around is not None and frame is around.frame:
            return
        node = _definition(frame)
        if node is not None:
            yield _Found(frame, ast.copy_location(ast.While(ast.Constant(True), node.body, []), node))


def _definition(frame: types.FrameType) -> ast.FunctionDef | None:
    """The definition of the function that a frame runs; None where it is not found."""
    for node in nodes_in(syntax_of(frame.f_code.co_filename), ast.FunctionDef):
        if node.name != frame.f_code.co_name:
            continue
        if node.lineno <= frame.f_lineno <= (node.end_lineno or node.lineno):
            return node
    return None


def _with_function_inlined(found: _Found, frames: list[types.FrameType]) -> ast.For | ast.While | None:
    """The loop with the body of the running function in place of its call, `loss = self.run_step()`; None where the
    function returns before its end, or loop and function have different variables of the same name."""
    place = frames.index(found.frame)
    inner = frames[place - 1] if place else None
    node = None if inner is None or inner.f_globals is not found.frame.f_globals else _definition(inner)
    if inner is None or node is None:
        return None
    outer, own = found.frame.f_locals, inner.f_locals
    *body, last = copy.deepcopy(node.body)
    if not isinstance(last, ast.Return):
        body, last = [*body, last], ast.Return(None)
    if any(isinstance(part, ast.Return | ast.Yield) for statement in body for part in walk(statement)):
        return None
    if any(outer[name] is not own[name] for name in outer.keys() & own.keys()):
        return None
    for number, statement in enumerate(found.loop.body):
        call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        if not isinstance(call, ast.Call) or called(call) != node.name or call.keywords:
            continue
        names, given, owner = [part.arg for part in node.args.args], call.args, receiver_of(call)
        if owner is not None and len(names) > len(given):
            given = [owner, *given]
        if len(names) != len(given):
            return None
        pairs = zip(names, given, strict=True)
        before = [
            ast.Assign([ast.Name(name, ast.Store())], value) for name, value in pairs if not _is_name(value, name)
        ]
        value = last.value or ast.Constant(None)
        after = ast.Assign(statement.targets, value) if isinstance(statement, ast.Assign) else ast.Expr(value)
        loop = copy.copy(found.loop)
        loop.body = [*loop.body[:number], *before, *body, after, *loop.body[number + 1 :]]
        return loop
    return None


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def loop_around(frames: list[types.FrameType]) -> tuple[str, int, int] | None:
    """File, first and last line of the innermost running loop; None where there is none."""
    found = next(_loops(frames), None)
    if found is None:
        return None
    return found.frame.f_code.co_filename, found.loop.lineno, found.loop.end_lineno or found.loop.lineno


def called_from(frames: list[types.FrameType]) -> tuple[tuple[str, int], ...] | None:
    """File and line of the innermost running loop, and of the calls that its function was called from, since a function
    that is called twice makes two trainings. None without a loop."""
    found = next(_loops(frames), None)
    if found is None:
        return None
    outer = frames[frames.index(found.frame) + 1 :]
    return (
        (found.frame.f_code.co_filename, found.loop.lineno),
        *((frame.f_code.co_filename, frame.f_lineno) for frame in outer),
    )


def passes_over(loop: TrainingLoop, frames: list[types.FrameType]) -> int | None:
    """The number of epochs, by the loop around the training loop; None where unknown."""
    for found in _loops(frames):
        here = (found.frame.f_code.co_filename, found.loop.lineno)
        if isinstance(found.loop, ast.For) and (loop.place is None or here != loop.place[:2]):
            values = harmless_value(found.loop.iter, {**found.frame.f_globals, **found.frame.f_locals})
            named = isinstance(values, list | tuple) and any(
                isinstance(value, str) for value in values
            )  # names of phases
            if isinstance(values, range | list | tuple) and not named:
                return len(values)
    return None


def _with_closure(found: _Found, names: dict[str, Any]) -> _Found:
    """The loop with the function of `optimizer.step(closure)` in its body, where it is defined before the loop."""
    for node in (node for statement in found.loop.body for node in walk(statement)):
        if not (isinstance(node, ast.Call) and called(node) == "step" and node.args):
            continue
        code = getattr(value_of(node.args[0], names), "__code__", None)
        if code is None or code.co_filename != found.frame.f_code.co_filename:
            continue
        for other in nodes_in(syntax_of(code.co_filename), ast.FunctionDef):
            first = min([other.lineno, *(d.lineno for d in other.decorator_list)])
            if first == code.co_firstlineno and not found.loop.lineno <= first <= (found.loop.end_lineno or 0):
                loop = copy.copy(found.loop)
                loop.body = [_Global().visit(other), *loop.body]
                return replace(found, loop=loop)
    return found


class _Global(ast.NodeTransformer):
    """Makes nonlocal variables global, since the step has a namespace of its own."""

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Global:
        return ast.copy_location(ast.Global(node.names), node)


def _can_be_called_again(call: ast.expr, target: ast.expr, made: Iterator[Any]) -> bool:
    """Whether an expression is a call that yields batches, and the loop's target is not among its arguments."""
    if not isinstance(call, ast.Call) or names_in(target) & names_in(call):
        return False
    try:
        return bool(list(tensors_in(next(made, None))))
    except Exception:  # the user's function
        return False


class _Returning(ast.NodeTransformer):
    """Makes `break` and `continue` of the loop return from the step, `continue` with True; removes annotations, which
    globals must not have."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        made = ast.Pass() if node.value is None else ast.Assign([node.target], node.value)
        return ast.copy_location(made, node)

    def visit_Break(self, node: ast.Break) -> ast.Return:
        return ast.copy_location(ast.Return(None), node)

    def visit_Continue(self, node: ast.Continue) -> ast.Return:
        return ast.copy_location(ast.Return(ast.Constant(True)), node)

    def visit_For(self, node: ast.For) -> ast.For:
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node


class _OwnLoss(ast.NodeTransformer):
    """Makes calls of the loss by its name call the loss that is passed to the step."""

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
    """The training loop with its body as a function, whose variables are in a namespace of its own. `main`: the
    iterator that yielded its batches."""
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
        for node in nodes_in(statement, ast.AugAssign):  # not at step 0, where code for each hundredth step runs
            if isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name):
                one = is_constant(node.value, 1)
                if one and type(world.get(node.target.id)) is int and not world[node.target.id]:
                    world[node.target.id] = 1
    exec(compile(ast.fix_missing_locations(ast.Module([made], [])), file, "exec"), world)
    module = found.frame.f_globals.get("__name__", "__main__")
    world["training_step"].__module__ = module
    step = _as_step(world["training_step"], module, _passes_left(found.loop, batches))
    cast(Any, step).iterators = recorded_in(step, main)
    place = file, found.loop.lineno, found.loop.end_lineno or found.loop.lineno
    return TrainingLoop(step, batches, f"{Path(file).name}, line {found.loop.lineno}", names, loss, place)


def _loss_name(body: Iterable[ast.stmt], names: dict[str, Any]) -> str:
    """The name of the loss module that the body calls; empty where it calls none by a name."""
    for statement in body:
        for node in nodes_in(statement, ast.Call):
            if isinstance(node.func, ast.Name):
                value = names.get(node.func.id)
                if isinstance(value, torch.nn.Module) and type(value).__name__.lower().endswith(("loss", "entropy")):
                    return node.func.id
    return ""


def _passes_left(loop: ast.For | ast.While, batches: Any) -> int | None:
    """The number of batches of a loop that computes how many are left, `len(loader) - i`; None for other loops."""
    counted = names_in(loop.target) if isinstance(loop, ast.For) else set()
    for node in (part for statement in loop.body for part in walk(statement)):
        # `first = i - i % 4`
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and names_in(node.value) & counted:
            counted |= {part.id for part in node.targets if isinstance(part, ast.Name)}
        if is_operation(node, ast.Sub):
            whole = any(ast.unparse(part.func) == "len" for part in nodes_in(node.left, ast.Call))
            if whole and names_in(node.right) & counted:
                with suppress(TypeError):
                    return len(batches) or None
    return None


def _as_step(body: Callable[..., Any], module: str, passes: int | None = None) -> Callable[..., Any]:
    """A step that runs one pass of the loop, and returns as its loss the tensor that the last backward pass started
    from, before a GradScaler scaled it; without a backward pass, the one that `torch.autograd.grad` was called with.
    Its module is the user's, so that its variables are copied with it. `passes`: the step number starts again after so
    many."""
    count = [0]  # the first number is 1: code for each hundredth step runs at step 0

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Any:
        found, differentiated = list[torch.Tensor](), list[torch.Tensor]()
        plain: dict[int, torch.Tensor] = {}
        original, scaling = torch.autograd.backward, torch.amp.GradScaler.scale
        gradients = torch.autograd.grad
        unwatched = inspect.unwrap(gradients)  # what watches the script passes calls on to `torch.autograd.grad`

        def last_of(tensors: Any) -> torch.Tensor:
            return tensors if isinstance(tensors, torch.Tensor) else next(iter(tensors))

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            last = last_of(tensors)
            found.append(plain.pop(id(last), last))
            original(tensors, *args, **kwargs)

        def grad(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            differentiated.append(last_of(outputs))
            return unwatched(outputs, *args, **kwargs)

        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = scaling(scaler, outputs)
            if isinstance(outputs, torch.Tensor):
                plain[id(scaled)] = outputs
            return scaled

        torch.autograd.backward, torch.autograd.grad = backward, grad
        torch.amp.GradScaler.scale = scale  # type: ignore[method-assign, assignment]
        try:
            for number in (count[0] + 1, count[0] + 2):
                skipped = body(model, batch, optimizer, loss, number if passes is None else number % passes)
                if found or differentiated or not skipped:  # a pass that only evaluates is followed by another
                    break
            count[0] = number  # not reached where a prediction ends the step early
        finally:
            torch.autograd.backward, torch.autograd.grad = original, gradients
            torch.amp.GradScaler.scale = scaling  # type: ignore[method-assign]
        return next((each[-1].detach() for each in (found, differentiated) if each), None)

    step.__module__ = module
    return step
