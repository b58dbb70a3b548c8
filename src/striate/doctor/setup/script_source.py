"""The user's code: what is called in it, how often, and on what. A single training step shows none of it."""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from torch import nn

from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.loaded_weights import LoadedWeights
from striate.doctor.setup.syntax import (
    assigned,
    called,
    receiver_of,
    says_no_gradient,
)

Often = Literal["batch", "epoch", "once"]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.While
_NUMBER_BY_NUMBER = (
    "exp", "sigmoid", "softmax", "log_softmax", "tanh", "detach", "cpu", "float", "double", "clone", "clamp", "numpy",
)  # fmt: skip
CONCATENATIONS = ("cat", "concat", "concatenate", "vstack")
_OWN_NAMES = ("self", "model", "net", "network")


@dataclass(frozen=True)
class Site:
    """A call. `often`: in each pass of the training loop, in each of a loop around or beside it, or once."""

    node: ast.Call
    file: str
    often: Often

    @property
    def where(self) -> str:
        """File and line."""
        return f"{Path(self.file).name}, line {self.node.lineno}"

    @property
    def text(self) -> str:
        """The call as it is written."""
        return ast.unparse(self.node)


Node = TypeVar("Node", bound=ast.AST)


@dataclass(frozen=True)
class ScriptSource:
    """The code of a user's script, and its variables at the first optimizer step."""

    trees: Mapping[str, ast.Module]
    """The syntax tree of each of the user's files."""
    names: Mapping[str, Any]
    """Variables of all functions that are running; of variables with the same name, that of the innermost function."""
    loop: tuple[str, int, int]
    """File, first line and last line of the training loop."""
    epochs: int | None
    """How often the training loop is run; None where that is unknown."""
    running: frozenset[tuple[str, int]] = frozenset()
    """File and first line of each function that the training loop was in, such as a hook that is called by name."""
    loads: tuple[LoadedWeights, ...] = ()
    """Weights that were loaded into networks."""
    calling: frozenset[tuple[str, int]] = frozenset()
    """File and line that each running function was at."""
    library: LibraryTraining | None = None
    """The library that trains, where the user wrote no training loop; `loop` is then the line that calls it."""
    without_optimizer: tuple[nn.Module, ...] = ()
    """Networks that had gradients at the first step and whose parameters belong to no optimizer."""
    steps: int | None = None
    """How many batches the training loop asks for, where it counts them."""
    outermost: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Local variables of the running functions; of variables with the same name, that of the outermost function."""

    @cached_property
    def outer_names(self) -> Mapping[str, Any]:
        """The variables, of several with one name that of the outermost function, which makes the data sets: further in
        it may be a batch."""
        return {**self.names, **self.outermost}

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return {child: node for node in self.nodes() for child in ast.iter_child_nodes(node)}

    @overload
    def nodes(self) -> Iterator[ast.AST]: ...

    @overload
    def nodes(self, *kinds: type[Node]) -> Iterator[Node]: ...

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        """Everything that the user's files say, file by file, or what is of these kinds."""
        return (node for _, node in self._nodes if not kinds or isinstance(node, kinds))

    @cached_property
    def _nodes(self) -> list[tuple[str, ast.AST]]:
        """Everything with its file: walked once, since each check asks."""
        return [(file, node) for file, tree in self.trees.items() for node in ast.walk(tree)]

    @cached_property
    def _calls(self) -> list[tuple[str, ast.Call]]:
        return [(file, node) for file, node in self._nodes if isinstance(node, ast.Call)]

    def enclosing(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node stands in, from within outwards."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def function_of(self, node: ast.AST) -> Function | None:
        """The function that a node stands in."""
        return next((part for part in self.enclosing(node) if isinstance(part, Function)), None)

    def scope_of(self, node: ast.AST) -> ast.AST:
        """The function that a node stands in, or else its file."""
        found = self.function_of(node)
        return (
            found if found is not None else next(part for part in self.enclosing(node) if isinstance(part, ast.Module))
        )

    def loops_of(self, node: ast.AST) -> list[Loop]:
        """The loops around a node in its own function, the innermost first."""
        found: list[Loop] = []
        for part in self.enclosing(node):
            if isinstance(part, Function):
                break
            if isinstance(part, Loop):
                found.append(part)
        return found

    def value(self, node: ast.AST | None, **more: Any) -> Any:
        """What an expression without calls, but for `len` and `range`, was at the first step; None where it cannot be
        told."""
        if not isinstance(node, ast.expr):
            return None
        calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
        if any(called(call) not in ("len", "range") for call in calls):
            return None
        hidden = self._made_in(self.function_of(node)) - self._given(node).keys() - more.keys()
        if any(isinstance(part, ast.Name) and part.id in hidden for part in ast.walk(node)):
            return None
        try:
            return eval(compile(ast.Expression(node), "<striate>", "eval"), {**self.names, **self._given(node), **more})
        except Exception:  # the user's expression
            return None

    def is_number(self, node: ast.AST | None, number: float, **more: Any) -> bool:
        """Whether an expression was this number at the first step; never of a tensor or an array."""
        value = self.value(node, **more)
        return isinstance(value, int | float) and value == number

    def calls(self, *names: str) -> list[Site]:
        """All calls of functions or methods of these names."""
        return self._sites(lambda call: called(call) in names)

    def calls_of(self, function: Function) -> list[Site]:
        """All calls of a function of the user's by its name, or by that of a variable that holds it."""
        return self._sites(lambda call: called(call) == function.name or self._held.get(call) is function)

    def _sites(self, meant: Callable[[ast.Call], bool]) -> list[Site]:
        return [Site(node, file, self.often(node, file)) for file, node in self._calls if meant(node)]

    def runs_network(self, node: ast.AST) -> bool:
        """Whether an expression is a call of a network."""
        if not isinstance(node, ast.Call):
            return False
        value = self._value_called(node)
        if isinstance(value, nn.Module):
            return not type(value).__module__.startswith("torch.nn.modules.loss")
        return isinstance(node.func, ast.Name) and node.func.id in _OWN_NAMES

    def predictions_in(self, scope: ast.AST, *, passed_on: bool = True) -> set[str]:
        """Names that stand for what a network gave, or for numbers made of it one by one, in a function; its
        parameters, too, where a call gives them such."""
        names = self._passed_predictions(scope) if passed_on else set[str]()
        before = None
        while before != names:
            before = set(names)
            for node in ast.walk(scope):
                if isinstance(node, ast.Assign) and self.is_prediction(node.value, names):
                    first = [t.elts[0] if isinstance(t, ast.Tuple) and t.elts else t for t in node.targets]
                    names |= {target.id for target in first if isinstance(target, ast.Name)}
        return names

    def is_prediction(self, node: ast.AST | None, names: set[str]) -> bool:
        """Whether an expression is what a network gave, one of `names`, made of such number by number, or such of all
        batches, one behind the other; also where a function of the user's returns it."""
        if isinstance(node, ast.Call) and not self.runs_network(node):
            if functions := self._functions(node):
                return all(self._returns_prediction(function) for function in functions)
            inner = receiver_of(node)
            if called(node) in CONCATENATIONS and node.args:
                each = node.args[0]
                return isinstance(each, ast.ListComp | ast.GeneratorExp) and self.is_prediction(each.elt, names)
            if inner is None or isinstance(self.value(inner), types.ModuleType):
                inner = node.args[0] if node.args else None
            return called(node) in _NUMBER_BY_NUMBER and self.is_prediction(inner, names)
        if isinstance(node, ast.Attribute):
            if node.attr in self._predicted_attributes:
                return True
            return node.attr in ("data", "logits") and self.is_prediction(node.value, names)
        return (isinstance(node, ast.Name) and node.id in names) or (node is not None and self.runs_network(node))

    def _returns_prediction(self, function: Function) -> bool:
        """Whether all that a function returns, or the first part of it, is what a network gave."""
        if function not in self._returning:
            self._returning[function] = False  # as long as that is asked
            names = self.predictions_in(function, passed_on=False)
            given = [part.value for part in ast.walk(function) if isinstance(part, ast.Return)]
            first = [value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value for value in given]
            self._returning[function] = bool(first) and all(self.is_prediction(value, names) for value in first)
        return self._returning[function]

    @cached_property
    def _returning(self) -> dict[ast.AST, bool]:
        return {}

    @cached_property
    def _predicted_attributes(self) -> set[str]:
        """Attributes that only ever get what a network gave: `self.pred = self.model(self.xb)`."""
        given: dict[str, list[bool]] = {}
        for node in self.nodes():
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                given.setdefault(node.targets[0].attr, []).append(self.runs_network(node.value))
        return {name for name, each in given.items() if all(each)}

    def functions_of(self, call: ast.Call) -> list[Function]:
        """The user's functions that a call may be of."""
        return self._functions(call)

    def parameter_of(self, function: Function, call: ast.Call, given: ast.expr) -> str:
        """The parameter of a function that a call gives an argument; empty where it cannot be told."""
        return next((name for name, value in self.arguments(function, call) if value is given), "")

    def without_gradient(self, node: ast.AST) -> bool:
        """Whether a line stands in `torch.no_grad()`, as a block or as that of its function."""
        for around in self.enclosing(node):
            items = around.items if isinstance(around, ast.With) else []
            decorators = getattr(around, "decorator_list", [])
            if says_no_gradient([*(item.context_expr for item in items), *decorators]):
                return True
        return False

    def parent(self, node: ast.AST) -> ast.AST | None:
        """What a node is a part of."""
        return self._parents.get(node)

    def last_value(self, node: ast.AST, name: str) -> ast.expr | None:
        """What a name was given last in the same function before a node, as it is written."""
        scope, line = self.scope_of(node), getattr(node, "lineno", 0)
        if scope not in self._stores:
            statements = (part for part in ast.walk(scope) if isinstance(part, ast.Assign))
            self._stores[scope] = [
                (ast.unparse(to), part.lineno, value) for part in statements for to, value in assigned(part)
            ]
        values = [value for known, given, value in self._stores[scope] if given < line and known == name]
        return values[-1] if values else None

    @cached_property
    def _stores(self) -> dict[ast.AST, list[tuple[str, int, ast.expr]]]:
        return {}

    def _passed_predictions(self, scope: ast.AST) -> set[str]:
        found: set[str] = set()
        if not isinstance(scope, Function):
            return found
        for site in self.calls_of(scope):
            if scope in self._functions(site.node) and self.scope_of(site.node) is not scope:
                known = self.predictions_in(self.scope_of(site.node), passed_on=False)
                found |= {name for name, given in self.arguments(scope, site.node) if self.is_prediction(given, known)}
        return found

    def arguments(self, function: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
        """Parameters of a function with what a call gives them."""
        names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
        if isinstance(self._parents[function], ast.ClassDef):
            names = names[1:]
        if not any(isinstance(given, ast.Starred) for given in call.args):
            yield from zip(names, call.args, strict=False)
        yield from ((word.arg, word.value) for word in call.keywords if word.arg)

    def _given(self, node: ast.AST) -> dict[str, Any]:
        """The values of the parameters around a node, by a call of its function with known values, first by one that
        was running; none of a function that the training loop stands in: its variables are known."""
        function = self.function_of(node)
        if function is None or function in self._being_read:
            return {}
        if function not in self._values_given:
            self._being_read.add(function)
            self._values_given[function] = self._read_given(function)
            self._being_read.discard(function)
        return self._values_given[function]

    def _made_in(self, function: Function | None) -> set[str]:
        """Names that a function gives values to itself, which at the first step were none, or those of others of the
        same name, since it was not running."""
        if function is None or function in self._on_stack:
            return set()
        if function not in self._made:
            names = (part for part in ast.walk(function) if isinstance(part, ast.Name))
            self._made[function] = {part.id for part in names if isinstance(part.ctx, ast.Store)}
        return self._made[function]

    @cached_property
    def _made(self) -> dict[ast.AST, set[str]]:
        return {}

    @cached_property
    def _on_stack(self) -> set[ast.AST]:
        """Functions that were running: those that the training loop stands in, and whoever calls them."""
        loop, first, last = self.loop
        found: set[ast.AST] = set()
        awaiting = [
            node
            for file, node in self._nodes
            if isinstance(node, Function)
            and (
                (file == loop and node.lineno <= first and last <= (node.end_lineno or 0))
                or (file, _first_line(node)) in self.running
            )
        ]
        while awaiting:
            function = awaiting.pop()
            if function not in found:
                found.add(function)
                calls = (node for node in self.nodes() if called(node) == function.name)
                awaiting += [caller for call in calls if (caller := self.function_of(call)) is not None]
        return found

    def _read_given(self, function: Function) -> dict[str, Any]:
        file, first, last = self.loop
        lines = range(function.lineno, (function.end_lineno or function.lineno) + 1)
        if first in lines and last in lines and function in ast.walk(self.trees[file]):
            return {}
        found: dict[str, Any] = {}
        for site in sorted(self.calls_of(function), key=lambda site: not self._is_calling(site)):
            if function in self._functions(site.node):
                values = {name: self.value(given) for name, given in self.arguments(function, site.node)}
                found |= {name: value for name, value in values.items() if value is not None and name not in found}
        return found

    @cached_property
    def _values_given(self) -> dict[ast.AST, dict[str, Any]]:
        return {}

    @cached_property
    def _being_read(self) -> set[ast.AST]:
        return set()

    def other_trainings(self) -> list[str]:
        """File and line of each loop apart from the training loop, in code that is called, that has a backward pass."""
        loop, first, last = self.loop
        found = dict[str, None]()
        for site in self.calls("backward"):
            loops, function = self.loops_of(site.node), self.function_of(site.node)
            around = any(n.lineno <= first and last <= (n.end_lineno or 0) for n in loops) and site.file == loop
            if site.often != "batch" and not around and loops and (function is None or self.calls(function.name)):
                found[f"{Path(site.file).name}, line {loops[0].lineno}"] = None
        found |= dict.fromkeys(self._called_again())
        return list(found)

    def _called_again(self) -> Iterator[str]:
        """File and line of each other call of the functions that the training loop stands in, in code that runs."""
        for function in sorted((f for f in self._on_stack if isinstance(f, Function)), key=lambda f: f.lineno):
            sites = [site for site in self.calls(function.name) if function in self._functions(site.node)]
            if any(map(self._is_calling, sites)):
                for site in sites:
                    outer = self.function_of(site.node)
                    if not self._is_calling(site) and (outer is None or self.calls(outer.name)):
                        yield f"{Path(site.file).name}, line {site.node.lineno}"

    def _is_calling(self, site: Site) -> bool:
        lines = range(site.node.lineno, (site.node.end_lineno or site.node.lineno) + 1)
        return any(file == site.file and line in lines for file, line in self.calling)

    def often(self, node: ast.AST, file: str) -> Often:
        loop, first, last = self.loop
        line = getattr(node, "lineno", 0)
        function = self.function_of(node)
        if (file == loop and first < line <= last) or function in self._of_batches:
            return "batch"
        return "epoch" if self.loops_of(node) or function in self._of_loops else "once"

    @cached_property
    def _of_batches(self) -> set[ast.AST]:
        """Functions that the training loop calls, near or far."""
        loop, first, last = self.loop
        inside = [node for node in ast.walk(self.trees[loop]) if first < getattr(node, "lineno", 0) <= last]
        hooks = () if self.library is None else self.library.hooks
        codes = [getattr(hook, "__code__", None) for hook in hooks]
        called_back = {(code.co_filename, code.co_firstlineno) for code in codes if code is not None}
        running = {
            node
            for file, node in self._nodes
            if isinstance(node, Function) and (file, _first_line(node)) in self.running | called_back
        }
        return self._reached([*inside, *(inner for function in running for inner in ast.walk(function))]) | running

    @cached_property
    def _of_loops(self) -> set[ast.AST]:
        """Functions that any loop calls, near or far."""
        loops = (node for node in self.nodes() if isinstance(node, Loop))
        return self._reached([inner for loop in loops for part in loop.body for inner in ast.walk(part)])

    def _reached(self, nodes: list[ast.AST]) -> set[ast.AST]:
        found: set[ast.AST] = set()
        awaiting = nodes
        while awaiting:
            functions = {f for node in awaiting if isinstance(node, ast.Call) for f in self._functions(node)} - found
            found |= functions
            awaiting = [inner for function in functions for inner in ast.walk(function)]
        return found

    def _functions(self, call: ast.Call) -> list[Function]:
        """The user's functions that a call may be of. `model.train()` of a network is torch's, unless its class says
        otherwise."""
        name = called(call)
        known = [
            f
            for f in self._defined.get(name, [])
            if isinstance(self._parents[f], ast.ClassDef) is not isinstance(call.func, ast.Name)
        ]
        if name not in self._defined:
            held = self._held.get(call)
            return [] if held is None else [held]
        if not known or isinstance(call.func, ast.Name):
            return known
        receiver = self.value(call.func.value) if isinstance(call.func, ast.Attribute) else None
        if receiver is None:
            return [] if name in ("train", "eval", "step", "backward", "forward") else known
        kinds = {kind.__name__ for kind in type(receiver).__mro__}
        return [f for f in known if getattr(self._parents[f], "name", "") in kinds]

    @cached_property
    def _held(self) -> dict[ast.AST, Function]:
        """Of calls by a name that no function has, the function that it holds: `self.metric(…)` where that was given to
        the object, `criterion(…)` behind `criterion = own_loss`."""
        known = {(file, _first_line(node)): node for file, node in self._nodes if isinstance(node, Function)}
        found: dict[ast.AST, Function] = {}
        for node in self.nodes():
            if isinstance(node, ast.Call) and called(node) and called(node) not in self._defined:
                value = self._held_value(node)
                value = value.func if isinstance(value, functools.partial) else value
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                place = (getattr(code, "co_filename", ""), getattr(code, "co_firstlineno", 0))
                if place in known:
                    found[node] = known[place]
        return found

    def _value_called(self, call: ast.Call) -> Any:
        """What is called, also by another name that its function gave it: `network = model`."""
        value = self.value(call.func)
        if value is None and isinstance(call.func, ast.Name):
            given = self.last_value(call, call.func.id)
            value = self.value(given) if isinstance(given, ast.Name) else None
        return value

    def _held_value(self, call: ast.Call) -> Any:
        value, function = self._value_called(call), call.func
        if value is None and isinstance(function, ast.Attribute) and ast.unparse(function.value) == "self":
            kind = next((part.name for part in self.enclosing(call) if isinstance(part, ast.ClassDef)), "")
            owner = next((one for one in self.names.values() if type(one).__name__ == kind), None)
            value = vars(owner).get(function.attr) if hasattr(owner, "__dict__") else None
        return value

    @cached_property
    def _defined(self) -> dict[str, list[Function]]:
        found: dict[str, list[Function]] = {}
        for node in self.nodes():
            if isinstance(node, Function):
                found.setdefault(node.name, []).append(node)
        return found


def _first_line(function: Function) -> int:
    """As Python counts it: that of a decorator, where there is one."""
    return min([function.lineno, *(part.lineno for part in function.decorator_list)])
