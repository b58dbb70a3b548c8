"""The networks of a script's own run: which of them learn, and whether their weights change."""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.evidence.own_run import CalledNetwork, NetworkCall, OwnRun

FEW_STEPS, MANY_STEPS = 10, 20
LEAST_OF_ALL, LEAST_UPDATES = 100, 1000
"""Steps, of a run that came to its end and of one that did not: targets may be copied now and then only."""
MOSTLY = 0.5
ROUNDED, CHANGED = 1e-5, 1e-4
"""Shares of the weights' sizes: an average with itself moves by rounding, a training by more."""


def calls_like(run: OwnRun, like: CalledNetwork, *, learns: bool) -> list[NetworkCall]:
    """Those of a network and its copies, with gradients or without; these once something was learned."""
    alike = [network for network in run.networks.values() if network.kind == like.kind]
    return [call for one in alike for call in one.calls if call.learns == learns and (learns or call.steps > 1)]


def networks_learning(run: OwnRun) -> Iterator[CalledNetwork]:
    for network in run.networks.values():
        if any(call.learns for call in network.calls):
            yield network


def never_changed(run: OwnRun, steps: int) -> Iterator[CalledNetwork]:
    for network in run.networks.values():
        if run.steps >= steps and moved(network) <= ROUNDED:
            yield network


def untouched(run: OwnRun) -> Iterator[CalledNetwork]:
    """Networks that never change, with parameters that an optimizer holds and none of which had a gradient at any of
    many steps: a copy of one has no other weights to get."""
    for still in never_changed(run, LEAST_OF_ALL):
        own = {id(parameter) for parameter in still.network.parameters() if parameter.requires_grad}
        steps = max((len(run.rates[key]) for key, held in run.trained.items() if own <= held), default=0)
        if own and own <= run.without_gradient.keys() and steps >= LEAST_OF_ALL:
            yield still


def are_equal(one: CalledNetwork, other: CalledNetwork) -> bool:
    """Whether two networks, or one, have the same weights before and after."""
    pairs = [(found.weights[0], found.weights[-1]) for found in (one, other) if found.weights]
    alike = one.kind == other.kind and len(pairs) == 2
    return alike and all(apart(mine, others) <= ROUNDED for mine, others in zip(*pairs, strict=True))


def moved(network: CalledNetwork) -> float:
    """How far the sum of its weights' sizes went at most, as a share."""
    first, *others = network.weights
    return max((apart(number, first) for number in others), default=0.0)


def apart(number: float, first: float) -> float:
    return abs(number - first) / max(abs(first), 1e-12)
