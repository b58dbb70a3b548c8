"""What networks are given in a script's own run, in which mode they are, and whether their weights change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from striate.doctor.checks.model.evaluated.slow_averages import share_of_way
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import CalledNetwork, NetworkCall, OwnRun, size_of
from striate.doctor.evidence.rates import COMPOUNDED, COMPOUNDED_REMEDY, COMPOUNDED_WHY, compounds, told_compounded
from striate.wording import listed_names, several

_FEW_STEPS, _MANY_STEPS = 10, 20
_FAR, _WIDER = 3.0, 3.0
_UP, _STILL_UP = 3.0, 0.2
_MOSTLY = 0.5
_DOWN, _LATER = 0.03, 1 / 3
_FOLLOWED = 0.25
"""Of the way from first to last weights, at the end of training."""
_SELDOM, _EARLY, _OLD = 5, 0.25, 1 / 3
"""Steps for each update of an average; the share of training in which it begins; the share of its first weights."""
_ROUNDED, _CHANGED = 1e-5, 1e-4
"""Shares of the weights' sizes: an average with itself moves by rounding, a training by more."""
_LEAST_OF_ALL, _LEAST_UPDATES = 100, 1000
"""Steps, of a run that came to its end and of one that did not: targets may be copied now and then only."""
_LEAST_SHARE = 1e-3
"""Of how far a trained network moves its average moves by more, in the fewest steps."""


def calls_like(run: OwnRun, like: CalledNetwork, *, learns: bool) -> list[NetworkCall]:
    """Those of a network and its copies, with gradients or without; these once something was learned."""
    alike = [network for network in run.networks.values() if network.kind == like.kind]
    return [call for one in alike for call in one.calls if call.learns == learns and (learns or call.steps > 1)]


def networks_learning(run: OwnRun) -> Iterator[CalledNetwork]:
    for network in run.networks.values():
        if any(call.learns for call in network.calls):
            yield network


def inputs_apart(run: OwnRun) -> Iterator[tuple[str, str]]:
    for network in networks_learning(run):
        learned = [call for call in calls_like(run, network, learns=True) if call.deviation > 0]
        shapes = {call.shape for call in learned}
        asked = [c for c in calls_like(run, network, learns=False) if c.deviation > 0 and c.shape in shapes]
        if len(learned) < _FEW_STEPS or not asked:
            continue
        if any(_are_near(one, other) for one in asked for other in learned):
            continue
        yield (
            f"the evaluation of {network.name}",
            f"the script's own steps give {network.name} inputs with {_told(learned)}, but its own evaluation gives "
            f"it {_told(asked)}",
        )


def _are_near(asked: NetworkCall, learned: NetworkCall) -> bool:
    gap = abs(asked.mean - learned.mean)
    wider = abs(math.log(max(asked.deviation, 1e-12) / learned.deviation))
    return gap <= _FAR * max(learned.deviation, asked.deviation) and wider <= math.log(_WIDER)


def _told(calls: list[NetworkCall]) -> str:
    mean = sum(call.mean for call in calls) / len(calls)
    deviation = sum(call.deviation for call in calls) / len(calls)
    return f"mean {mean:.3g} and standard deviation {deviation:.3g}"


def _left_in_evaluation(run: OwnRun) -> Iterator[tuple[str, str]]:
    for network in networks_learning(run):
        learned = [call for call in network.calls if call.learns]
        first = next((call.steps for call in network.calls if not call.learns and call.steps > 1), None)
        if first is None:
            continue
        before = [call.active for call in learned if call.steps < first]
        after = [call.active for call in learned if call.steps >= first]
        if len(before) >= 2 and all(before) and len(after) >= _FEW_STEPS and not any(after):
            yield (
                network.name,
                f"up to step {first} dropout or batch norm of {network.name} is in training mode, but in the "
                f"{several(len(after), 'call')} with gradients after the first evaluation none of it is",
            )


def _copy_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for trained in networks_learning(run):
        if trained.before != trained.before or _moved(trained) <= _CHANGED or run.steps < _FEW_STEPS:
            continue
        if any(not call.learns and call.steps > 1 for call in trained.calls):
            continue  # it is asked, too
        for copy in run.networks.values():
            asked = [c for c in copy.calls if not c.learns and c.steps > _FEW_STEPS]
            if copy is trained or copy.kind != trained.kind or any(c.learns for c in copy.calls):
                continue
            if not asked or not (run.ended or asked[0].steps < asked[-1].steps):
                continue  # an average may begin later
            still = all(_apart(number, trained.before) <= _ROUNDED for number in copy.weights)
            seldom = len({call.steps for call in asked}) <= _MOSTLY * run.steps  # else it is a teacher, in each step
            share = _share_followed(trained, copy) if seldom and run.ended and not run.cut and not still else None
            if still or (share is not None and share < _FOLLOWED):
                gone = "still has its initial weights" if still else f"has moved {share:.1%} of the way to it"
                yield (
                    copy.name,
                    f"in {several(run.steps, 'step')} of the script, {trained.name} changes, but {copy.name}, the "
                    f"only one that runs without gradients ({several(len(asked), 'time')}), {gone}",
                )


def _average_seldom_updated(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Averages that are updated once in many steps, and at the end have much of what they began with."""
    planned = run.planned or (run.steps if run.ended and not run.cut else 0)
    for average in run.averages.values() if planned else ():
        if len(average.updates) > _MOSTLY * run.steps:
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


def _template_asked(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Networks whose calls with gradients have other weights than their own, and those without never."""
    for network in networks_learning(run):
        asked = [call for call in network.calls if not call.learns and call.steps > _FEW_STEPS]
        seldom = len({call.steps for call in asked}) <= _MOSTLY * run.steps
        if not asked or not seldom or not (run.ended or asked[0].steps < asked[-1].steps):
            continue
        given = [call.weights for call in network.calls if call.learns and call.steps > _FEW_STEPS]
        own = [network.after, *(call.weights for call in network.calls if not call.learns)]
        still = all(_apart(number, network.before) <= _ROUNDED for number in own if number == number)
        others = [_apart(number, network.before) > _CHANGED for number in given if number == number]
        if network.before == network.before and still and others and all(others):
            yield (
                network.name,
                f"in {several(run.steps, 'step')} of the script, the calls of {network.name} with gradients use other "
                f"weights, which change, but all {several(len(asked), 'call')} without gradients use its own initial "
                "weights",
            )


def _share_followed(trained: CalledNetwork, copy: CalledNetwork) -> float | None:
    """How much of the way from the first weights of a network to its last ones a copy of them has gone."""
    networks = (copy.network, trained.network)
    return share_of_way(zip(trained.first, *(network.parameters() for network in networks), strict=True))


def _nothing_moves(run: OwnRun) -> Iterator[tuple[str, str]]:
    learning = [one for one in networks_learning(run) if any(id(p) in run.held for p in one.network.parameters())]
    rates = [rate for found in run.rates.values() for rate in found if rate > 0]
    still = learning and all(len(set(network.weights)) == 1 for network in learning)
    if still and run.steps >= _MANY_STEPS and len(rates) >= _MANY_STEPS // 2:
        names = listed_names([network.name for network in learning])
        yield (
            "the training step",
            f"after {several(run.steps, 'step')} of the script, no weight of {names} has changed",
        )


def _target_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for still in _never_changed(run, _LEAST_OF_ALL):
        enough = run.ended or run.steps >= _LEAST_UPDATES
        for trained in networks_learning(run):
            written = len(set(still.weights)) > 2 and _moved(still) <= _LEAST_SHARE * _moved(trained)  # rounding
            changes = trained.kind == still.kind and _moved(trained) > _CHANGED
            if changes and (enough or written) and not any(_are_equal(still, other) for other in _untouched(run)):
                yield (
                    still.name,
                    f"in {several(run.steps, 'step')} of the script, {trained.name} changes, but {still.name}, of the "
                    "same shapes, still has its initial weights",
                )


def _untouched(run: OwnRun) -> Iterator[CalledNetwork]:
    """Networks that never change, with parameters that an optimizer holds and none of which had a gradient at any of
    many steps: a copy of one has no other weights to get."""
    for still in _never_changed(run, _LEAST_OF_ALL):
        own = {id(parameter) for parameter in still.network.parameters() if parameter.requires_grad}
        steps = max((len(run.rates[key]) for key, held in run.trained.items() if own <= held), default=0)
        if own and own <= run.untouched.keys() and steps >= _LEAST_OF_ALL:
            yield still


def _are_equal(one: CalledNetwork, other: CalledNetwork) -> bool:
    """Whether two networks, or one, have the same weights before and after."""
    pairs = [(found.weights[0], found.weights[-1]) for found in (one, other) if found.weights]
    alike = one.kind == other.kind and len(pairs) == 2
    return alike and all(_apart(mine, others) <= _ROUNDED for mine, others in zip(*pairs, strict=True))


def _twin_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Of networks of the same shapes that one optimizer holds, one that no gradient reaches while another learns."""
    if not run.ended and run.steps < _LEAST_UPDATES:
        return  # its turn comes later, perhaps
    for still in _untouched(run):
        asked = sum(len(copy.calls) for copy in run.networks.values() if _are_equal(copy, still))
        own = {id(parameter) for parameter in still.network.parameters() if parameter.requires_grad}
        for key, held in run.trained.items():
            steps = len(run.rates[key])
            twin = next((one for one in networks_learning(run) if _learns_with(run, one, still, held)), None)
            if twin is not None and own <= held and min(asked, steps) >= _LEAST_OF_ALL:
                yield (
                    still.name,
                    f"in {several(steps, 'step')} of the optimizer that holds {twin.name} and {still.name}, of the "
                    f"same shapes, {twin.name} changes, but no parameter of {still.name} gets a gradient",
                )


def _learns_with(run: OwnRun, twin: CalledNetwork, still: CalledNetwork, held: set[int]) -> bool:
    own = {id(parameter) for parameter in twin.network.parameters() if parameter.requires_grad}
    return twin.kind == still.kind and own <= held - run.untouched.keys() and _moved(twin) > _CHANGED


def _actor_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    changed = {network.kind for network in run.networks.values() if _moved(network) > _CHANGED}
    for still in _never_changed(run, _LEAST_OF_ALL):
        parameters = list(still.network.parameters())
        gets = any(p.grad is not None and bool(p.grad.any()) for p in parameters)
        if changed and still.kind not in changed and gets and not any(id(p) in run.held for p in parameters):
            yield (
                still.name,
                f"in {several(run.steps, 'step')} of the script, no weight of {still.name} changes, though it has "
                "gradients: no optimizer holds its parameters",
            )


def _cut_off(run: OwnRun) -> Iterator[tuple[str, str]]:
    yield from _steps_without_gradient(run, reached=False)


def _cleared_before_step(run: OwnRun) -> Iterator[tuple[str, str]]:
    yield from _steps_without_gradient(run, reached=True)


def _steps_without_gradient(run: OwnRun, *, reached: bool) -> Iterator[tuple[str, str]]:
    if not run.ended and len(run.losses) < run.steps - 1:  # what went backward first was not seen
        return  # others go backward later, perhaps
    without = {key: held for key, held in run.trained.items() if held <= run.untouched.keys()}
    for key, held in without.items():
        steps = len(run.rates[key])
        for still in _never_changed(run, _LEAST_OF_ALL):
            holds = any(id(parameter) in held for parameter in still.network.parameters())
            learns = sum(call.learns for call in still.calls)
            if steps >= _LEAST_OF_ALL and holds and learns >= _LEAST_OF_ALL and (key in run.reached) == reached:
                yield (
                    still.name,
                    f"in {several(steps, 'step')} of its optimizer, and {several(learns, 'call')} with gradients, no "
                    f"parameter of {still.name} {'keeps a gradient until the step' if reached else 'gets a gradient'}",
                )


def _never_changed(run: OwnRun, steps: int) -> Iterator[CalledNetwork]:
    for network in run.networks.values():
        if run.steps >= steps and _moved(network) <= _ROUNDED:
            yield network


def _moved(network: CalledNetwork) -> float:
    """How far the sum of its weights' sizes went at most, as a share."""
    first, *others = network.weights
    return max((_apart(number, first) for number in others), default=0.0)


def _apart(number: float, first: float) -> float:
    return abs(number - first) / max(abs(first), 1e-12)


def _never_cleared(run: OwnRun) -> Iterator[tuple[str, str]]:
    for cleared in run.cleared.values():
        kept = cleared.count(False)
        if len(cleared) >= _MANY_STEPS and kept >= _MOSTLY * len(cleared):
            yield (
                "the training loop",
                f"before {kept} of {several(len(cleared), 'step')} of the script, nothing clears the gradients of the "
                "previous step",
            )


def _without_gradient(run: OwnRun) -> Iterator[tuple[str, str]]:
    if run.steps < _MANY_STEPS or run.loaded:  # what was loaded is kept as it is, perhaps
        return
    for network in networks_learning(run):
        names = [
            name
            for name, part in network.network.named_modules()
            if id(part) in run.in_training and any(_stays(run, p) for p in part.parameters(recurse=False))
        ]
        if names and not run.held & {id(p) for p in network.network.parameters()} <= run.untouched.keys():
            yield (
                listed_names(names),
                f"in {several(run.steps, 'step')} of the script, {network.name} calls {several(len(names), 'layer')} "
                "whose parameters the optimizer holds, but which no gradient ever reaches",
            )


def _stays(run: OwnRun, parameter: nn.Parameter) -> bool:
    """Whether it had no gradient at any step, nor was changed in another way, as an average."""
    found = run.untouched.get(id(parameter))
    return found is not None and size_of(parameter) == found[1]


def _rate_still_rises(run: OwnRun) -> Iterator[tuple[str, str]]:
    over = run.ended and not run.cut
    for rates in run.rates.values():
        rising = all(one <= other for one, other in pairwise(rates))
        tail = rates[-max(2, int(_STILL_UP * len(rates))) :]
        if over and len(rates) >= _MANY_STEPS and rising and rates[-1] >= _UP * rates[0] and tail[0] < rates[-1]:
            yield (
                "the learning rate's schedule",
                f"in all {several(len(rates), 'step')} of the script, the learning rate rises, from {rates[0]:.3g} to "
                f"{rates[-1]:.3g}, and training ends there",
            )
        top, begin = max(rates), int(_LATER * len(rates))
        left = max(rates[begin:])
        enough = len(rates) >= _MANY_STEPS if over else left == 0 and len(rates) >= _LEAST_OF_ALL
        if enough and left <= _DOWN * top and top > 0:
            yield (
                "the learning rate's schedule",
                f"of {several(len(rates), 'step')} of the script, all from step {begin + 1} on have at most "
                f"{left / top:.2%} of the highest rate",
            )


def _rate_compounds(run: OwnRun) -> Iterator[tuple[str, str]]:
    for rates in run.rates.values():
        if (different := compounds(rates)) is not None:
            yield "the learning rate's schedule", told_compounded(different)


def _not_finite(run: OwnRun) -> Iterator[tuple[str, str]]:
    tail = run.losses[-3:]
    if len(run.losses) >= _FEW_STEPS and all(not math.isfinite(value) for value in tail):
        first = next(place for place, value in enumerate(run.losses, start=1) if not math.isfinite(value))
        yield "the loss", f"from backward pass {first} of the script on, the loss is {tail[-1]:g}"


_NOT_FINITE = OwnRunCheck(
    "loss.not-finite",
    "error",
    "the last three losses of the script are NaN or infinite",
    "Nothing is learned from a loss that is NaN or infinite, and the weights become NaN too.",
    "halve the learning rate, or clip gradients: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` before "
    "`optimizer.step()`",
    _not_finite,
)
_NEVER_CLEARED = OwnRunCheck(
    "optim.missing-zero-grad",
    "error",
    f"before {_MOSTLY:.0%} of {_MANY_STEPS} steps or more, nothing clears the gradients of the previous step",
    "Each step reuses gradients of earlier batches.",
    "call `optimizer.zero_grad()` once a step, before `loss.backward()`",
    _never_cleared,
)
_RATE_GONE = OwnRunCheck(
    "optim.lr-schedule",
    "warning",
    f"in a script that ran to its end, the rate rises {_UP:g} times until the last step, or is at most {_DOWN:.0%} "
    f"of its highest in the last two thirds; in another, it is 0 in the last two thirds of {_LEAST_OF_ALL} steps or "
    "more",
    "The schedule is made for a training of another length, or counts in units other than steps.",
    "give the schedule its number of steps: `len(loader) * epochs` if it is stepped with each batch, `epochs` if "
    "with each epoch; with gradient accumulation, count the optimizer's steps",
    _rate_still_rises,
)
_RATE_COMPOUNDS = OwnRunCheck(
    "optim.lr-schedule", "warning", COMPOUNDED, COMPOUNDED_WHY, COMPOUNDED_REMEDY, _rate_compounds
)
OF_NETWORKS = (
    _NOT_FINITE,
    _NEVER_CLEARED,
    OwnRunCheck(
        "model.graph-detached",
        "error",
        f"in {_MANY_STEPS} steps, layers that run in training mode and that the optimizer holds get no gradient",
        "Layers that no gradient reaches keep their random weights.",
        "compute them with gradients: without `torch.no_grad()`, `.detach()` or `.data` between them and the loss",
        _without_gradient,
    ),
    OwnRunCheck(
        "data.shift",
        "error",
        f"all that the script's own evaluation gives the network has a standard deviation {_WIDER:g} times as large "
        f"or small as in any of its steps, or a mean {_FAR:g} standard deviations away",
        "The network is evaluated on inputs unlike any that it has seen: its metrics do not show what it has learned.",
        "prepare evaluation inputs like training inputs: the same scale, mean and standard deviation",
        inputs_apart,
    ),
    OwnRunCheck(
        "model.evaluates-untrained",
        "error",
        f"a network with the shapes of the trained one has not changed after {_FEW_STEPS} steps, or has moved less "
        f"than {_FOLLOWED:.0%} of the way to it at the end, and the trained one itself is never evaluated",
        "The evaluated network is not the trained one.",
        "update the average after each step: `with torch.no_grad(): p_ema.lerp_(p, 1 - decay)`, with a decay that "
        "forgets the beginning within the training; or evaluate the trained network",
        _copy_never_changes,
    ),
    OwnRunCheck(
        "model.evaluates-untrained",
        "warning",
        f"at the end, more than {_OLD:.0%} of an average that is updated at most every {_SELDOM} steps are the "
        f"weights of its first update, which is in the first {_EARLY:.0%} of training",
        "Its decay suits an update in each step: it contains hardly anything of the last epochs.",
        "update the average after each step: `average.update_parameters(model)` behind `optimizer.step()`; or use a "
        "smaller decay",
        _average_seldom_updated,
    ),
    OwnRunCheck(
        "model.evaluates-untrained",
        "error",
        f"after {_FEW_STEPS} steps, training runs the network with other weights, and evaluation never does",
        "The evaluated weights are not the trained ones.",
        "evaluate with the weights that are trained: `torch.func.functional_call(model, params, (x,))`",
        _template_asked,
    ),
    OwnRunCheck(
        "model.mode",
        "warning",
        f"{_FEW_STEPS} calls with gradients after the first evaluation, and two before it",
        "Dropout and batch norm are in evaluation mode for most of the training.",
        "call `model.train()` at the beginning of each epoch, or after each evaluation",
        _left_in_evaluation,
    ),
    OwnRunCheck(
        "optim.no-step",
        "error",
        f"no weight changes in {_MANY_STEPS} steps",
        "Nothing is learned.",
        "do not clear gradients between `loss.backward()` and `optimizer.step()`, and give the optimizer the "
        "parameters of the network that is called",
        _nothing_moves,
    ),
    _RATE_COMPOUNDS,
    _RATE_GONE,
)
OF_REWARDS = (
    _NOT_FINITE,
    _NEVER_CLEARED,
    _RATE_GONE,
    OwnRunCheck(
        "model.graph-detached",
        "error",
        f"{_LEAST_OF_ALL} steps of an optimizer whose parameters get no gradient, for a network that runs with "
        "gradients and never changes",
        "A policy that no gradient reaches keeps acting as it was initialized.",
        "compute its loss from its outputs and call `backward()` on it, without `.detach()` or `torch.no_grad()` in "
        "between",
        _cut_off,
    ),
    OwnRunCheck(
        "optim.no-step",
        "error",
        f"{_LEAST_OF_ALL} steps of an optimizer whose parameters get gradients, but have none when it steps",
        "Nothing is learned.",
        "clear gradients before `loss.backward()`, not between it and `optimizer.step()`",
        _cleared_before_step,
    ),
    OwnRunCheck(
        "model.graph-detached",
        "error",
        f"{_LEAST_OF_ALL} steps of a completed run, {_LEAST_UPDATES} of an incomplete one, in which one of two "
        "networks of the same shapes that an optimizer holds gets no gradient, and the other one learns",
        "A critic that no gradient reaches keeps its initial weights, and values are learned from its random outputs.",
        "compute a loss from its own outputs: `loss = mse_loss(q1(obs, action), target) + mse_loss(q2(obs, action), "
        "target)`",
        _twin_never_changes,
    ),
    OwnRunCheck(
        "reward.target-stale",
        "error",
        f"no weight changes in {_LEAST_OF_ALL} steps of a completed run, {_LEAST_UPDATES} of an incomplete one, or "
        f"{_LEAST_OF_ALL} if it is written to, in a network with the shapes of one that learns",
        "Values are learned from those of a random network forever.",
        "copy the weights from time to time: `target.load_state_dict(network.state_dict())`, or a share of them "
        "after each step",
        _target_never_changes,
    ),
    OwnRunCheck(
        "optim.parameters-missing",
        "error",
        f"no weight changes in {_LEAST_OF_ALL} steps, though there are gradients",
        "Parameters that no optimizer holds do not learn.",
        "create its optimizer with its own parameters: `torch.optim.Adam(actor.parameters(), lr=1e-3)`",
        _actor_never_changes,
    ),
)
