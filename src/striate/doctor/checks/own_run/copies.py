"""Copies and averages of the weights that are evaluated, or give targets, in a script's own run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from striate.doctor.checks.model.evaluated.slow_averages import share_of_way
from striate.doctor.checks.own_run.called_networks import (
    CHANGED,
    FEW_STEPS,
    LEAST_OF_ALL,
    LEAST_UPDATES,
    MOSTLY,
    ROUNDED,
    apart,
    are_equal,
    moved,
    networks_learning,
    never_changed,
    untouched,
)
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import CalledNetwork, OwnRun
from striate.wording import several

_FOLLOWED = 0.25
"""Of the way from first to last weights, at the end of training."""
_SELDOM, _EARLY, _OLD = 5, 0.25, 1 / 3
"""Steps for each update of an average; the share of training in which it begins; the share of its first weights."""
_LEAST_SHARE = 1e-3
"""Of how far a trained network moves its average moves by more, in the fewest steps."""


def _copy_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for trained in networks_learning(run):
        if trained.before != trained.before or moved(trained) <= CHANGED or run.steps < FEW_STEPS:
            continue
        if any(not call.learns and call.steps > 1 for call in trained.calls):
            continue  # it is asked, too
        for copy in run.networks.values():
            asked = [c for c in copy.calls if not c.learns and c.steps > FEW_STEPS]
            if copy is trained or copy.kind != trained.kind or any(c.learns for c in copy.calls):
                continue
            if not asked or not (run.ended or asked[0].steps < asked[-1].steps):
                continue  # an average may begin later
            still = all(apart(number, trained.before) <= ROUNDED for number in copy.weights)
            seldom = len({call.steps for call in asked}) <= MOSTLY * run.steps  # else it is a teacher, in each step
            share = _share_followed(trained, copy) if seldom and run.ended and not run.cut and not still else None
            if still or (share is not None and share < _FOLLOWED):
                gone = "still has its initial weights" if still else f"has moved {share:.1%} of the way to it"
                yield (
                    copy.name,
                    f"in {several(run.steps, 'step')} of the script, {trained.name} changes, but {copy.name}, the "
                    f"only one that runs without gradients ({several(len(asked), 'time')}), {gone}",
                )


def _share_followed(trained: CalledNetwork, copy: CalledNetwork) -> float | None:
    """How much of the way from the first weights of a network to its last ones a copy of them has gone."""
    networks = (copy.network, trained.network)
    return share_of_way(zip(trained.first, *(network.parameters() for network in networks), strict=True))


COPY_NEVER_CHANGES = OwnRunCheck(
    "model.evaluates-untrained",
    "error",
    f"a network with the shapes of the trained one has not changed after {FEW_STEPS} steps, or has moved less "
    f"than {_FOLLOWED:.0%} of the way to it at the end, and the trained one itself is never evaluated",
    "The evaluated network is not the trained one.",
    "update the average after each step: `with torch.no_grad(): p_ema.lerp_(p, 1 - decay)`, with a decay that "
    "forgets the beginning within the training; or evaluate the trained network",
    _copy_never_changes,
)


def _average_seldom_updated(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Averages that are updated once in many steps, and at the end have much of what they began with."""
    planned = run.planned or (run.steps if run.ended and not run.cut else 0)
    for average in run.averages.values() if planned else ():
        if len(average.updates) > MOSTLY * run.steps:
            continue  # a teacher, in each step
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
                f"{several(updates - began, 'time')}; after all {several(in_all, 'update')}, {share:.0%} of it are the "
                "weights of its first update",
            )


def _share_of_first(average: AveragedModel, updates: int) -> float:
    """How much of an average are the weights of its first update, after so many."""
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
    f"at the end, more than {_OLD:.0%} of an average that is updated at most every {_SELDOM} steps are the "
    f"weights of its first update, which is in the first {_EARLY:.0%} of training",
    "Its decay suits an update in each step: it contains hardly anything of the last epochs.",
    "update the average after each step: `average.update_parameters(model)` behind `optimizer.step()`; or use a "
    "smaller decay",
    _average_seldom_updated,
)


def _template_asked(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Networks whose calls with gradients have other weights than their own, and those without never."""
    for network in networks_learning(run):
        asked = [call for call in network.calls if not call.learns and call.steps > FEW_STEPS]
        seldom = len({call.steps for call in asked}) <= MOSTLY * run.steps
        if not asked or not seldom or not (run.ended or asked[0].steps < asked[-1].steps):
            continue
        given = [call.weights for call in network.calls if call.learns and call.steps > FEW_STEPS]
        own = [network.after, *(call.weights for call in network.calls if not call.learns)]
        still = all(apart(number, network.before) <= ROUNDED for number in own if number == number)
        others = [apart(number, network.before) > CHANGED for number in given if number == number]
        if network.before == network.before and still and others and all(others):
            yield (
                network.name,
                f"in {several(run.steps, 'step')} of the script, the calls of {network.name} with gradients use other "
                f"weights, which change, but all {several(len(asked), 'call')} without gradients use its own initial "
                "weights",
            )


TEMPLATE_ASKED = OwnRunCheck(
    "model.evaluates-untrained",
    "error",
    f"after {FEW_STEPS} steps, training runs the network with other weights, and evaluation never does",
    "The evaluated weights are not the trained ones.",
    "evaluate with the weights that are trained: `torch.func.functional_call(model, params, (x,))`",
    _template_asked,
)


def _target_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for still in never_changed(run, LEAST_OF_ALL):
        enough = run.ended or run.steps >= LEAST_UPDATES
        for trained in networks_learning(run):
            written = len(set(still.weights)) > 2 and moved(still) <= _LEAST_SHARE * moved(trained)  # rounding
            changes = trained.kind == still.kind and moved(trained) > CHANGED
            if changes and (enough or written) and not any(are_equal(still, other) for other in untouched(run)):
                yield (
                    still.name,
                    f"in {several(run.steps, 'step')} of the script, {trained.name} changes, but {still.name}, of the "
                    "same shapes, still has its initial weights",
                )


TARGET_NEVER_CHANGES = OwnRunCheck(
    "reward.target-stale",
    "error",
    f"no weight changes in {LEAST_OF_ALL} steps of a completed run, {LEAST_UPDATES} of an incomplete one, or "
    f"{LEAST_OF_ALL} if it is written to, in a network with the shapes of one that learns",
    "Values are learned from those of a random network forever.",
    "copy the weights from time to time: `target.load_state_dict(network.state_dict())`, or a share of them "
    "after each step",
    _target_never_changes,
)
