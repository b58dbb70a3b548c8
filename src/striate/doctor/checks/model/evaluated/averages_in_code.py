"""Averages of the weights that the code starts too late, or assigns to a loop variable instead of a tensor."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.checks.model.evaluated.code import CODE
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, last_name, names_in, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import several

_TENSORS_OF = ("parameters", "named_parameters", "buffers", "named_buffers", "state_dict")


def begins_too_late(source: ScriptSource) -> Finding | None:
    """An average that is updated only from an epoch on that training does not reach."""
    for site in source.calls("update_parameters") if source.epochs else ():
        for test in (part.test for part in source.enclosing(site.node, ast.If)):
            if not isinstance(test, ast.Compare) or len(test.ops) != 1 or "epoch" not in ast.unparse(test.left):
                continue
            begins = source.value(test.comparators[0])
            if type(begins) is not int or not isinstance(test.ops[0], ast.Gt | ast.GtE):
                continue
            if begins + isinstance(test.ops[0], ast.Gt) >= (source.epochs or 0):
                return Finding(
                    code=CODE,
                    severity="error",
                    where=site.where,
                    measured=f"`{site.text}` is under `if {ast.unparse(test)}`, where the limit is {begins}, but there "
                    f"are only {several(source.epochs or 0, 'epoch')}: it never runs",
                    threshold="an average that starts only after the script's last epoch",
                    why="The average keeps its initial weights and contains nothing of the training.",
                    remedy="start the average within the training, such as at three quarters of its epochs",
                )
    return None


def assigned_to_variable(evidence: Evidence) -> Finding | None:
    """An average that a loop over tensors assigns to its variable."""
    for network, line, where in _averages_renamed(evidence.source):
        if evidence.source.value(network) is evidence.setup.model:
            continue
        name = ast.unparse(network)
        return Finding(
            code=CODE,
            severity="error",
            where=where,
            measured=f"`{ast.unparse(line)}` assigns the average to a variable of the loop, not to the tensors of "
            f"`{name}`",
            threshold="an average that a loop over tensors assigns to its variable",
            why="The average keeps its initial weights and contains nothing of the training.",
            remedy=f"write into the tensor: `{ast.unparse(line.targets[0])}.copy_({ast.unparse(line.value)})`, within "
            "`torch.no_grad()`",
        )
    return None


def _averages_renamed(source: ScriptSource) -> Iterator[tuple[ast.expr, ast.Assign, str]]:
    """Networks whose tensors do not get the averages that a loop computes, the line that assigns these to the loop's
    variable, and its place: `for a, p in zip(ema.parameters(), net.parameters()): a = 0.99 * a + 0.01 * p`."""
    for loop in source.nodes(ast.For):
        function = source.function_of(loop)
        if function is not None and not source.calls_of(function):
            continue
        for name, network in tensors_named(loop).items():
            node = next((part for part in ast.walk(loop) if _renames(loop, part, name)), None)
            if isinstance(node, ast.Assign):
                yield network, node, source.where(node)


def tensors_named(loop: ast.For) -> dict[str, ast.expr]:
    """The variables of a loop over tensors of networks, or over pairs of names and tensors, each with its network."""
    iterated, targets = loop.iter, loop.target
    pairs = [(targets, iterated)]
    if called(iterated) == "zip" and isinstance(iterated, ast.Call) and isinstance(targets, ast.Tuple):
        pairs = list(zip(targets.elts, iterated.args, strict=False))
    networks: dict[str, ast.expr] = {}
    for target, tensors in pairs:
        last = target.elts[-1] if isinstance(target, ast.Tuple) else target  # (name, tensor)
        calls = [part for part in nodes_in(tensors, ast.Call) if called(part) in _TENSORS_OF]
        owner = receiver_of(calls[0]) if len(calls) == 1 else None
        if isinstance(last, ast.Name) and owner is not None:
            networks[last.id] = owner
    return networks


def _renames(loop: ast.For, node: ast.AST, name: str) -> bool:
    """Whether a line assigns to a loop variable an average of itself and another loop variable, without an in-place
    method, and nothing reads the variable later in the loop."""
    if not isinstance(node, ast.Assign) or [last_name(target) for target in node.targets] != [name]:
        return False
    if not isinstance(node.targets[0], ast.Name):
        return False
    inside = list(ast.walk(node.value))
    names, others = names_in(node.value), names_in(loop.target) - {name}
    in_place = any(called(part).endswith("_") for part in inside)
    later = (part for part in ast.walk(loop) if getattr(part, "lineno", 0) > (node.end_lineno or node.lineno))
    read = any(isinstance(part, ast.Name) and part.id == name for part in later)
    return name in names and bool(names & others) and not in_place and not read
