"""`optim.accumulation`: are gradients that are accumulated over batches divided by the number of batches?"""

from __future__ import annotations

import ast
import math
import re
import statistics
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch.optim import SGD, Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import number
from striate.doctor.evidence.trial import CLOSE_STEPS, Change, Trial, go_on
from striate.doctor.setup.reached_objects import reached_optimizers
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import called, is_operation, last_name, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import several

_STEPS, _MOST = 20, 640
_SECONDS = 4.0
_BETTER, _GAIN = 1.25, 0.1
_WHOLE, _ROUNDED = 0.6, 0.02
_SCALING = ("div_", "mul_", "_foreach_div_", "_foreach_mul_")
_FEWEST_STEPS, _SAME = 3, 0.999
"""Fewest steps at equal distances from each other, and the cosine at which gradients count as the same."""
_WASTED = "All batches but the last are computed for nothing: each step uses the gradient of one small batch."
_SCALED = 2.0**16
"""Initial scale of a GradScaler."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    """Where the optimizer steps once in several batches, compares the trial with one whose gradients are averaged."""
    finding = _only_last_batch(evidence)
    if finding is not None:
        yield finding
        return
    count = _batches_per_step(evidence.trial)
    within = _batches_within(evidence) if count == 1 else 1
    count = max(count, within)
    if count < 2 or is_divided(evidence, count):
        return
    steps = min(max(len(evidence.trial.rows), _STEPS * count // within), _MOST)
    mean = _trained(evidence, "gradients divided", Change(prepare=lambda replica: _divide(replica, count)), steps)
    own = _trained(evidence, "as long as gradients divided", Change(), len(mean.rows))
    summed, other = evidence.progress_of(own), evidence.progress_of(mean)
    if not other.beats(summed, _BETTER) or other.share < max(summed.share, 0.0) + _GAIN:
        return
    if within > 1 and summed.share >= _GAIN:  # a loop within the step may sum on purpose, with a rate made for sums
        return
    yield ACCUMULATION.finding(
        severity="error" if summed.share < _GAIN else "warning",
        where="the training step",
        measured=f"gradients of {several(count, 'batch', 'batches')} are summed for each optimizer step, and the "
        f"loss is not divided by their number: after {several(within * len(own.rows), 'batch', 'batches')} the loss "
        f"is {summed}, and {other} with averaged gradients; a constant prediction has {number(summed.chance)}",
        why=f"The summed gradient is {count} times as large as that of one large batch, and so is each step.",
        remedy=f"divide the loss: `(loss / {count}).backward()`",
    )


def _only_last_batch(evidence: Evidence) -> Finding | None:
    """The finding for gradients that are cleared before each backward pass, though the optimizer steps only at every
    n-th batch, and so uses the gradient of that batch alone."""
    rows, source = evidence.trial.rows, evidence.setup.source
    stepped = [number for number, row in enumerate(rows) if row.steps]
    gaps = {after - before for before, after in pairwise(stepped)}
    optimizers = 1 if source is None else len(reached_optimizers(source.names))  # several may step in turn
    if len(stepped) < _FEWEST_STEPS or len(gaps) > 1 or gaps <= {1} or evidence.setup.rivals or optimizers > 1:
        return None
    close = rows[:CLOSE_STEPS]
    cosines = [row.gradient_cosine for row in close if row.steps]
    accumulated = any(row.stale or not row.raw for row in close)
    if accumulated or not cosines or any(cosine is None or cosine < _SAME for cosine in cosines):
        return None
    count = gaps.pop()
    return ACCUMULATION.finding(
        severity="warning",
        where="the training step",
        measured=f"the optimizer steps once in {several(count, 'batch', 'batches')}, all of which go backward, but "
        "gets the gradient of the last one alone: those of the others are cleared before",
        limit="an optimizer that steps once in several batches, gradients of 0 before each backward pass, and in each "
        f"step the gradient of its own batch (a cosine of at least {_SAME:g})",
        why=_WASTED,
        remedy="call `optimizer.zero_grad()` right after `optimizer.step()`, only as often as the step",
    )


def _trained(evidence: Evidence, name: str, change: Change, steps: int) -> Trial:
    trial = evidence.variant(name, change, steps=steps)
    if trial.error is None and len(trial.rows) < steps:
        go_on(trial, evidence.train.raw, steps - len(trial.rows), evidence.clock.until(0.15, _SECONDS))
    return trial


def _batches_per_step(trial: Trial) -> int:
    """Batches per step of the optimizer, by the distance of its steps; 1 where gradients are not accumulated. Raises
    NoEvidence where it makes no step."""
    stepped = [i for i, row in enumerate(trial.rows) if row.steps]
    if not stepped:
        raise NoEvidence("the optimizer made no step")
    gaps = [after - before for before, after in pairwise([-1, *stepped])]
    count = int(statistics.median(gaps))
    # The first step may come early, since a script may be in the middle of a loop.
    added = [row.stale for before, row in pairwise(trial.rows[:10]) if not before.steps and row.stale is not None]
    return count if count > 1 and added and min(added) > 0 else 1


def _batches_within(evidence: Evidence) -> int:
    """Batches that one pass of the loop reads before its step, as `for micro_step in range(8):` does; 1 where it reads
    one, or where its losses are of several kinds."""
    count, losses = len(evidence.calls.backward), evidence.calls.losses
    if evidence.setup.rivals or count < 2 or count != len(losses) or len({call.name for call in losses}) > 1:
        return 1
    if all(torch.equal(call.target, losses[0].target) for call in losses[1:]):
        return 1  # one batch, at several states of the weights
    return count if sum(call.name == "" for call in evidence.graph.modules) == count else 1


def is_divided(evidence: Evidence, count: int) -> bool:
    """Whether the value that goes backward is the loss divided by about `count`."""
    values, losses = evidence.calls.backward, evidence.calls.losses
    known = float(losses[-1].value.float().mean()) if losses else evidence.first.loss
    if not values or known is None or not math.isfinite(known) or not known:
        return False
    terms = sum(float(call.value.float().mean()) for call in losses[: len(losses) // len(values)])
    if abs(values[0] * count - terms) < _ROUNDED * abs(terms):
        return True  # a sum of several losses
    source = evidence.setup.source
    if source is not None and (_divides_by_a_name(source) or _scales_gradients(source)):
        return True  # the loss may have parts that are not torch's, or the script scales gradients after backward
    part = abs(values[0] / known)
    part /= _SCALED if part > math.sqrt(_SCALED) else 1.0
    return part < _WHOLE and part < 2 / count + 1e-3


def _divides_by_a_name(source: ScriptSource) -> bool:
    """Whether the script divides the loss by a variable: `(loss / window).backward()`."""
    for site in source.calls("backward"):
        owner = receiver_of(site.node)
        owner = owner.args[0] if isinstance(owner, ast.Call) and owner.args else owner  # `scaler.scale(…)`
        if site.often == "batch" and is_operation(owner, ast.Div):
            return isinstance(owner.right, ast.Name | ast.Attribute)
    return False


def _scales_gradients(source: ScriptSource) -> bool:
    """Whether the script multiplies or divides gradients in place: `p.grad.div_(count)`, `p.grad /= count`."""
    scaling = (
        node
        for node in source.nodes()
        if called(node) in _SCALING or (isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div | ast.Mult))
    )
    return any(part.attr == "grad" for part in nodes_in(scaling, ast.Attribute))


def _divide(replica: Replica, count: int) -> None:
    def stepping(optimizer: Optimizer, _: Any, __: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.div_(count)

    replica.optimizer.register_step_pre_hook(stepping)


def _cleared(evidence: Evidence) -> Iterator[Finding]:
    """Gradients that are cleared for each batch, where the optimizer steps once in several."""
    source = evidence.source
    for clear in source.calls("zero_grad"):
        loops = source.loops_of(clear.node)
        if clear.often != "batch" or not loops:
            continue
        scope = source.scope_of(clear.node)
        near = [site for site in source.calls("backward", "step") if source.scope_of(site.node) is scope]
        backward = [s for s in near if called(s.node) == "backward" and source.loops_of(s.node)[:1] == loops[:1]]
        backward = [s for s in backward if not _is_periodic(source, s)]  # else batches are skipped on purpose
        steps = [s for s in near if called(s.node) == "step" and _of_optimizer(source, s)]
        inner = [s for s in steps if loops[0] in source.loops_of(s.node)]
        outer = [s for s in steps if source.loops_of(s.node) and source.loops_of(s.node)[0] in loops[1:]]
        late = next((s for s in inner if _is_periodic(source, s) and not _is_periodic(source, clear)), None)
        step = outer[0] if outer and not inner else late if len(inner) == 1 else None
        if backward and step is not None:
            yield CLEARED.finding(
                severity="warning",
                where=clear.where,
                measured=f"`{clear.text}` clears the gradients for each batch, but `{step.text}` runs only once in "
                "several batches: only the last batch counts",
                limit="gradients are cleared in each pass of a loop, but the optimizer steps only once in several "
                "passes, or after the loop",
                why=_WASTED,
                remedy=f"call `{clear.text}` right after `{step.text}`, only as often as the step",
            )
            return


def _undivided(evidence: Evidence) -> Iterator[Finding]:
    """A step once in `accum_steps` batches, where the script uses that number only to count batches."""
    source = evidence.source
    if _scales_gradients(source):
        return
    named = (node for node in source.nodes(ast.Name, ast.Attribute) if _ACCUMULATED.search(last_name(node)))
    if not all(_counts_batches(source, node) for node in named if isinstance(node.ctx, ast.Load)):  # type: ignore[attr-defined]
        return
    for step in source.calls("step"):
        name = _period_name(source, step) if _of_optimizer(source, step, SGD) else ""
        if name:
            yield UNDIVIDED.finding(
                severity="warning",
                where=step.where,
                measured=f"`{step.text}` runs once in `{name}` batches. Their gradients are summed, and nothing "
                "divides the sum by that number",
                limit="SGD steps once in `accum_steps` batches, and this number is used only to count batches",
                why="The summed gradient is that many times as large as that of one large batch, and so is each "
                "step. If the number of batches changes, the learning rate has to change too.",
                remedy=f"divide the loss: `(loss / {name}).backward()`",
            )
            return


_ACCUMULATED = re.compile("accum", re.IGNORECASE)


def _counts_batches(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a number counts batches, as in `i % n` or `len(loader) // n`, or is passed on under a similar name."""
    outer = source.parent(node)
    if isinstance(outer, ast.BinOp) and outer.right is node:
        counted = isinstance(outer.op, ast.Div) and any(called(part) == "len" for part in ast.walk(outer.left))
        counted |= isinstance(outer.op, ast.Mult) and "batch" in last_name(outer.left).lower()  # the effective size
        return counted or isinstance(outer.op, ast.Mod | ast.FloorDiv)
    if isinstance(outer, ast.keyword):
        return bool(outer.arg and _ACCUMULATED.search(outer.arg))
    if isinstance(outer, ast.Call):
        return bool(source.functions_of(outer))
    return isinstance(outer, ast.Assign) and any(_ACCUMULATED.search(last_name(target)) for target in outer.targets)


def _period_name(source: ScriptSource, step: Site) -> str:
    """The variable with the number of batches per step: `accum_steps` of `if (i + 1) % accum_steps == 0:`; empty where
    there is none."""
    for part in source.enclosing(step.node):
        if isinstance(part, ast.For | ast.While | ast.FunctionDef):
            break
        for node in ast.walk(part.test) if isinstance(part, ast.If) else ():
            if is_operation(node, ast.Mod) and _ACCUMULATED.search(last_name(node.right)):
                return ast.unparse(node.right)
    return ""


def _of_optimizer(source: ScriptSource, site: Site, kind: type[Optimizer] = Optimizer) -> bool:
    """Whether a call steps an optimizer of this class, directly or as an argument, as in `scaler.step(optimizer)`."""
    return any(isinstance(source.value(node), kind) for node in (receiver_of(site.node), *site.node.args))


def _is_periodic(source: ScriptSource, site: Site) -> bool:
    """Whether a call is under a condition on the number of batches, `if (i + 1) % 4 == 0:`, or after one that skips to
    the next batch, `if (i + 1) % 4 != 0: continue`."""
    inner: ast.AST = site.node
    for part in source.enclosing(site.node):
        before = getattr(part, "body", None)
        if isinstance(before, list) and inner in before:
            conditions = [one for one in before[: before.index(inner)] if isinstance(one, ast.If)]
            if any(isinstance(one.body[-1], ast.Continue) and _counts(one.test) for one in conditions):
                return True
        if isinstance(part, ast.For | ast.While | ast.FunctionDef):
            return False
        if isinstance(part, ast.If) and _counts(part.test):
            return True
        inner = part
    return False


def _counts(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Mod) for node in ast.walk(test))


CLEARED = Check(
    codes=("optim.accumulation",),
    run=_cleared,
    of_source=True,
)
UNDIVIDED = Check(
    codes=("optim.accumulation",),
    run=_undivided,
    of_source=True,
    explains="loss.not-finite optim.lr-too-high",
)
ACCUMULATION = Check(
    codes=("optim.accumulation",),
    threshold="the optimizer steps once in several batches, `backward()` gets the undivided loss, and with averaged "
    f"gradients the loss is {_BETTER:g} times lower",
    run=_run,
    quick=False,
    explains="loss.not-finite model.collapsed model.dead-units model.saturated model.exploding-gradient "
    "optim.lr-too-high optim.clip-too-small fit.*",
)
