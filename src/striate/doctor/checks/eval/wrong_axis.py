"""`eval.wrong-axis`: are predictions read along the class axis of the outputs?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.targets.keypoints import points_are_across_first
from striate.doctor.checks.eval.decoded_peaks import rows_before_columns
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import argument, assigned, called, receiver_of
from striate.records import Finding

_ALONG = {"argmax": 0, "max": 0, "softmax": 0, "log_softmax": 0, "topk": 1}


def _axes(evidence: Evidence) -> Iterator[Finding]:
    site = next(rows_before_columns(evidence.source), None)
    if site is not None and points_are_across_first(evidence):
        yield WRONG_AXIS.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` gives the row and column of a peak, but the points of the data are (x, y)",
            limit="the row of a peak before its column, though points are (x, y)",
            why="It compares x with y: the metric is wrong, whatever the network predicts.",
            remedy="put the column first: `torch.stack([index % width, index // width], -1)`",
        )
        return
    site = next(_neighbors_along_rows(evidence.source), None)
    if site is not None:
        yield WRONG_AXIS.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` runs along axis 0: it returns k rows, but their labels are compared with a column",
            limit="nearest neighbors along axis 0 of scores between all samples, whose labels are compared with a "
            "column",
            why="Each label is compared with the neighbors of all other samples: one of them is right by chance.",
            remedy="take the nearest of each row, along axis 1: `scores.topk(k, dim=1)`",
        )
        return
    yield from _wrong_axis(evidence)


def _neighbors_along_rows(source: ScriptSource) -> Iterator[Site]:
    """Calls of `topk` along axis 0 of the scores between all samples, (k, M), whose labels are compared with a column,
    (N, 1): `labels[(a @ b.t()).topk(1, dim=0).indices] == targets[:, None]`."""
    for site in source.calls("topk"):
        axis = argument(site.node, max(len(site.node.args) - 1, 0), "dim")
        owner = receiver_of(site.node)
        scores = source.last_value(site.node, owner.id) if isinstance(owner, ast.Name) else owner
        text = "" if scores is None else ast.unparse(scores)
        if axis is None or source.value(axis) != 0 or not _PAIRWISE.search(text):
            continue
        scope, chosen = source.scope_of(site.node), source.parent(site.node)
        values = [(ast.unparse(to), value) for part in ast.walk(scope) for to, value in assigned(part)]
        names = {name for name, value in values if value is chosen} - {n for n, value in values if value is not chosen}
        for node in ast.walk(scope):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            found = (isinstance(side, ast.Subscript) and ast.unparse(side.slice) in names for side in sides)
            if any(found) and any(map(_is_column, sides)):
                yield site


_PAIRWISE = re.compile(r" @ .*\.(t\(\)|m?T|transpose\([^()]*\))$|\bcdist\(.*\)$")


def _is_column(node: ast.expr) -> bool:
    """Whether a node makes a column, as `y[:, None]` or `y.unsqueeze(1)`."""
    return ast.unparse(node).endswith(("[:, None]", ".unsqueeze(1)", ".unsqueeze(-1)", ".view(-1, 1)"))


def _wrong_axis(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    outputs = evidence.first.outputs
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2:
        raise NoEvidence("no output of the network has a class axis")
    for site in source.calls("Softmax", "LogSoftmax"):  # `nn.Softmax(dim=0)(outputs)`
        outer, axis = source.parent(site.node), argument(site.node, 0, "dim")
        operand = outer.args[0] if isinstance(outer, ast.Call) and outer.func is site.node and outer.args else None
        along = source.value(axis) if axis is not None else None
        if along == 0 and source.is_prediction(operand, source.predictions_in(source.scope_of(site.node))):
            measured = _OF_SAMPLES.format(ast.unparse(outer or site.node))
            yield _along(site.where, measured, "samples", outputs, "nn.Softmax(dim=1)(outputs)")
            return
    for site in source.calls(*_ALONG):
        names = source.predictions_in(source.scope_of(site.node))
        owner, place = receiver_of(site.node), _ALONG[called(site.node)]
        if not source.is_prediction(_whole(owner), names):  # torch.argmax(outputs, 0)
            owner, place = (site.node.args[0] if site.node.args else None), place + 1
        if not source.is_prediction(_whole(owner), names):
            continue
        axis = argument(site.node, place, "dim") or argument(site.node, place, "axis")
        if owner is not _whole(owner):
            along = source.value(axis) if axis is not None else None
            if along is not None and along not in (-1, outputs.ndim - 1) and outputs.ndim > 2:
                measured = f"`{site.text}` runs along axis {along}, but chooses among values of the last axis"
                yield _along(site.where, measured, "positions", outputs, _with_axis(site.node, axis, -1))
                return
            continue
        if isinstance(axis, ast.Constant) and axis.value == 0 and type(axis.value) is int:
            measured, right = _OF_SAMPLES.format(site.text), _with_axis(site.node, axis, 1)
            yield _along(site.where, measured, "samples", outputs, right)
            return
        along = source.value(axis) if axis is not None else None
        of_one = along in (1, -1) and outputs.shape[1:] == (1,)
        if site.often == "once" and source.other_trainings():
            of_one = False  # the network of another training may have more outputs
        if of_one and (called(site.node) in ("argmax", "softmax") or _takes_indices(source, site.node)):
            yield _of_one(site, outputs)
            return


def _takes_indices(source: ScriptSource, call: ast.Call) -> bool:
    """Whether the script takes the indices that `max` returns, as `_, predicted = outputs.max(1)`."""
    around = source.parent(call)
    if called(call) != "max" or around is None:
        return False
    if isinstance(around, ast.Assign) and isinstance(around.targets[0], ast.Tuple):
        return ast.unparse(around.targets[0].elts[-1]) != "_"
    return ast.unparse(around).endswith((")[1]", ").indices"))


def _whole(node: ast.expr | None) -> ast.expr | None:
    """The tensor of which an expression takes a slice of the last axis, `outputs` of `outputs[..., 3:]`; other
    expressions unchanged."""
    index = node.slice if isinstance(node, ast.Subscript) else None
    if not isinstance(index, ast.Tuple) or not isinstance(node, ast.Subscript) or len(index.elts) != 2:
        return node
    first, last = index.elts
    rest = isinstance(first, ast.Constant) and first.value is ...
    return node.value if rest and isinstance(last, ast.Slice) else node


def _of_one(site: Site, outputs: torch.Tensor) -> Finding:
    """The finding for an argmax, max or softmax over a single output."""
    chosen = called(site.node) != "softmax"
    return Finding(
        code="eval.wrong-axis",
        severity="error",
        where=site.where,
        measured=f"`{site.text}` runs along an axis of one number: the outputs have shape {tuple(outputs.shape)}",
        threshold="an axis of two classes or more",
        why="Of one number, the largest always has index 0, whatever the network predicts."
        if chosen
        else "The softmax of one number is always 1, whatever the network predicts.",
        remedy="`predicted = (logits > 0).long()`, for a probability above one half"
        if chosen
        else "`probability = torch.sigmoid(logits)`",
    )


def _along(where: str, measured: str, compared: str, outputs: torch.Tensor, right: str) -> Finding:
    """The finding for an axis of `compared`, such as samples."""
    return WRONG_AXIS.finding(
        severity="error",
        where=where,
        measured=f"{measured}: the outputs have shape {tuple(outputs.shape)}",
        limit=f"argmax, max, topk or softmax along the axis of {compared} instead of the class axis",
        why=f"It compares {compared} with each other instead of classes: the result is not a prediction.",
        remedy=f"`{right}`",
    )


_OF_SAMPLES = "`{}` runs along axis 0, the axis of the samples"


def _with_axis(call: ast.Call, axis: ast.expr | None, value: int) -> str:
    """The source of a call with another axis."""
    right = ast.copy_location(ast.Constant(value), call)
    args = [right if part is axis else part for part in call.args]
    words = [ast.keyword(word.arg, right) if word.value is axis else word for word in call.keywords]
    return ast.unparse(ast.Call(call.func, args, words))


WRONG_AXIS = Check(
    codes=("eval.wrong-axis",),
    run=_axes,
    of_source=True,
    explains="eval.wrong-count eval.batch-means",
)
