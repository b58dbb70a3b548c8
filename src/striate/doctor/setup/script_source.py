"""The code of the user's script: which calls it makes, how often, and with which values."""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from torch import nn

from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.loaded_weights import LoadedWeights
from striate.doctor.setup.syntax import (
    Node,
    assigned,
    called,
    last_name,
    names_in,
    nodes_in,
    receiver_of,
    says_no_gradient,
    stored_in,
)

Often = Literal["batch", "epoch", "once"]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.While
_ELEMENTWISE = (
    "exp", "sigmoid", "softmax", "log_softmax", "tanh", "detach", "cpu", "float", "double", "clone", "clamp", "numpy",
    "squeeze", "flatten", "ravel",
)  # fmt: skip
CONCATENATIONS = ("cat", "concat", "concatenate", "vstack")
_OWN_NAMES = ("self", "model", "net", "network")


@dataclass(frozen=True)
class Site:
    """A call in the user's code."""

    node: ast.Call
    file: str
    often: Often
    """`batch`: in each pass of the training loop; `epoch`: in each pass of another loop; or `once`."""

    @property
    def where(self) -> str:
        """File and line."""
        return f"{Path(self.file).name}, line {self.node.lineno}"

    @property
    def text(self) -> str:
        """The call as Python code."""
        return ast.unparse(self.node)


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
    """File and first line of each function that was running inside the training loop, such as a hook that is called
    by name."""
    loads: tuple[LoadedWeights, ...] = ()
    """Weights that were loaded into networks with `strict=False`."""
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
    # What was read so far.
    _returning: dict[ast.AST, bool] = field(default_factory=dict, init=False, repr=False, compare=False)
    _stores: dict[ast.AST, list[tuple[str, int, ast.expr]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _assigned_names: dict[ast.AST, set[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _known_parameters: dict[ast.AST, dict[str, Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _being_read: set[ast.AST] = field(default_factory=set, init=False, repr=False, compare=False)

    @cached_property
    def outer_names(self) -> Mapping[str, Any]:
        """The variables; of variables with the same name, that of the outermost function, where it may be a data set:
        in an inner function it may be a batch."""
        return {**self.names, **self.outermost}

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return {child: node for node in self.nodes() for child in ast.iter_child_nodes(node)}

    @overload
    def nodes(self) -> Iterator[ast.AST]: ...

    @overload
    def nodes(self, *kinds: type[Node]) -> Iterator[Node]: ...

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        """All nodes of the user's files, file by file, or those of the given kinds."""
        return (node for _, node in self._nodes if not kinds or isinstance(node, kinds))

    @cached_property
    def _nodes(self) -> list[tuple[str, ast.AST]]:
        """All nodes with their files, cached since many checks read them."""
        return [(file, node) for file, tree in self.trees.items() for node in ast.walk(tree)]

    @cached_property
    def _calls(self) -> list[ast.Call]:
        return list(self.nodes(ast.Call))

    @overload
    def enclosing(self, node: ast.AST) -> Iterator[ast.AST]: ...

    @overload
    def enclosing(self, node: ast.AST, *kinds: type[Node]) -> Iterator[Node]: ...

    def enclosing(self, node: ast.AST, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        """The nodes that contain a node, from the innermost to the module, or those of the given kinds."""
        while node in self._parents:
            node = self._parents[node]
            if not kinds or isinstance(node, kinds):
                yield node

    def file_of(self, node: ast.AST) -> str:
        """The file that contains a node."""
        module = next(self.enclosing(node, ast.Module), node)
        return next(file for file, tree in self.trees.items() if tree is module)

    def where(self, node: ast.stmt | ast.expr) -> str:
        """File and line of a node."""
        return f"{Path(self.file_of(node)).name}, line {node.lineno}"

    def function_of(self, node: ast.AST) -> Function | None:
        """The function that contains a node; None at module level."""
        return next((part for part in self.enclosing(node) if isinstance(part, Function)), None)

    def scope_of(self, node: ast.AST) -> ast.AST:
        """The function that contains a node, or else its module."""
        return self.function_of(node) or next(self.enclosing(node, ast.Module))

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
        """The value of an expression at the first step; None where unknown, and for expressions with calls other than
        `len` and `range`. `more`: values of further names."""
        if not isinstance(node, ast.expr):
            return None
        calls = list(nodes_in(node, ast.Call))
        if any(called(call) not in ("len", "range") for call in calls):
            return None
        parameters = self._parameter_values(node)
        hidden = self._assigned_in(self.function_of(node)) - parameters.keys() - more.keys()
        if names_in(node) & hidden:
            return None
        try:
            return eval(compile(ast.Expression(node), "<striate>", "eval"), {**self.names, **parameters, **more})
        except Exception:  # the user's expression
            return None

    def is_number(self, node: ast.AST | None, number: float, **more: Any) -> bool:
        """Whether an expression was this number at the first step; never of a tensor or an array."""
        value = self.value(node, **more)
        return isinstance(value, int | float) and value == number

    def calls(self, *names: str) -> list[Site]:
        """All calls of functions or methods of these names."""
        return self.sites(lambda call: called(call) in names)

    def calls_of(self, function: Function) -> list[Site]:
        """All calls of a user's function, by its name or by a variable that refers to it."""
        return self.sites(lambda call: called(call) == function.name or self._by_variable.get(call) is function)

    def mentions(self, name: str) -> bool:
        """Whether the code reads a variable or an attribute of this name, or imports it."""
        return name in self._mentioned

    @cached_property
    def _mentioned(self) -> set[str]:
        read = {
            last_name(node)
            for node in self.nodes()
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
        }
        return read | {node.name for node in self.nodes(ast.alias)}

    def was_running(self, function: Function) -> bool:
        """Whether a function was running at the first step: it contains the training loop, or calls it."""
        return function in self._on_stack

    def sites(self, matches: Callable[[ast.Call], bool]) -> list[Site]:
        """All calls that match."""
        return [self.site(node) for node in self._calls if matches(node)]

    def site(self, call: ast.Call) -> Site:
        """A call with its file, and how often it is executed."""
        return Site(call, self.file_of(call), self.often(call))

    def runs_network(self, node: ast.AST) -> bool:
        """Whether an expression is a call of a network."""
        if not isinstance(node, ast.Call):
            return False
        value = self._value_called(node)
        if isinstance(value, nn.Module):
            return not type(value).__module__.startswith("torch.nn.modules.loss")
        return isinstance(node.func, ast.Name) and node.func.id in _OWN_NAMES

    def predictions_in(self, scope: ast.AST, *, passed_on: bool = True) -> set[str]:
        """The variables of a function that are a network's output, or an elementwise function of it. `passed_on`: also
        the parameters that calls pass such values for."""
        names = self._passed_predictions(scope) if passed_on else set[str]()
        before = None
        while before != names:
            before = set(names)
            for node in nodes_in(scope, ast.Assign):
                if self.is_prediction(node.value, names):
                    first = [t.elts[0] if isinstance(t, ast.Tuple) and t.elts else t for t in node.targets]
                    names |= {target.id for target in first if isinstance(target, ast.Name)}
        return names

    def is_prediction(self, node: ast.AST | None, names: set[str]) -> bool:
        """Whether an expression is a network's output, one of `names`, an elementwise function of these, or their
        concatenation over batches; also where a user's function returns it."""
        if isinstance(node, ast.Call) and not self.runs_network(node):
            if functions := self.functions_of(node):
                return all(self._returns_prediction(function) for function in functions)
            inner = receiver_of(node)
            if called(node) in CONCATENATIONS and node.args:
                each = node.args[0]
                return isinstance(each, ast.ListComp | ast.GeneratorExp) and self.is_prediction(each.elt, names)
            if inner is None or isinstance(self.value(inner), types.ModuleType):
                inner = node.args[0] if node.args else None
            return called(node) in _ELEMENTWISE and self.is_prediction(inner, names)
        if isinstance(node, ast.Attribute):
            if node.attr in self._predicted_attributes:
                return True
            return node.attr in ("data", "logits") and self.is_prediction(node.value, names)
        return (isinstance(node, ast.Name) and node.id in names) or (node is not None and self.runs_network(node))

    @cached_property
    def predicts_lowest(self) -> bool:
        """Whether the script only takes the class with the lowest output, as of distances or negative log
        probabilities: `model(x).argmin(1)`."""
        taken = set[str]()
        for site in self.calls("argmin", "argmax"):
            owner, names = receiver_of(site.node), self.predictions_in(self.scope_of(site.node))
            if any(self.is_prediction(part, names) for part in (owner, *site.node.args[:1])):
                taken.add(called(site.node))
        return taken == {"argmin"}

    def _returns_prediction(self, function: Function) -> bool:
        """Whether a function returns a network's output, or a tuple that begins with it, at every return."""
        if function not in self._returning:
            self._returning[function] = False  # while it is computed, which may recurse
            names = self.predictions_in(function, passed_on=False)
            given = [part.value for part in nodes_in(function, ast.Return)]
            first = [value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value for value in given]
            self._returning[function] = bool(first) and all(self.is_prediction(value, names) for value in first)
        return self._returning[function]

    @cached_property
    def _predicted_attributes(self) -> set[str]:
        """Attributes that are only assigned a network's output: `self.pred = self.model(self.xb)`."""
        given: dict[str, list[bool]] = {}
        for node in self.nodes(ast.Assign):
            if isinstance(node.targets[0], ast.Attribute):
                given.setdefault(node.targets[0].attr, []).append(self.runs_network(node.value))
        return {name for name, each in given.items() if all(each)}

    def parameter_of(self, function: Function, call: ast.Call, given: ast.expr) -> str:
        """The parameter of a function that a call passes an argument for; empty where unknown."""
        return next((name for name, value in self.arguments(function, call) if value is given), "")

    def without_gradient(self, node: ast.AST) -> bool:
        """Whether a node is inside `torch.no_grad()`, as a block or as a decorator of its function."""
        for around in self.enclosing(node):
            items = around.items if isinstance(around, ast.With) else []
            decorators = getattr(around, "decorator_list", [])
            if says_no_gradient([*(item.context_expr for item in items), *decorators]):
                return True
        return False

    def parent(self, node: ast.AST) -> ast.AST | None:
        """The node that directly contains a node."""
        return self._parents.get(node)

    def last_value(self, node: ast.AST, name: str) -> ast.expr | None:
        """The expression of the last assignment to `name` before a node in the same function; None without one."""
        scope, line = self.scope_of(node), getattr(node, "lineno", 0)
        if scope not in self._stores:
            statements = nodes_in(scope, ast.Assign)
            self._stores[scope] = [
                (ast.unparse(to), part.lineno, value) for part in statements for to, value in assigned(part)
            ]
        values = [value for known, given, value in self._stores[scope] if given < line and known == name]
        return values[-1] if values else None

    def _passed_predictions(self, scope: ast.AST) -> set[str]:
        found: set[str] = set()
        if not isinstance(scope, Function):
            return found
        for site in self.calls_of(scope):
            if scope in self.functions_of(site.node) and self.scope_of(site.node) is not scope:
                known = self.predictions_in(self.scope_of(site.node), passed_on=False)
                found |= {name for name, given in self.arguments(scope, site.node) if self.is_prediction(given, known)}
        return found

    def arguments(self, function: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
        """The parameters of a function, each with the argument that a call passes."""
        names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
        if isinstance(self._parents[function], ast.ClassDef):
            names = names[1:]
        if not any(isinstance(given, ast.Starred) for given in call.args):
            yield from zip(names, call.args, strict=False)
        yield from ((word.arg, word.value) for word in call.keywords if word.arg)

    def _parameter_values(self, node: ast.AST) -> dict[str, Any]:
        """The values of the parameters of the function that contains a node, by a call with known values, preferably
        one that was running. Empty for the function that contains the training loop, whose variables are known."""
        function = self.function_of(node)
        if function is None or function in self._being_read:
            return {}
        if function not in self._known_parameters:
            self._being_read.add(function)
            self._known_parameters[function] = self._read_parameters(function)
            self._being_read.discard(function)
        return self._known_parameters[function]

    def _assigned_in(self, function: Function | None) -> set[str]:
        """The variables that a function assigns, if it was not running at the first step: they had no value then, and a
        known value of such a name belongs to another variable."""
        if function is None or function in self._on_stack:
            return set()
        if function not in self._assigned_names:
            self._assigned_names[function] = stored_in(function)
        return self._assigned_names[function]

    @cached_property
    def _on_stack(self) -> set[ast.AST]:
        """The functions that were running: those that contain the training loop, and their callers."""
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

    def _read_parameters(self, function: Function) -> dict[str, Any]:
        file, first, last = self.loop
        lines = range(function.lineno, (function.end_lineno or function.lineno) + 1)
        if first in lines and last in lines and self.file_of(function) == file:
            return {}
        found: dict[str, Any] = {}
        for site in sorted(self.calls_of(function), key=lambda site: not self._is_calling(site)):
            if function in self.functions_of(site.node):
                values = {name: self.value(given) for name, given in self.arguments(function, site.node)}
                found |= {name: value for name, value in values.items() if value is not None and name not in found}
        return found

    def other_trainings(self) -> list[str]:
        """File and line of each loop apart from the training loop, in code that is called, that has a backward pass."""
        loop, first, last = self.loop
        found = dict[str, None]()
        for site in self.calls("backward"):
            loops, function = self.loops_of(site.node), self.function_of(site.node)
            around = any(n.lineno <= first and last <= (n.end_lineno or 0) for n in loops) and site.file == loop
            if site.often != "batch" and not around and loops and (function is None or self.calls(function.name)):
                found[self.where(loops[0])] = None
        found |= dict.fromkeys(self._called_again())
        return list(found)

    def _called_again(self) -> Iterator[str]:
        """File and line of each other call of the functions that contain the training loop, in code that is called."""
        for function in sorted((f for f in self._on_stack if isinstance(f, Function)), key=lambda f: f.lineno):
            sites = [site for site in self.calls(function.name) if function in self.functions_of(site.node)]
            if any(map(self._is_calling, sites)):
                for site in sites:
                    outer = self.function_of(site.node)
                    if not self._is_calling(site) and (outer is None or self.calls(outer.name)):
                        yield site.where

    def _is_calling(self, site: Site) -> bool:
        lines = range(site.node.lineno, (site.node.end_lineno or site.node.lineno) + 1)
        return any(file == site.file and line in lines for file, line in self.calling)

    def often(self, node: ast.AST) -> Often:
        """How often a node is executed."""
        loop, first, last = self.loop
        line = getattr(node, "lineno", 0)
        function = self.function_of(node)
        if function in self._of_batches or (first < line <= last and self.file_of(node) == loop):
            return "batch"
        return "epoch" if self.loops_of(node) or function in self._of_loops else "once"

    @cached_property
    def _of_batches(self) -> set[ast.AST]:
        """The functions that the training loop calls, directly or indirectly."""
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
        return self.called_from([*inside, *nodes_in(running)]) | running

    @cached_property
    def training_loop(self) -> Loop | None:
        """The training loop; None where a library has it."""
        file, first, _ = self.loop
        found = (node for name, node in self._nodes if name == file and isinstance(node, Loop) and node.lineno == first)
        return next(found, None)

    @cached_property
    def _of_loops(self) -> set[ast.AST]:
        """The functions that any loop calls, directly or indirectly."""
        loops = (node for node in self.nodes() if isinstance(node, Loop))
        return self.called_from([inner for loop in loops for inner in nodes_in(loop.body)])

    @cached_property
    def running_loops(self) -> list[Loop]:
        """The loops that were running at the first step."""
        return [
            node
            for file, node in self._nodes
            if isinstance(node, Loop)
            and any(file == at and node.lineno <= line <= (node.end_lineno or line) for at, line in self.calling)
        ]

    @cached_property
    def repeated_around_step(self) -> set[ast.AST]:
        """The nodes of the loops that were running at the first step, and the functions that these loops call, directly
        or indirectly."""
        running = [inner for loop in self.running_loops for inner in nodes_in(loop.body)]
        return {*running, *self.called_from(running)}

    def called_from(self, nodes: Sequence[ast.AST]) -> set[ast.AST]:
        """The functions that nodes call, directly or indirectly."""
        found: set[ast.AST] = set()
        awaiting = nodes
        while awaiting:
            functions = {f for node in awaiting if isinstance(node, ast.Call) for f in self.functions_of(node)} - found
            found |= functions
            awaiting = list(nodes_in(functions))
        return found

    def functions_of(self, call: ast.Call) -> list[Function]:
        """The user's functions that a call may call. `model.train()` of a network calls torch's method, unless the
        network's class overrides it."""
        name = called(call)
        known = [
            f
            for f in self._defined.get(name, [])
            if isinstance(self._parents[f], ast.ClassDef) is not isinstance(call.func, ast.Name)
        ]
        if name not in self._defined:
            function = self._by_variable.get(call)
            return [] if function is None else [function]
        if not known or isinstance(call.func, ast.Name):
            return known
        receiver = self.value(call.func.value) if isinstance(call.func, ast.Attribute) else None
        if receiver is None:
            return [] if name in ("train", "eval", "step", "backward", "forward") else known
        kinds = {kind.__name__ for kind in type(receiver).__mro__}
        return [f for f in known if getattr(self._parents[f], "name", "") in kinds]

    @cached_property
    def _by_variable(self) -> dict[ast.AST, Function]:
        """For each call by a name that is not a function's own, the function that is called: `self.metric(…)` where the
        object has it as an attribute, `criterion(…)` after `criterion = own_loss`, `stopper(…)` of an object whose
        class defines `__call__`."""
        known = {(file, _first_line(node)): node for file, node in self._nodes if isinstance(node, Function)}
        found: dict[ast.AST, Function] = {}
        for node in self.nodes(ast.Call):
            if called(node) and called(node) not in self._defined:
                value = self._function_value(node)
                value = value.func if isinstance(value, functools.partial) else value
                value = value if hasattr(value, "__code__") else getattr(type(value), "__call__", value)  # noqa: B004
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                place = (getattr(code, "co_filename", ""), getattr(code, "co_firstlineno", 0))
                if place in known:
                    found[node] = known[place]
        return found

    def _value_called(self, call: ast.Call) -> Any:
        """The object that is called, also by an alias in its function: `network = model`."""
        value = self.value(call.func)
        if value is None and isinstance(call.func, ast.Name):
            given = self.last_value(call, call.func.id)
            value = self.value(given) if isinstance(given, ast.Name) else None
        return value

    def _function_value(self, call: ast.Call) -> Any:
        value, function = self._value_called(call), call.func
        if value is None and isinstance(function, ast.Attribute) and ast.unparse(function.value) == "self":
            kind = next((part.name for part in self.enclosing(call, ast.ClassDef)), "")
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
    """The first line as in `co_firstlineno`: that of the first decorator, if there is one."""
    return min([function.lineno, *(part.lineno for part in function.decorator_list)])
