"""`data.leak` and `optim.parameters-missing` of folds and searches: do each fold and each rate have a network of their
own, and an optimizer for it?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, last_name, names_in, nodes_in, receiver_of, stored_in
from striate.records import Finding

_RESETS = ("reset_parameters", "apply")
_NUMBERING = {"range", "unique", "set"}
_PASSING_ON = ("zip", "enumerate", "reversed", "list", "tuple", "items", "values", "sorted", "range", "len")


def _shared_network(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for loop in _loops_over_folds(source):
        for name in _names_of(source, nn.Module, evidence.setup.model):
            if not _is_used(source, loop, name) or _made_in(source, loop, name) or _is_reset(source, loop, name):
                continue
            yield SHARED_NETWORK.finding(
                severity="error",
                where=f"line {loop.lineno}",
                measured=f"`{name}` is created before the loop over folds and trained in each fold",
                why="From the second fold on, the network was trained on its validation samples: its metrics are "
                "too good.",
                remedy=f"create `{name}` and its optimizer at the beginning of each fold",
            )
            return


def _optimizer_of_another_fold(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for loop in _loops_over_folds(source):
        new_networks = any(_made_in(source, loop, name) for name in _names_of(source, nn.Module, evidence.setup.model))
        for name in _names_of(source, Optimizer, evidence.setup.optimizer) if new_networks else ():
            if not _is_used(source, loop, name) or _made_in(source, loop, name):
                continue
            yield OPTIMIZER_OF_ANOTHER_FOLD.finding(
                severity="error",
                where=f"line {loop.lineno}",
                measured=f"each fold creates a network, but not `{name}`, which holds the parameters of the first "
                "network",
                why="The networks of all later folds are never trained.",
                remedy=f"create `{name}` in each fold, after its network",
            )
            return


def _shared_by_settings(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for loop in _loops_over_settings(source, evidence.setup.optimizer):
        for name in _names_of(source, nn.Module, evidence.setup.model):
            if not _is_used(source, loop, name) or _made_in(source, loop, name) or _is_reset(source, loop, name):
                continue
            value = ast.unparse(loop.target)
            yield SHARED_BY_SETTINGS.finding(
                severity="warning",
                where=f"line {loop.lineno}",
                measured=f"`{name}` is created before the loop over `{value}`, and each value trains it further; the "
                "best value is kept",
                why="Each value begins with what the network learned with the values before it: which one is best "
                "depends on their order.",
                remedy=f"create `{name}` in the loop, with the same seed for each value",
            )
            return


def _loops_over_settings(source: ScriptSource, optimizer: object) -> Iterator[ast.For]:
    """The loops that train with one value after another of a setting of the optimizer, such as its learning rate, and
    keep the best: a value that is assigned where results are compared, or results by value, of which one is chosen.
    Without a choice, the values may be a schedule."""
    groups = optimizer.param_groups if isinstance(optimizer, Optimizer) else []
    settings = [value for group in groups for value in group.values() if isinstance(value, float)]
    for loop in source.running_loops:
        if not isinstance(loop, ast.For) or not isinstance(loop.target, ast.Name):
            continue
        name, value = loop.target.id, source.outer_names.get(loop.target.id)
        if isinstance(value, float) and value in settings and _keeps_best(source, loop, name):
            yield loop


def _keeps_best(source: ScriptSource, loop: ast.For, name: str) -> bool:
    def has_value(node: ast.AST) -> bool:
        return name in names_in(node)

    kept = set[str]()
    for node in ast.walk(loop):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
            if any(isinstance(part, ast.Assign) and has_value(part.value) for part in node.body):
                return True
        elif isinstance(node, ast.Assign):
            kept |= {
                ast.unparse(target.value)
                for target in node.targets
                if isinstance(target, ast.Subscript) and has_value(target.slice)
            }
        elif called(node) == "append" and isinstance(node, ast.Call) and any(map(has_value, node.args)):
            kept.add(ast.unparse(receiver_of(node) or node))
    chosen = [site.node.args[0] for site in source.calls("max", "min", "sorted") if site.node.args]
    return any(ast.unparse(part) in kept for part in nodes_in(chosen, ast.expr))


def _loops_over_folds(source: ScriptSource) -> Iterator[ast.For]:
    for node in source.nodes(ast.For):
        words = names_in(node.target)
        calls = list(nodes_in(node.iter, ast.Call))
        names, target = {called(part) for part in calls}, node.target
        if "enumerate" in names and isinstance(target, ast.Tuple):
            target = target.elts[-1]
        # The `split` of a tensor yields single batches, and `zip` yields pairs of batches.
        pairs = isinstance(target, ast.Tuple) and "zip" not in names
        splits = pairs and any(called(part) == "split" and receiver_of(part) is not None for part in calls)
        if names & _NUMBERING or ast.unparse(node.iter) == "folds":  # `range(CFG.n_folds)`, `folds.unique().tolist()`
            words |= {last_name(part) for part in ast.walk(node.iter)}
            words |= {str(part.value) for part in nodes_in(node.iter, ast.Constant)}  # `set(rows["fold"])`
        if splits or any("fold" in word.lower() for word in words):
            yield node


def _names_of(source: ScriptSource, kind: type, thing: object) -> list[str]:
    return [name for name, value in source.names.items() if value is thing and isinstance(value, kind)]


def _is_used(source: ScriptSource, loop: ast.For, name: str) -> bool:
    """Whether a call in the loop uses the variable `name` as an argument or calls its method, or a function called
    there uses the global variable."""
    inside = list(nodes_in(loop, ast.Call))
    for function in (known for node in inside for known in source.functions_of(node)):
        own = {part.arg for part in (*function.args.args, *function.args.kwonlyargs)}
        if name in names_in(function) - stored_in(function) - own:
            return True
    return any(
        isinstance(part, ast.Name) and part.id == name for node in inside for part in (*node.args, receiver_of(node))
    )


def _made_in(source: ScriptSource, loop: ast.For, name: str, awaited: frozenset[str] = frozenset()) -> bool:
    """Whether each pass assigns the name unconditionally: in the loop itself, or in a function called there. An inner
    loop assigns it if it goes through something that each pass makes. `awaited`: names that are being looked up."""
    inside = list(nodes_in(loop.body))
    functions = [known for node in inside if isinstance(node, ast.Call) for known in source.functions_of(node)]
    for scope in (loop, *functions):
        for node in ast.walk(scope):
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.For | ast.comprehension) and node is not loop:
                targets = [node.target]
            named = list(nodes_in(targets, ast.Name))
            around = [part for part in source.enclosing(node) if loop in source.enclosing(part)]
            if not any(part.id == name for part in named) or any(isinstance(part, ast.If) for part in around):
                continue
            if isinstance(node, ast.Assign) or _is_made_in(source, loop, node.iter, awaited | {name}):  # type: ignore[attr-defined]
                return True
    return False


def _is_made_in(source: ScriptSource, loop: ast.For, iterated: ast.expr, awaited: frozenset[str]) -> bool:
    """Whether each pass makes what an inner loop goes through: a variable assigned there, or what a call returns."""
    inside = list(ast.walk(iterated))
    if any(isinstance(part, ast.Call) and called(part) not in _PASSING_ON for part in inside):
        return True
    names = {part.id for part in inside if isinstance(part, ast.Name)} - awaited - set(_PASSING_ON)
    return any(_made_in(source, loop, name, awaited) for name in names)


def _is_reset(source: ScriptSource, loop: ast.For, name: str) -> bool:
    """Whether each pass resets the network: to a state saved before the loop, or by a function for that."""
    calls = list(nodes_in(loop, ast.Call))
    functions = [known for node in calls for known in source.functions_of(node)]
    calls += list(nodes_in(functions, ast.Call))
    for node in calls:
        if called(node) in _RESETS or any(word in called(node).lower() for word in ("reset", "init")):
            return True
        kept = node.args[0] if called(node) == "load_state_dict" and node.args else None
        if isinstance(kept, ast.Name) and not _made_in(source, loop, kept.id):
            owner = receiver_of(node)
            inside = (part for part in nodes_in(loop, ast.Name) if part.id == kept.id)
            if isinstance(owner, ast.Name) and owner.id == name and all(isinstance(p.ctx, ast.Load) for p in inside):
                return True
    return False


SHARED_NETWORK = Check(
    codes=("data.leak",),
    threshold="a network that is created before a loop over folds, and neither created nor reset in it",
    run=_shared_network,
    of_source=True,
    explains="data.split-overlap",
)
SHARED_BY_SETTINGS = Check(
    codes=("data.leak",),
    threshold="a network that is created before a loop over values of the optimizer's settings of which the best is "
    "kept, and neither created nor reset in it",
    run=_shared_by_settings,
    of_source=True,
)
OPTIMIZER_OF_ANOTHER_FOLD = Check(
    codes=("optim.parameters-missing",),
    threshold="a loop over folds that creates the network in each pass, but the optimizer in none, or only under a "
    "condition",
    run=_optimizer_of_another_fold,
    of_source=True,
)
