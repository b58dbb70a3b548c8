"""`reward.target-stale`: does the target network get the weights of the trained network?"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.other_optimizers import not_optimized
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_optimizers
from striate.doctor.setup.reward_code import (
    Bootstrap,
    bootstraps,
    environment_steps,
    learns_values,
    network_called,
    optimized,
)
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, last_name, names_in, nodes_in, receiver_of, variable_of
from striate.observe.tensors import tensors_in
from striate.records import Finding


def bootstraps_of(evidence: Evidence) -> tuple[ScriptSource, list[Bootstrap]]:
    """The script, and its discounted values of later states. Raises NoEvidence where there are none."""
    source = evidence.source
    known = list(bootstraps(source)) if environment_steps(source) or learns_values(source) else []
    if not known:
        raise NoEvidence("nothing is learned from discounted values of later states")
    return source, known


def _target_stale(evidence: Evidence) -> Iterator[Finding]:
    source, known = bootstraps_of(evidence)
    trained = optimized(source)
    for bootstrap in known:
        for part in bootstrap.parts:
            function = network_called(source, part)
            value = None if function is None else source.value(function)
            if function is None or not isinstance(value, nn.Module):
                continue
            if value is evidence.setup.model or any(id(parameter) in trained for parameter in value.parameters()):
                continue
            if _lacks_optimizer(source, value):
                continue
            name = _last(function)
            names = {name} | _names_in_loops(source, name)
            tensors = _memory(list(value.parameters()))
            repeated = [_repeats(source, node) for each in names for node in _updates(source, each, tensors)]
            if any(repeated):
                continue
            once = "gets new weights only once" if repeated else "never gets new weights"
            yield TARGET_STALE.finding(
                severity="error",
                where=source.where(bootstrap.node),
                measured=f"the target network `{name}` {once}",
                why="All targets are values of an untrained network: rewards that come later are never learned.",
                remedy=f"`if step % 1000 == 0: {ast.unparse(function)}.load_state_dict(network.state_dict())` in the "
                "loop",
            )
            return


def _lacks_optimizer(source: ScriptSource, network: nn.Module) -> bool:
    """Whether a network gets gradients but has no optimizer, and optimizers lack parameters of its shapes."""
    held = (group["params"] for optimizer in reached_optimizers(source.names) for group in optimizer.param_groups)
    shapes = Counter(p.shape for p in network.parameters()) - Counter(p.shape for params in held for p in params)
    return bool(shapes) and any(network is module for module in not_optimized(source))


def _names_in_loops(source: ScriptSource, name: str) -> set[str]:
    """The loop variables for a network in loops over literal tuples: `for net, target in ((q1, q1_target), …)`."""
    loops = [loop for loop in source.nodes(ast.For) if isinstance(loop.iter, ast.Tuple | ast.List)]
    rows = ((loop.target, row) for loop in loops for row in getattr(loop.iter, "elts", []))
    places = (place for target, row in rows for place in _bound(target, getattr(row, "elts", [])) or [(target, row)])
    targets = (target for target, row in places if any(last_name(part) == name for part in ast.walk(row)))
    return {variable for target in targets for variable in names_in(target)}


def _bound(target: ast.expr, values: Sequence[Any]) -> list[tuple[ast.expr, Any]]:
    """The variables of a tuple, each with its value; empty where their numbers differ."""
    names = target.elts if isinstance(target, ast.Tuple) else []
    return list(zip(names, values, strict=True)) if len(names) == len(values) else []


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ast.unparse(node)


def _memory(tensors: object) -> set[int]:
    """The memory addresses of tensors."""
    return {tensor.data_ptr() for tensor in tensors_in(tensors)}


def _updates(source: ScriptSource, name: str, tensors: set[int]) -> Iterator[ast.AST]:
    """The nodes that change the weights of a network of this name, or may: they load a state, loop
    over its parameters or a list of them, or pass it to a function that is named for updates. `tensors`: the memory
    addresses of its parameters."""
    for node in source.nodes():
        if isinstance(node, ast.Call):
            receiver = receiver_of(node)
            loads = called(node) == "load_state_dict" and receiver is not None and _last(receiver) == name
            loads = loads and not (node.args and _is_own_state(node.args[0], name))
            words = ("update", "sync", "polyak", "copy", "soft", "ema")
            passed = [part for part in node.args if _last(part) == name]
            passed = passed if any(word in called(node).lower() for word in words) else []
            listed = called(node).startswith("_foreach_") and not tensors.isdisjoint(_listed(source, node.args[:1]))
            updates = passed and called(node) != "deepcopy" and not _only_runs(source, node, passed[0])
            if listed or loads or updates:
                yield node
        elif isinstance(node, ast.For):
            loops = _goes_through(node.iter, name) or tensors & _listed(source, [node.iter, *_zipped(node)])
            if loops and not _only_reads(node, _variables(source, node, name, tensors)):
                yield node
        elif (
            isinstance(node, ast.Assign)
            and name in map(_last, node.targets)
            and any(called(part) == "deepcopy" for part in ast.walk(node.value))
        ):
            yield node


def _only_runs(source: ScriptSource, call: ast.Call, network: ast.expr) -> bool:
    """Whether functions of the script only run a network that a call passes to them."""
    functions = source.functions_of(call)
    for function in functions:
        name = source.parameter_of(function, call, network)
        used = [part for part in nodes_in(function, ast.Name) if part.id == name]
        runs = [part for part in used if isinstance(outer := source.parent(part), ast.Call) and outer.func is part]
        if not name or len(runs) < len(used):
            return False
    return bool(functions)


def _is_own_state(state: ast.expr, name: str) -> bool:
    """Whether a state is that of the network itself, `target.state_dict()`."""
    owner = receiver_of(state) if isinstance(state, ast.Call) and called(state) == "state_dict" else None
    return owner is not None and _last(owner) == name


def _goes_through(node: ast.expr, name: str) -> bool:
    calls = [part for part in nodes_in(node, ast.Call) if called(part) in ("parameters", "state_dict")]
    return any((receiver := receiver_of(call)) is not None and _last(receiver) == name for call in calls)


def _zipped(loop: ast.For) -> list[ast.expr]:
    return loop.iter.args if isinstance(loop.iter, ast.Call) and called(loop.iter) == "zip" else []


def _listed(source: ScriptSource, nodes: list[ast.expr]) -> set[int]:
    """The memory addresses of tensors in lists, `pairs = [(slow, fast) for …]`; iterators are not consumed."""
    return _memory([source.value(node) for node in nodes])


def _variables(source: ScriptSource, loop: ast.For, name: str, tensors: set[int]) -> set[str]:
    """The loop variables that hold the network's tensors, in a loop that has others, too."""
    zipped, rows = _zipped(loop), source.value(loop.iter)
    if not zipped and isinstance(rows, list | tuple) and rows and isinstance(rows[0], list | tuple):
        return {ast.unparse(target) for target, part in _bound(loop.target, rows[0]) if tensors & _memory(part)}
    bound = _bound(loop.target, zipped)
    return {ast.unparse(v) for v, part in bound if _goes_through(part, name) or tensors & _listed(source, [part])}


def _only_reads(loop: ast.For, own: set[str]) -> bool:
    """Whether a loop over parameters assigns only to its variables, `target = tau * param`, which does not change the
    tensors, or writes only to those of another network, `param.data.copy_(target.data)`. `own`: the variables that hold
    the network's tensors."""
    stores = [part.targets for part in loop.body if isinstance(part, ast.Assign)]
    if len(stores) == len(loop.body) and all(isinstance(part, ast.Name) for targets in stores for part in targets):
        return True
    writes = [part.value for part in loop.body if isinstance(part, ast.Expr)]
    places = [receiver_of(part) for part in writes if isinstance(part, ast.Call) and called(part).endswith("_")]
    written = {variable_of(place) for place in places if place is not None}
    others = {ast.unparse(part) for part in getattr(loop.target, "elts", [])} - own
    return bool(own) and len(places) == len(loop.body) and bool(written) and written <= others


def _repeats(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a node runs repeatedly; not under `if step % n == 0` with an n beyond the number of steps."""
    if source.often(node) == "once":
        return False
    for around in source.enclosing(node, ast.If):
        for part in ast.walk(around.test):
            if is_operation(part, ast.Mod):
                every, steps = source.value(part.right), _steps(source, node)
                if isinstance(every, int) and steps is not None and every > steps:
                    return False
    return True


def _steps(source: ScriptSource, node: ast.AST) -> int | None:
    """The number of passes of the loops around a node; None where it is unknown."""
    total = 1
    loops = source.loops_of(node)
    for loop in loops:
        values = source.value(loop.iter) if isinstance(loop, ast.For) else None
        if not isinstance(values, range | list | tuple):
            return None
        total *= len(values)
    return total if loops else None


TARGET_STALE = Check(
    codes=("reward.target-stale",),
    threshold="repeatedly, within the steps of the loop",
    run=_target_stale,
    of_source=True,
    of_rewards=True,
)
