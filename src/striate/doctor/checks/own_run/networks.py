"""What networks are given in a script's own run, in which mode they are, and whether their weights change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import nn

from striate.doctor.checks.model.never_updated import share_of_way
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import CalledNetwork, NetworkCall, OwnRun, size_of
from striate.wording import listed_names, several

_FEW_STEPS, _MANY_STEPS = 10, 20
_FAR, _WIDER = 3.0, 3.0
_UP, _STILL_UP = 3.0, 0.2
_MOSTLY = 0.5
_DOWN, _LATER = 0.03, 1 / 3
_FOLLOWED = 0.25
"""Of the way from first to last weights, at the end of training."""
_ROUNDED, _CHANGED = 1e-5, 1e-4
"""Shares of the weights' sizes: an average with itself moves by rounding, a training by more."""
_LEAST_OF_ALL, _LEAST_UPDATES = 100, 1000
"""Steps, of a run that came to its end and of one that did not: targets may be copied now and then only."""
_LEAST_SHARE = 1e-3
"""Of how far a trained network moves its average moves by more, in the fewest steps."""


def _calls(run: OwnRun, like: CalledNetwork, *, learns: bool) -> list[NetworkCall]:
    """Those of a network and its copies, with gradients or without; these once something was learned."""
    alike = [network for network in run.networks.values() if network.kind == like.kind]
    return [call for one in alike for call in one.calls if call.learns == learns and (learns or call.steps > 1)]


def _learning(run: OwnRun) -> Iterator[CalledNetwork]:
    for network in run.networks.values():
        if any(call.learns for call in network.calls):
            yield network


def _inputs_apart(run: OwnRun) -> Iterator[tuple[str, str]]:
    for network in _learning(run):
        learned = [call for call in _calls(run, network, learns=True) if call.deviation > 0]
        shapes = {call.shape for call in learned}
        asked = [c for c in _calls(run, network, learns=False) if c.deviation > 0 and c.shape in shapes]
        if len(learned) < _FEW_STEPS or not asked:
            continue
        if any(_are_near(one, other) for one in asked for other in learned):
            continue
        yield (
            f"the evaluation of {network.name}",
            f"the script's own steps give {network.name} inputs of {_told(learned)}, its own evaluation of "
            f"{_told(asked)}",
        )


def _are_near(asked: NetworkCall, learned: NetworkCall) -> bool:
    gap = abs(asked.mean - learned.mean)
    wider = abs(math.log(max(asked.deviation, 1e-12) / learned.deviation))
    return gap <= _FAR * max(learned.deviation, asked.deviation) and wider <= math.log(_WIDER)


def _told(calls: list[NetworkCall]) -> str:
    mean = sum(call.mean for call in calls) / len(calls)
    deviation = sum(call.deviation for call in calls) / len(calls)
    return f"mean {mean:.3g} and deviation {deviation:.3g}"


def _left_in_evaluation(run: OwnRun) -> Iterator[tuple[str, str]]:
    for network in _learning(run):
        learned = [call for call in network.calls if call.learns]
        first = next((call.steps for call in network.calls if not call.learns and call.steps > 1), None)
        if first is None:
            continue
        before = [call.active for call in learned if call.steps < first]
        after = [call.active for call in learned if call.steps >= first]
        if len(before) >= 2 and all(before) and len(after) >= _FEW_STEPS and not any(after):
            yield (
                network.name,
                f"up to step {first} dropout or batch norm of {network.name} is in training mode, and in the "
                f"{several(len(after), 'call')} with gradients after the first evaluation nothing of it is",
            )


def _copy_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for trained in _learning(run):
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
                gone = "still has the weights that it began with" if still else f"has gone {share:.1%} of the way to it"
                yield (
                    copy.name,
                    f"in {several(run.steps, 'step')} of the script's own {trained.name} changes, and {copy.name}, the "
                    f"only one that is asked without gradients ({several(len(asked), 'time')}), {gone}",
                )


def _template_asked(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Networks whose calls with gradients have other weights than their own, and those without never."""
    for network in _learning(run):
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
                f"in {several(run.steps, 'step')} of the script's own the calls of {network.name} with gradients are "
                f"given other weights, which change, and all {several(len(asked), 'call')} without gradients run the "
                "weights of its own, which it began with",
            )


def _share_followed(trained: CalledNetwork, copy: CalledNetwork) -> float | None:
    """How much of the way from the first weights of a network to its last ones a copy of them has gone."""
    networks = (copy.network, trained.network)
    return share_of_way(zip(trained.first, *(network.parameters() for network in networks), strict=True))


def _nothing_moves(run: OwnRun) -> Iterator[tuple[str, str]]:
    learning = [one for one in _learning(run) if any(id(p) in run.held for p in one.network.parameters())]
    rates = [rate for found in run.rates.values() for rate in found if rate > 0]
    still = learning and all(len(set(network.weights)) == 1 for network in learning)
    if still and run.steps >= _MANY_STEPS and len(rates) >= _MANY_STEPS // 2:
        names = listed_names([network.name for network in learning])
        yield (
            "the training step",
            f"after {several(run.steps, 'step')} of the script's own no weight of {names} changed",
        )


def _target_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    for still in _never_changed(run, _LEAST_OF_ALL):
        enough = run.ended or run.steps >= _LEAST_UPDATES
        for trained in _learning(run):
            written = len(set(still.weights)) > 2 and _moved(still) <= _LEAST_SHARE * _moved(trained)  # rounding
            if trained.kind == still.kind and _moved(trained) > _CHANGED and (enough or written):
                yield (
                    still.name,
                    f"in {several(run.steps, 'step')} of the script's own {trained.name} changes, and {still.name}, of "
                    "the same shapes, still has the weights that it began with",
                )


def _actor_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    changed = {network.kind for network in run.networks.values() if _moved(network) > _CHANGED}
    for still in _never_changed(run, _LEAST_OF_ALL):
        parameters = list(still.network.parameters())
        gets = any(p.grad is not None and bool(p.grad.any()) for p in parameters)
        if changed and still.kind not in changed and gets and not any(id(p) in run.held for p in parameters):
            yield (
                still.name,
                f"in {several(run.steps, 'step')} of the script's own no weight of {still.name} changes, though it has "
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
                f"before {kept} of {several(len(cleared), 'step')} of the script's own nothing cleared the gradients "
                "of the step before",
            )


def _without_gradient(run: OwnRun) -> Iterator[tuple[str, str]]:
    if run.steps < _MANY_STEPS or run.loaded:  # what was loaded is kept as it is, perhaps
        return
    for network in _learning(run):
        names = [
            name
            for name, part in network.network.named_modules()
            if id(part) in run.in_training and any(_stays(run, p) for p in part.parameters(recurse=False))
        ]
        if names and not run.held & {id(p) for p in network.network.parameters()} <= run.untouched.keys():
            yield (
                listed_names(names),
                f"in {several(run.steps, 'step')} of the script's own {network.name} calls "
                f"{several(len(names), 'layer')} whose parameters the optimizer holds and no gradient ever reaches",
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
                f"in all {several(len(rates), 'step')} of the script's own the rate rises, from {rates[0]:.3g} to "
                f"{rates[-1]:.3g}, and it ends there",
            )
        top, begin = max(rates), int(_LATER * len(rates))
        left = max(rates[begin:])
        enough = len(rates) >= _MANY_STEPS if over else left == 0 and len(rates) >= _LEAST_OF_ALL
        if enough and left <= _DOWN * top and top > 0:
            yield (
                "the learning rate's schedule",
                f"of {several(len(rates), 'step')} of the script's own all from step {begin + 1} on have at most "
                f"{left / top:.2%} of the highest rate",
            )


def _not_finite(run: OwnRun) -> Iterator[tuple[str, str]]:
    tail = run.losses[-3:]
    if len(run.losses) >= _FEW_STEPS and all(not math.isfinite(value) for value in tail):
        first = next(place for place, value in enumerate(run.losses, start=1) if not math.isfinite(value))
        yield "the loss", f"from backward pass {first} of the script's own on the loss is {tail[-1]:g}"


_NOT_FINITE = OwnRunCheck(
    "loss.not-finite",
    "error",
    "the last three losses of a script that goes on",
    "Nothing is learned from a loss that is NaN or infinite, and the weights become NaN too.",
    "halve the learning rate, or clip gradients: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` before "
    "`optimizer.step()`",
    _not_finite,
)
_NEVER_CLEARED = OwnRunCheck(
    "optim.missing-zero-grad",
    "error",
    f"{_MANY_STEPS} steps, before {_MOSTLY:.0%} of which nothing clears the gradients of the step before",
    "Each step is made with gradients of batches that it was made with before.",
    "call `optimizer.zero_grad()` once a step, before `loss.backward()`",
    _never_cleared,
)
_RATE_GONE = OwnRunCheck(
    "optim.lr-schedule",
    "warning",
    f"of a script that came to its end: a rate that rises {_UP:g} times and to the last step, or one of at most "
    f"{_DOWN:.0%} of the highest in the last two thirds; of one that did not, a rate of 0 in those of {_LEAST_OF_ALL} "
    "steps or more",
    "The schedule is made for a training of another length, or counts in other units than steps.",
    "give the schedule the number of its own steps: `len(loader) * epochs` where it steps with each batch, "
    "`epochs` where with each epoch, and count updates where it is set for each update",
    _rate_still_rises,
)
OF_NETWORKS = (
    _NOT_FINITE,
    _NEVER_CLEARED,
    OwnRunCheck(
        "model.graph-detached",
        "error",
        f"layers in training mode that are called and held by the optimizer, and no gradient in {_MANY_STEPS} steps",
        "What no gradient reaches keeps its random weights.",
        "compute them with gradients: without `torch.no_grad()`, `.detach()` or `.data` on the way to the loss",
        _without_gradient,
    ),
    OwnRunCheck(
        "data.shift",
        "error",
        f"all that the script's own evaluation gives the network has a deviation {_WIDER:g} times as large or small as "
        f"in any of its steps, or a mean {_FAR:g} deviations away",
        "The network is asked what it has never seen: its figures say nothing of what it has learned.",
        "prepare what is evaluated as what is trained on: the same scale, mean and deviation",
        _inputs_apart,
    ),
    OwnRunCheck(
        "model.evaluates-untrained",
        "error",
        f"after {_FEW_STEPS} steps, or {_FOLLOWED:.0%} of the way at the end of all, of a network with the shapes of "
        "the trained one, which itself is never asked",
        "What is evaluated is not what is trained.",
        "write the average into the parameters, after each step: `with torch.no_grad(): p_ema.lerp_(p, 1 - decay)`, "
        "with a decay that forgets the beginning within the training; or evaluate the trained network",
        _copy_never_changes,
    ),
    OwnRunCheck(
        "model.evaluates-untrained",
        "error",
        f"after {_FEW_STEPS} steps, of a network that steps give other weights, and evaluation never",
        "What is evaluated is not what is trained.",
        "evaluate with the weights that are trained: `torch.func.functional_call(model, params, (x,))`",
        _template_asked,
    ),
    OwnRunCheck(
        "model.mode",
        "warning",
        f"{_FEW_STEPS} calls with gradients after the first evaluation, and two before it",
        "Dropout and batch norm do nothing of what they are for in most of the training.",
        "call `model.train()` at the beginning of each epoch, or after each evaluation",
        _left_in_evaluation,
    ),
    OwnRunCheck(
        "optim.no-step",
        "error",
        f"no weight changes in {_MANY_STEPS} steps",
        "Nothing is learned.",
        "let nothing clear gradients between `loss.backward()` and `optimizer.step()`, and give the optimizer the "
        "parameters of the network that is called",
        _nothing_moves,
    ),
    _RATE_GONE,
)
OF_REWARDS = (
    _NOT_FINITE,
    _NEVER_CLEARED,
    _RATE_GONE,
    OwnRunCheck(
        "model.graph-detached",
        "error",
        f"{_LEAST_OF_ALL} steps of an optimizer none of whose parameters gets a gradient, of a network that is called "
        "with gradients and never changes",
        "A policy that no gradient reaches acts as it was initialized.",
        "let its loss go backward, and be made of what it gives: without `.detach()` or `torch.no_grad()` on the way",
        _cut_off,
    ),
    OwnRunCheck(
        "optim.no-step",
        "error",
        f"{_LEAST_OF_ALL} steps of an optimizer whose parameters get gradients and never have any at a step",
        "Nothing is learned.",
        "clear gradients before `loss.backward()`, not between it and `optimizer.step()`",
        _cleared_before_step,
    ),
    OwnRunCheck(
        "reward.target-stale",
        "error",
        f"no weight changes in {_LEAST_OF_ALL} steps of a run that came to its end, {_LEAST_UPDATES} of one that did "
        f"not, or {_LEAST_OF_ALL} where it is written to, of a network with the shapes of one that learns",
        "Values are learned from those of a random network, for ever.",
        "copy the weights now and then: `target.load_state_dict(network.state_dict())`, or a share of them after each "
        "step",
        _target_never_changes,
    ),
    OwnRunCheck(
        "optim.parameters-missing",
        "error",
        f"no weight changes in {_LEAST_OF_ALL} steps, and gradients come",
        "What no optimizer holds does not learn.",
        "make its optimizer with its own parameters: `torch.optim.Adam(actor.parameters(), lr=1e-3)`",
        _actor_never_changes,
    ),
)
