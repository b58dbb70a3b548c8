"""Weights in a script's own run that no gradient reaches, or that no step changes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.model.origins import looks_untrained
from striate.doctor.checks.own_run.called_networks import (
    CHANGED,
    MANY_STEPS,
    MOSTLY,
    STEPS_IF_COMPLETE,
    STEPS_IF_INCOMPLETE,
    are_equal,
    largest_change,
    networks_learning,
    networks_without_gradients,
    never_changed,
)
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import CalledNetwork, OwnRun, size_of
from striate.wording import listed_names, percent, several


def _never_cleared(run: OwnRun) -> Iterator[tuple[str, str]]:
    for cleared in run.cleared.values():
        uncleared = cleared.count(False)
        if len(cleared) >= MANY_STEPS and uncleared >= MOSTLY * len(cleared):
            yield (
                "the training loop",
                f"before {uncleared} of {several(len(cleared), 'step')} of the script, nothing clears the gradients of "
                "the previous step",
            )


NEVER_CLEARED = OwnRunCheck(
    "optim.missing-zero-grad",
    "error",
    f"before {percent(MOSTLY, 0)} of {MANY_STEPS} steps or more, nothing clears the gradients of the previous step",
    "Each step reuses gradients of earlier batches.",
    "call `optimizer.zero_grad()` once a step, before `loss.backward()`",
    _never_cleared,
)


def _nothing_moves(run: OwnRun) -> Iterator[tuple[str, str]]:
    learning = [one for one in networks_learning(run) if any(id(p) in run.held for p in one.network.parameters())]
    rates = [rate for found in run.rates.values() for rate in found if rate > 0]
    still = learning and all(len(set(network.weights)) == 1 for network in learning)
    if still and run.steps >= MANY_STEPS and len(rates) >= MANY_STEPS // 2:
        names = listed_names([network.name for network in learning])
        yield (
            "the training step",
            f"after {several(run.steps, 'step')} of the script, no weight of {names} has changed",
        )


NOTHING_MOVES = OwnRunCheck(
    "optim.no-step",
    "error",
    f"no weight changes in {MANY_STEPS} steps",
    "Nothing is learned.",
    "do not clear gradients between `loss.backward()` and `optimizer.step()`, and give the optimizer the "
    "parameters of the network that is called",
    _nothing_moves,
)


def _without_gradient(run: OwnRun) -> Iterator[tuple[str, str]]:
    if run.steps < MANY_STEPS or run.loaded:  # loaded weights may be frozen
        return
    for network in networks_learning(run):
        still = {
            name: [one for one in part.parameters(recurse=False) if _stays(run, one) and not _is_unused(run, part, one)]
            for name, part in network.network.named_modules()
            if id(part) in run.in_training
        }
        names = [name for name, parameters in still.items() if parameters]
        if any(looks_untrained(p) is False for parameters in still.values() for p in parameters if p.ndim > 1):
            continue  # trained before, as in a training on other data
        if names and not run.held & {id(p) for p in network.network.parameters()} <= run.without_gradient.keys():
            yield (
                listed_names(names),
                f"in {several(run.steps, 'step')} of the script, {network.name} calls {several(len(names), 'layer')} "
                "whose parameters the optimizer holds, but which no gradient ever reaches",
            )


def _stays(run: OwnRun, parameter: nn.Parameter) -> bool:
    """Whether a parameter had no gradient at any step, and was not changed in another way, as averages are."""
    found = run.without_gradient.get(id(parameter))
    return found is not None and size_of(parameter) == found[1]


def _is_unused(run: OwnRun, part: nn.Module, parameter: nn.Parameter) -> bool:
    """Whether a trial step has shown that the loss does not depend on this layer's output, as on that of the pooler of
    a transformer: no cut was found behind it, and it is computed with gradients."""
    return id(part) in run.with_gradients and id(parameter) in run.examined


WITHOUT_GRADIENT = OwnRunCheck(
    "model.graph-detached",
    "error",
    f"in {MANY_STEPS} steps, layers that run in training mode and that the optimizer holds get no gradient",
    "Layers that no gradient reaches keep their random weights.",
    "compute them with gradients: without `torch.no_grad()`, `.detach()` or `.data` between them and the loss",
    _without_gradient,
)


def _cut_off(run: OwnRun) -> Iterator[tuple[str, str]]:
    yield from _steps_without_gradient(run, reached=False)


CUT_OFF = OwnRunCheck(
    "model.graph-detached",
    "error",
    f"{STEPS_IF_COMPLETE} steps of an optimizer whose parameters get no gradient, for a network that runs with "
    "gradients and never changes",
    "A policy that no gradient reaches keeps acting as it was initialized.",
    "compute its loss from its outputs and call `backward()` on it, without `.detach()` or `torch.no_grad()` in "
    "between",
    _cut_off,
)


def _cleared_before_step(run: OwnRun) -> Iterator[tuple[str, str]]:
    yield from _steps_without_gradient(run, reached=True)


CLEARED_BEFORE_STEP = OwnRunCheck(
    "optim.no-step",
    "error",
    f"{STEPS_IF_COMPLETE} steps of an optimizer whose parameters get gradients, but have none when it steps",
    "Nothing is learned.",
    "clear gradients before `loss.backward()`, not between it and `optimizer.step()`",
    _cleared_before_step,
)


def _steps_without_gradient(run: OwnRun, *, reached: bool) -> Iterator[tuple[str, str]]:
    if not run.ended and len(run.losses) < run.steps - 1:  # the first backward passes were not seen
        return  # other losses may follow later
    without = {key: held for key, held in run.trained.items() if held <= run.without_gradient.keys()}
    for key, held in without.items():
        steps = len(run.rates[key])
        for still in never_changed(run, STEPS_IF_COMPLETE):
            holds = any(id(parameter) in held for parameter in still.network.parameters())
            learns = sum(call.learns for call in still.calls)
            if steps >= STEPS_IF_COMPLETE and holds and learns >= STEPS_IF_COMPLETE and (key in run.reached) == reached:
                yield (
                    still.name,
                    f"in {several(steps, 'step')} of its optimizer, and {several(learns, 'call')} with gradients, no "
                    f"parameter of {still.name} {'keeps a gradient until the step' if reached else 'gets a gradient'}",
                )


def _critic_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Two networks of the same shapes that one optimizer holds, as two critics: one learns, no gradient reaches the
    other."""
    if not run.ended and run.steps < STEPS_IF_INCOMPLETE:
        return  # it may be trained later
    for still in networks_without_gradients(run):
        calls = sum(len(copy.calls) for copy in run.networks.values() if are_equal(copy, still))
        own = {id(parameter) for parameter in still.network.parameters() if parameter.requires_grad}
        for key, held in run.trained.items():
            steps = len(run.rates[key])
            other = next((one for one in networks_learning(run) if _learns_with(run, one, still, held)), None)
            if other is not None and own <= held and min(calls, steps) >= STEPS_IF_COMPLETE:
                yield (
                    still.name,
                    f"in {several(steps, 'step')} of the optimizer that holds {other.name} and {still.name}, of the "
                    f"same shapes, {other.name} changes, but no parameter of {still.name} gets a gradient",
                )


def _learns_with(run: OwnRun, other: CalledNetwork, still: CalledNetwork, held: set[int]) -> bool:
    own = {id(parameter) for parameter in other.network.parameters() if parameter.requires_grad}
    return other.kind == still.kind and own <= held - run.without_gradient.keys() and largest_change(other) > CHANGED


CRITIC_NEVER_CHANGES = OwnRunCheck(
    "model.graph-detached",
    "error",
    f"{STEPS_IF_COMPLETE} steps of a completed run, {STEPS_IF_INCOMPLETE} of an incomplete one, in which one of two "
    "networks of the same shapes that an optimizer holds gets no gradient, and the other one learns",
    "A critic that no gradient reaches keeps its initial weights, and values are learned from its random outputs.",
    "compute a loss from its own outputs: `loss = mse_loss(q1(obs, action), target) + mse_loss(q2(obs, action), "
    "target)`",
    _critic_never_changes,
)


def _actor_never_changes(run: OwnRun) -> Iterator[tuple[str, str]]:
    changed = {network.kind for network in run.networks.values() if largest_change(network) > CHANGED}
    for still in never_changed(run, STEPS_IF_COMPLETE):
        parameters = list(still.network.parameters())
        has_gradient = any(p.grad is not None and bool(p.grad.any()) for p in parameters)
        if changed and still.kind not in changed and has_gradient and not any(id(p) in run.held for p in parameters):
            yield (
                still.name,
                f"in {several(run.steps, 'step')} of the script, no weight of {still.name} changes, though it has "
                "gradients: no optimizer holds its parameters",
            )


ACTOR_NEVER_CHANGES = OwnRunCheck(
    "optim.parameters-missing",
    "error",
    f"no weight changes in {STEPS_IF_COMPLETE} steps, though there are gradients",
    "Parameters that no optimizer holds do not learn.",
    "create its optimizer with its own parameters: `torch.optim.Adam(actor.parameters(), lr=1e-3)`",
    _actor_never_changes,
)
