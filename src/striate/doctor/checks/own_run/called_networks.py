"""The networks of a script's own run: which of them learn, and whether their weights change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from striate.doctor.evidence.own_run import CalledNetwork, NetworkCall, OwnRun

FEW_STEPS, MANY_STEPS = 10, 20
STEPS_IF_COMPLETE, STEPS_IF_INCOMPLETE = 100, 1000
"""Steps of a completed run, and of an incomplete one, in which target networks may be updated seldom."""
MOSTLY = 0.5
ROUNDED, CHANGED = 1e-5, 1e-4
"""Relative changes of the weights: averaging equal weights changes them by rounding, training by more."""


def calls_like(run: OwnRun, like: CalledNetwork, *, learns: bool) -> list[NetworkCall]:
    """Calls of a network and its copies, with gradients or without; of those without, the ones after the first step."""
    alike = [network for network in run.networks.values() if network.kind == like.kind]
    return [call for one in alike for call in one.calls if call.learns == learns and (learns or call.steps > 1)]


def comparable_calls(run: OwnRun, network: CalledNetwork) -> tuple[list[NetworkCall], list[NetworkCall]]:
    """The calls of a network and its copies with gradients, and those without whose inputs have the same shape; calls
    with a constant input are left out."""
    learned = [call for call in calls_like(run, network, learns=True) if call.deviation > 0]
    shapes = {call.shape for call in learned}
    evaluated = [c for c in calls_like(run, network, learns=False) if c.deviation > 0 and c.shape in shapes]
    return learned, evaluated


def mean_and_deviation(calls: Sequence[NetworkCall]) -> tuple[float, float]:
    """The mean and the standard deviation of inputs, each averaged over calls."""
    return sum(call.mean for call in calls) / len(calls), sum(call.deviation for call in calls) / len(calls)


def networks_learning(run: OwnRun) -> Iterator[CalledNetwork]:
    for network in run.networks.values():
        if any(call.learns for call in network.calls):
            yield network


def never_changed(run: OwnRun, steps: int) -> Iterator[CalledNetwork]:
    for network in run.networks.values():
        if run.steps >= steps and largest_change(network) <= ROUNDED:
            yield network


def networks_without_gradients(run: OwnRun) -> Iterator[CalledNetwork]:
    """Networks that never change although an optimizer holds their parameters: none of these had a gradient at any of
    many steps. Their copies cannot change either."""
    for still in never_changed(run, STEPS_IF_COMPLETE):
        own = {id(parameter) for parameter in still.network.parameters() if parameter.requires_grad}
        steps = max((len(run.rates[key]) for key, held in run.trained.items() if own <= held), default=0)
        if own and own <= run.without_gradient.keys() and steps >= STEPS_IF_COMPLETE:
            yield still


def are_equal(one: CalledNetwork, other: CalledNetwork) -> bool:
    """Whether two networks have the same weights, before the run and after it."""
    pairs = [(network.weights[0], network.weights[-1]) for network in (one, other) if network.weights]
    alike = one.kind == other.kind and len(pairs) == 2
    return alike and all(relative_change(mine, others) <= ROUNDED for mine, others in zip(*pairs, strict=True))


def largest_change(network: CalledNetwork) -> float:
    """The largest relative change of the checksum of its weights."""
    first, *others = network.weights
    return max((relative_change(number, first) for number in others), default=0.0)


def relative_change(number: float, first: float) -> float:
    return abs(number - first) / max(abs(first), 1e-12)
