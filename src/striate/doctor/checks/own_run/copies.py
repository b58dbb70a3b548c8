"""Copies and averages of weights in a script's own run, which are evaluated or give targets, but fall behind."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from striate.doctor.checks.model.evaluated.slow_averages import share_of_way
from striate.doctor.checks.own_run.called_networks import (
    CHANGED,
    FEW_STEPS,
    MOSTLY,
    ROUNDED,
    STEPS_IF_COMPLETE,
    STEPS_IF_INCOMPLETE,
    are_equal,
    largest_change,
    networks_learning,
    networks_without_gradients,
    never_changed,
    relative_change,
)
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import CalledNetwork, OwnRun
from striate.wording import percent, several

_FOLLOWED = 0.25
"""Share of the distance from initial to last weights, at the end of training."""
_SELDOM, _EARLY, _OLD = 5, 0.25, 1 / 3
"""Steps between updates of an average; the share of training in which they begin; the share of its first weights."""
_LEAST_SHARE = 1e-3
"""An average changes by more than this share of the change of its network, even in the fewest steps."""


def _copy_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for trained in networks_learning(run):
        if trained.before != trained.before or largest_change(trained) <= CHANGED or run.steps < FEW_STEPS:
            continue
        if any(not call.learns and call.steps > 1 for call in trained.calls):
            continue  # it is evaluated, too
        for copy in run.networks.values():
            evaluated = [c for c in copy.calls if not c.learns and c.steps > FEW_STEPS]
            if copy is trained or copy.kind != trained.kind or any(c.learns for c in copy.calls):
                continue
            if not evaluated or not (run.ended or evaluated[0].steps < evaluated[-1].steps):
                continue  # an average may begin later
            still = all(relative_change(number, trained.before) <= ROUNDED for number in copy.weights)
            # A network that runs in most steps is a teacher.
            seldom = len({call.steps for call in evaluated}) <= MOSTLY * run.steps
            share = _share_followed(trained, copy) if seldom and run.ended and not run.cut and not still else None
            if still or (share is not None and share < _FOLLOWED):
                gone = "still has its initial weights" if still else f"has moved {percent(share)} of the way to it"
                yield (
                    copy.name,
                    f"in {several(run.steps, 'step')} of the script, {trained.name} changes, but {copy.name}, the "
                    f"only one that runs without gradients ({several(len(evaluated), 'time')}), {gone}",
                )


def _share_followed(trained: CalledNetwork, copy: CalledNetwork) -> float | None:
    """How far a copy has moved from the initial weights of a network to its last ones, as a share of the distance."""
    networks = (copy.network, trained.network)
    return share_of_way(zip(trained.first, *(network.parameters() for network in networks), strict=True))


COPY_NEVER_CHANGES = OwnRunCheck(
    "model.evaluates-untrained",
    "error",
    f"a network with the shapes of the trained one has not changed after {FEW_STEPS} steps, or has moved less "
    f"than {percent(_FOLLOWED, 0)} of the way to it at the end, and the trained one itself is never evaluated",
    "The evaluated network is not the trained one.",
    "update the average after each step: `with torch.no_grad(): p_ema.lerp_(p, 1 - decay)`, with a decay that "
    "forgets the beginning within the training; or evaluate the trained network",
    _copy_never_changes,
)


def _average_seldom_updated(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Averages that are updated once in many steps, and at the end hold much of their first weights."""
    planned = run.planned or (run.steps if run.ended and not run.cut else 0)
    for average in run.averages.values() if planned else ():
        if len(average.updates) > MOSTLY * run.steps:
            continue  # it runs in most steps: a teacher
        before = max((steps for steps, count in average.updates.items() if not count), default=0)
        begun = sorted((steps, count) for steps, count in average.updates.items() if count)
        (first, began), (last, updates) = (begun[0], begun[-1]) if begun else ((0, 0), (0, 0))
        if updates - began < 2 or last - first < _SELDOM * (updates - began) or before > _EARLY * planned:
            continue
        in_all = updates + int(max(planned - last, 0) * (updates - began) / (last - first))
        share = _share_of_first(average.network, in_all)
        if share > _OLD:
            yield (
                "the average of the weights",
                f"in {several(last - first, 'step')} of the script, the average that is evaluated is updated "
                f"{several(updates - began, 'time')}; after all {several(in_all, 'update')}, {percent(share, 0)} of it "
                "are the weights of its first update",
            )


def _share_of_first(average: AveragedModel, updates: int) -> float:
    """The share of an average that the weights of its first update have after `updates` of them."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        own = AveragedModel(model, avg_fn=average.avg_fn, multi_avg_fn=average.multi_avg_fn)
        for number in range(updates):
            model.weight.fill_(float(number == 0))
            own.update_parameters(model)
        return float(next(own.parameters()))


AVERAGE_SELDOM_UPDATED = OwnRunCheck(
    "model.evaluates-untrained",
    "warning",
    f"at the end, more than {percent(_OLD, 0)} of an average that is updated at most every {_SELDOM} steps are the "
    f"weights of its first update, which is in the first {percent(_EARLY, 0)} of training",
    "Its decay suits an update in each step: it contains hardly anything of the last epochs.",
    "update the average after each step: `average.update_parameters(model)` after `optimizer.step()`; or use a "
    "smaller decay",
    _average_seldom_updated,
)


def _template_evaluated(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Networks that run with weights other than their own in training, as by `functional_call`, and with their own in
    evaluation."""
    for network in networks_learning(run):
        evaluated = [call for call in network.calls if not call.learns and call.steps > FEW_STEPS]
        seldom = len({call.steps for call in evaluated}) <= MOSTLY * run.steps
        if not evaluated or not seldom or not (run.ended or evaluated[0].steps < evaluated[-1].steps):
            continue
        trained = [call.weights for call in network.calls if call.learns and call.steps > FEW_STEPS]
        own = [network.after, *(call.weights for call in network.calls if not call.learns)]
        still = all(relative_change(number, network.before) <= ROUNDED for number in own if number == number)
        others = [relative_change(number, network.before) > CHANGED for number in trained if number == number]
        if network.before == network.before and still and others and all(others):
            yield (
                network.name,
                f"in {several(run.steps, 'step')} of the script, the calls of {network.name} with gradients use other "
                f"weights, which change, but all {several(len(evaluated), 'call')} without gradients use its own "
                "initial weights",
            )


TEMPLATE_EVALUATED = OwnRunCheck(
    "model.evaluates-untrained",
    "error",
    f"after {FEW_STEPS} steps, training runs the network with other weights, and evaluation never does",
    "The evaluated weights are not the trained ones.",
    "evaluate with the weights that are trained: `torch.func.functional_call(model, params, (x,))`",
    _template_evaluated,
)


def _target_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for still in never_changed(run, STEPS_IF_COMPLETE):
        enough = run.ended or run.steps >= STEPS_IF_INCOMPLETE
        for trained in networks_learning(run):
            change = largest_change(trained)
            written = len(set(still.weights)) > 2 and largest_change(still) <= _LEAST_SHARE * change  # rounding
            if trained.kind != still.kind or change <= CHANGED or not (enough or written):
                continue
            if not any(are_equal(still, other) for other in networks_without_gradients(run)):
                yield (
                    still.name,
                    f"in {several(run.steps, 'step')} of the script, {trained.name} changes, but {still.name}, of the "
                    "same shapes, still has its initial weights",
                )


TARGET_NEVER_CHANGES = OwnRunCheck(
    "reward.target-stale",
    "error",
    f"no weight changes in {STEPS_IF_COMPLETE} steps of a completed run, {STEPS_IF_INCOMPLETE} of an incomplete one, "
    f"or {STEPS_IF_COMPLETE} if it is written to, in a network with the shapes of one that learns",
    "Values are learned from those of a random network forever.",
    "copy the weights from time to time: `target.load_state_dict(network.state_dict())`, or a share of them "
    "after each step",
    _target_never_changes,
)
