"""`optim.scheduler-calls`: is the scheduler stepped as often as its lengths assume, after the optimizer, with the right
metric?"""

from __future__ import annotations

import ast
import copy
import inspect
import math
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import passes_planned
from striate.doctor.setup.batch import batches_of
from striate.doctor.setup.library_training import Scheduled
from striate.doctor.setup.reached_objects import reached_values, written_by_user
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import argument, called, is_operation, last_name, nodes_in, receiver_of, stored_in
from striate.records import Finding
from striate.wording import percent, several

_CODE, _SCHEDULE = "optim.scheduler-calls", "optim.lr-schedule"
Report = tuple[str, str, str, str] | tuple[str, str, str, str, str]
"""The place, what was measured, a remedy, the limit, and the code if it is not `optim.scheduler-calls`."""
_LEFT, _MOST_STEPS = 0.01, 5000
_GONE = 1e-3
"""Share of the rate that is left after one epoch; nothing is learned from the second one on. 0.1 ** 3 is a little
more."""
_GROWN = 10.0
_FAR_FROM = 5.0
"""How many times higher than the reached rate the highest rate of a schedule is."""
_ONE_CYCLE = "OneCycleLR is stepped once an epoch, and so gets less than half of its steps"
_STILL = 10  # steps of the trial, in which a cycle would have moved
_SWINGING = (CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR, ReduceLROnPlateau)
_FALLS = (StepLR, ExponentialLR, MultiStepLR)
_KINDS = tuple(name for name, kind in vars(lr_scheduler).items() if isinstance(kind, type) and name.endswith("LR"))
_READING = ("get_last_lr", "state_dict", "load_state_dict", "last_epoch", "get_lr")
_RISING = ("acc", "score", "f1", "iou", "dice", "auc", "map", "psnr", "top1", "precision", "recall", "corr", "r2")
_FALLING = ("loss", "err", "mse", "mae", "perplexity", "ppl")


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    unused = next(_never_stepped(source), None)
    if unused is not None:
        yield _finding(*unused)
        return
    grown = next(_compounded(source), None)
    if grown is not None:
        yield _finding(*grown)
        return
    if source.library is not None and source.library.schedules:
        reports = (report for each in source.library.schedules for report in _of_library(evidence, each))
        if (report := next(filter(None, reports), None)) is not None:
            yield _finding(*report)
        return
    schedulers = {id(one): one for one in held_schedules(source) if not _of_another_training(evidence, one)}
    steps: dict[int, list[Site]] = {key: [] for key in schedulers}
    for site in source.calls("step"):
        scheduler = source.value(receiver_of(site.node))
        if id(scheduler) in steps:
            steps[id(scheduler)].append(site)
    if not schedulers:
        raise NoEvidence("there is no scheduler of torch.optim.lr_scheduler")
    for key, sites in steps.items():
        if (report := next(filter(None, _of_calls(evidence, schedulers[key], sites)), None)) is not None:
            yield _finding(*report)
            return


def _finding(where: str, measured: str, remedy: str, limit: str, code: str = _CODE) -> Finding:
    return CHECK.finding(
        code=code,
        severity="warning",
        where=where,
        measured=measured,
        limit=limit,
        why="The learning rate differs from the schedule: training ends too early, never warms up, or oscillates.",
        remedy=remedy,
    )


def _compounded(source: ScriptSource) -> Iterator[Report]:
    """`group["lr"] *= 0.1 ** (epoch // 3)`: a factor that is counted from the first epoch multiplies a rate that
    earlier epochs have already multiplied."""
    for node in source.nodes(ast.AugAssign):
        if not isinstance(node.op, ast.Mult):
            continue
        target, value = node.target, node.value
        if not isinstance(target, ast.Subscript) or ast.unparse(target.slice).strip("'\"") != "lr":
            continue
        if isinstance(value, ast.Name):
            stores = nodes_in(source.scope_of(node), ast.Assign)
            value = next((one.value for one in stores if ast.unparse(one.targets[0]) == value.id), value)
        power = value if is_operation(value, ast.Pow) else None
        counted = [] if power is None else [n.id for n in nodes_in(power.right, ast.Name)]
        if power is None or not any("epoch" in name for name in counted):
            continue
        yield (
            source.where(node),
            f"`{ast.unparse(node)}` with `{ast.unparse(power)}`: the factor is counted from the first epoch, but "
            "multiplies a rate that every earlier epoch has multiplied already",
            f"multiply the initial rate: `{ast.unparse(target)} = base_lr * {ast.unparse(power)}`",
            "a factor that is counted from the first epoch multiplies the rate again in each epoch",
            _SCHEDULE,
        )
        return


def _never_stepped(source: ScriptSource) -> Iterator[Report]:
    """Schedulers in variables that the script at most reads."""
    for site in source.calls(*_KINDS):
        statement = source.parent(site.node)
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(target, ast.Name | ast.Attribute):
            continue
        name = last_name(target)
        if any(not _only_reads(source, use) for use in _uses(source.trees[site.file], name)):
            continue
        by_batch = called(site.node) in ("OneCycleLR", "CyclicLR")
        place = "after `optimizer.step()`, once a batch" if by_batch else "after the loop over batches, once an epoch"
        yield (
            site.where,
            f"`{ast.unparse(target)}` is a {called(site.node)} that no code steps: the rate stays at the schedule's "
            "first value",
            f"call `{ast.unparse(target)}.step()` {place}",
            "a scheduler that is never stepped",
        )


def _uses(tree: ast.AST, name: str) -> Iterator[ast.AST]:
    """The reads of a variable or an attribute of this name."""
    for node in ast.walk(tree):
        if last_name(node) == name and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
            yield node


def _only_reads(source: ScriptSource, use: ast.AST) -> bool:
    outer = source.parent(use)
    return isinstance(outer, ast.Attribute) and outer.value is use and outer.attr in _READING


def _of_another_training(evidence: Evidence, scheduler: Any) -> bool:
    """Whether a scheduler sets the rate of no parameter of the network, as that of an earlier training."""
    own = {id(p) for p in evidence.setup.model.parameters()}
    groups = getattr(scheduler.optimizer, "param_groups", ())
    return bool(groups) and own.isdisjoint(id(p) for group in groups for p in group["params"])


def held_schedules(source: ScriptSource) -> Iterator[Any]:
    """The torch schedulers that the script's variables hold."""
    yield from (value for value in reached_values(source.names) if isinstance(value, LRScheduler))


def own_schedules(source: ScriptSource) -> Iterator[Any]:
    """Objects of the user's own classes that hold an optimizer and have a method `step`, such as schedulers of timm."""
    for value in reached_values(source.names):
        other = isinstance(value, type | Optimizer | LRScheduler | torch.nn.Module)
        if other or not written_by_user(type(value).__module__) or not callable(getattr(value, "step", None)):
            continue
        if isinstance(getattr(value, "optimizer", None), Optimizer):
            yield value


def _of_calls(evidence: Evidence, scheduler: Any, sites: list[Site]) -> Iterator[Report | None]:
    """Reports about the calls (`sites`) that step a scheduler."""
    source = evidence.source
    name = type(scheduler).__name__
    batches = _batches(evidence)
    if not sites:  # stepped under another name, as in a list
        yield _constant_cycle(evidence, scheduler, batches)
        return
    often = {site.often for site in sites}
    each = next((site for site in sites if site.often == "batch"), None)
    if each is not None and "epoch" in often:
        other = next(site for site in sites if site.often == "epoch")
        yield (
            each.where,
            f"{name} is stepped in each pass of the training loop and again at {other.where}",
            f"keep one of both: `{other.text}` after the loop over batches, if its lengths are in epochs",
            "a scheduler that is stepped per batch and per epoch",
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        yield _plateau(source, scheduler, sites[0])
        return
    resumed = bool(getattr(evidence.setup.optimizer, "state", None))
    if int(getattr(scheduler, "last_epoch", 0)) > 0 and each is None and not resumed:
        yield (
            sites[0].where,
            (
                f"{name} is stepped {several(int(scheduler.last_epoch), 'time')} before the optimizer's first step: "
                "the first value of the schedule is never used"
            ),
            f"call `{sites[0].text}` after the loop over batches, after `optimizer.step()`",
            "a scheduler that is stepped before the optimizer's first step",
        )
    if each is not None and batches is not None:
        yield _too_fast(scheduler, each, batches, source.epochs)
    yield _hardly_begun(evidence, scheduler, sites)
    steps = source.epochs if each is None else None if batches is None else batches * (source.epochs or 1)
    if steps is not None and (source.epochs or 1) > 1:
        yield _growing(scheduler, sites[0], steps)
    if each is None and isinstance(scheduler, OneCycleLR) and source.epochs is not None:
        total = int(scheduler.total_steps)
        if source.epochs * 2 < total:
            yield (
                sites[0].where,
                (
                    f"OneCycleLR has {several(total, 'step')}, but is stepped only {several(source.epochs, 'time')}, "
                    "once an epoch: it never gets past its warmup"
                ),
                f"call `{sites[0].text}` after `optimizer.step()`, once a batch",
                _ONE_CYCLE,
                _SCHEDULE,
            )


def _hardly_begun(evidence: Evidence, scheduler: Any, sites: list[Site]) -> Report | None:
    """A warmup that is counted in steps, though the scheduler is stepped once an epoch or once in many steps."""
    calls, steps = _calls_planned(evidence, sites), int(passes_planned(evidence))
    if not calls or steps < 2 * calls or isinstance(scheduler, ReduceLROnPlateau | OneCycleLR):
        return None
    group = scheduler.optimizer.param_groups[0]
    rates = [float(group["lr"]), *rates_of(scheduler, steps)]
    reached, highest = max(rates[:calls]), max(rates)
    if highest < _FAR_FROM * reached or highest > 1.01 * float(group.get("initial_lr", highest)):
        return None
    name = type(scheduler).__name__
    return (
        sites[0].where,
        f"`{sites[0].text}` runs {several(calls, 'time')} in {several(steps, 'step')}: {name} reaches {reached:.2g}, "
        f"but would be at {highest:.2g} after {several(rates.index(highest), 'call')}",
        f"call `{sites[0].text}` after `optimizer.step()`, once a batch, since its lengths are counted in batches",
        f"the rate stays below 1/{_FAR_FROM:g} of the highest rate that one call per step would give",
        _SCHEDULE,
    )


def _calls_planned(evidence: Evidence, sites: list[Site]) -> int | None:
    """How often the script steps a scheduler in the full training, if it does so once an epoch or once every n steps;
    else None."""
    source = evidence.source
    if all(site.often == "epoch" for site in sites):
        return source.epochs
    if len(sites) != 1 or sites[0].often != "batch":
        return None
    for around in source.enclosing(sites[0].node):
        if isinstance(around, ast.For | ast.While):
            return None
        counted = list(nodes_in(around.test, ast.BinOp)) if isinstance(around, ast.If) else []
        each = next((source.value(n.right) for n in counted if isinstance(n.op, ast.Mod)), None)
        if type(each) is int and each > 1:
            inside = (receiver_of(n) for n in nodes_in(around, ast.Call) if called(n) == "step")
            if any(isinstance(source.value(owner), Optimizer) for owner in inside if owner is not None):
                return None  # gradients are accumulated
            return int(passes_planned(evidence)) // each
    return None


def _constant_cycle(evidence: Evidence, scheduler: Any, batches: int | None) -> Report | None:
    """A OneCycleLR that is as long as several passes over the batches, but whose rate no step of the loop changes."""
    site = next(iter(evidence.source.calls("OneCycleLR")), None)
    if not isinstance(scheduler, OneCycleLR) or site is None or batches is None or scheduler.total_steps < 2 * batches:
        return None
    rates = [
        float(held.param_groups[0]["lr"])
        for held in (evidence.setup.optimizer, evidence.trial.replica.optimizer)
        if isinstance(held, Optimizer)
    ]
    steps = sum(row.steps for row in evidence.trial.rows)
    if len(rates) < 2 or rates[0] != rates[1] or steps < _STILL:
        return None
    return (
        site.where,
        f"OneCycleLR has {several(int(scheduler.total_steps), 'step')}, but {several(steps, 'step')} of the loop "
        f"leave the rate at {rates[0]:.3g}: stepped once an epoch, it never gets past its warmup",
        "call `scheduler.step()` after `optimizer.step()`, once a batch",
        _ONE_CYCLE,
        _SCHEDULE,
    )


def _of_library(evidence: Evidence, each: Scheduled) -> Iterator[Report | None]:
    """Reports about a schedule that a library steps."""
    source, scheduler, batches = evidence.source, each.scheduler, _batches(evidence)
    assert source.library is not None
    site = next(iter(source.calls(type(scheduler).__name__)), None)
    if site is None:
        return  # the library creates it and knows how often it is stepped
    epochs, name, trainer = source.epochs, type(scheduler).__name__, source.library.name
    if isinstance(scheduler, ReduceLROnPlateau):
        yield _plateau(source, scheduler, site, each.watched)
    elif each.often == "batch" and batches is not None:
        report = _too_fast(scheduler, site, batches, epochs)
        if report is not None:
            where, measured, _, limit = report[:4]
            yield (
                where,
                measured.replace(f"`{site.text}` runs at each batch", f"{trainer} steps {name} at each batch"),
                "multiply the lengths by len(loader); or, in Lightning, return `{'scheduler': scheduler, 'interval': "
                "'epoch'}`",
                limit,
                _SCHEDULE,
            )
    elif each.often == "epoch" and isinstance(scheduler, OneCycleLR) and epochs is not None:
        total = int(scheduler.total_steps)
        if epochs * 2 < total:
            yield (
                site.where,
                f"OneCycleLR has {several(total, 'step')}, but {trainer} steps it only {several(epochs, 'time')}, "
                "once an epoch: it never gets past its warmup",
                "return `{'scheduler': scheduler, 'interval': 'step'}` as the lr_scheduler of configure_optimizers",
                _ONE_CYCLE,
                _SCHEDULE,
            )


def _too_fast(scheduler: Any, site: Site, batches: int, epochs: int | None) -> Report | None:
    """A schedule whose lengths are in epochs, but that is stepped once a batch."""
    if isinstance(scheduler, CosineAnnealingLR) and scheduler.T_max < batches:
        effect = (
            f"the cosine of {several(int(scheduler.T_max), 'step')} ends within an epoch of {batches} batches, and "
            "rises again"
        )
        limit = "stepped per batch, with a length that ends within an epoch"
        return _once_an_epoch(site, effect, f"T_max={scheduler.T_max:g} * len(loader)", limit)
    left = 1.0
    if isinstance(scheduler, StepLR):
        left = float(scheduler.gamma) ** (batches // max(1, int(scheduler.step_size)))
    elif isinstance(scheduler, ExponentialLR):
        left = float(scheduler.gamma) ** batches
    elif isinstance(scheduler, MultiStepLR):
        left = float(scheduler.gamma) ** sum(count for step, count in scheduler.milestones.items() if step <= batches)
    elif isinstance(scheduler, SequentialLR) and isinstance(scheduler._schedulers[-1], _FALLS) and epochs != 1:
        rates = list(rates_of(scheduler, batches))
        left = rates[-1] / max(rates) if rates and max(rates) > 0 else 1.0
    if left > 1.001 * _GONE and not (isinstance(scheduler, MultiStepLR) and max(scheduler.milestones) <= batches):
        steps = _gone_within(scheduler, batches) if epochs is None or epochs > 2 else None
        if steps is None:
            return None
        effect = (
            f"{several(steps, 'step')} into an epoch of {batches} batches the rate is at most {percent(_LEFT, 0)} of "
            "its highest"
        )
        limit = f"stepped per batch, and at most {percent(_LEFT, 0)} of the highest rate is left within half an epoch"
        return _once_an_epoch(site, effect, "lengths times len(loader)", limit)
    effect = f"after one epoch of {several(batches, 'step')} the rate is {left:.1g} of what it was"
    limit = (
        f"stepped per batch, and at most {_GONE:g} of the rate is left, or the last milestone is passed, after an epoch"
    )
    return _once_an_epoch(site, effect, "lengths times len(loader)", limit)


def _gone_within(scheduler: Any, batches: int) -> int | None:
    """The number of steps after which a copy of the scheduler lowers the rate to `_LEFT` of its highest; None where it
    does not within half an epoch, or where the rate is meant to rise again."""
    if isinstance(scheduler, _SWINGING):
        return None
    highest = float(scheduler.optimizer.param_groups[0]["lr"])
    for step, rate in enumerate(rates_of(scheduler, batches // 2), 1):
        highest = max(highest, rate)
        if rate <= 1.001 * _LEFT * highest:
            return step
    return None


def _growing(scheduler: Any, site: Site, steps: int) -> Report | None:
    """A rate that is highest at the end of training, and many times the initial rate."""
    initial = [float(group.get("initial_lr", group["lr"])) for group in scheduler.optimizer.param_groups]
    if isinstance(scheduler, _SWINGING) or initial[0] <= 0:
        return None
    rates = list(rates_of(scheduler, steps))
    if not rates or max(rates) < _GROWN * initial[0] or rates[-1] < 0.99 * max(rates):
        return None
    name = type(scheduler).__name__
    return (
        site.where,
        f"with `{site.text}` {name} takes the rate from {initial[0]:g} to {rates[-1]:.3g} within "
        f"{several(len(rates), 'step')}, and it keeps growing",
        "use a factor that ends at 1, such as `lambda step: min(1.0, (step + 1) / 10)`",
        f"the rate grows {_GROWN:g} times by the end of training",
        _SCHEDULE,
    )


def rates_of(scheduler: Any, steps: int) -> Iterator[float]:
    """The rates of the first parameter group in the next steps of a copy of the scheduler. The user's own schedulers
    may take the number of the step as an argument. Ends at the first exception."""
    optimizer = scheduler.optimizer
    tensors = [p for group in optimizer.param_groups for p in group["params"]]
    tensors += [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    with warnings.catch_warnings(), suppress(Exception):  # the user's scheduler may raise any
        warnings.simplefilter("ignore")
        tried = copy.deepcopy(scheduler, {id(tensor): tensor for tensor in tensors})
        numbered = not isinstance(scheduler, LRScheduler) and bool(inspect.signature(tried.step).parameters)
        for number in range(1, min(steps, _MOST_STEPS) + 1):
            tried.step(number) if numbered else tried.step()
            yield float(tried.optimizer.param_groups[0]["lr"])


def _once_an_epoch(site: Site, effect: str, other: str, limit: str) -> Report:
    return (
        site.where,
        f"`{site.text}` runs at each batch: {effect}",
        f"call `{site.text}` after the loop over batches, once an epoch; or use {other}",
        limit,
        _SCHEDULE,
    )


def _lower_is_better(source: ScriptSource, name: str) -> bool:
    """Whether the script treats lower values of that name as better, since a score may be of either kind."""
    return any(
        isinstance(node.ops[0], ast.Lt | ast.LtE) and ast.unparse(node.left).lower() == name
        for node in source.nodes(ast.Compare)
    )


def _plateau(source: ScriptSource, scheduler: ReduceLROnPlateau, site: Site, watched: str = "") -> Report | None:
    metric = argument(site.node, 0, "metrics")
    value = metric.operand if isinstance(metric, ast.UnaryOp) else metric
    words = watched.lower() or (ast.unparse(value).lower() if value is not None else "")
    if isinstance(value, ast.Name) and not any(word in words for word in (*_RISING, *_FALLING)):
        words = _words_behind(source, value)
    rises, falls = (any(word in words for word in names) for names in (_RISING, _FALLING))
    if "score" in words and _lower_is_better(source, words):
        rises, falls = False, True
    if not watched and _is_negated(metric):
        rises, falls = falls, rises
    wrong = rises and not falls if scheduler.mode == "min" else falls and not rises
    if not wrong:
        return None
    right = "max" if scheduler.mode == "min" else "min"
    return (
        site.where,
        f"`{site.text}` has mode {scheduler.mode!r}: it lowers the rate while the metric improves",
        f"`torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode={right!r})`",
        "ReduceLROnPlateau in the wrong mode",
    )


def _words_behind(source: ScriptSource, variable: ast.Name) -> str:
    """The expressions that are added to a variable in its function, or else assigned to it."""
    nodes = [node for node in ast.walk(source.scope_of(variable)) if isinstance(node, ast.AugAssign | ast.Assign)]
    of_it = [node for node in nodes if variable.id in stored_in(node)]
    added = [node for node in of_it if isinstance(node, ast.AugAssign)]
    return " ".join(ast.unparse(node.value).lower() for node in added or of_it)


def _is_negated(metric: ast.expr | None) -> bool:
    """Whether an expression is like `-error` or `1 - accuracy`."""
    if isinstance(metric, ast.BinOp):
        return isinstance(metric.op, ast.Sub) and isinstance(metric.left, ast.Constant)
    return isinstance(metric, ast.UnaryOp) and isinstance(metric.op, ast.USub)


def _batches(evidence: Evidence) -> int | None:
    count = batches_of(evidence.setup.train) or 0
    return count if count > 0 and math.isfinite(count) else None


CHECK = Check(
    codes=(_CODE, _SCHEDULE),
    run=_run,
    of_source=True,
    explains={_CODE: "optim.lr-schedule optim.lr-too-low", _SCHEDULE: "optim.lr-too-low"},
)
