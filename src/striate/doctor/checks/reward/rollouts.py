"""`reward.terminal-lost`, `reward.off-by-one` of rollouts: what values and returns say that are kept beside rewards."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.recorded import attributes, fits, on_cpu
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_values
from striate.models.preserved_state import same_random_state
from striate.observe.tensors import tensors_in
from striate.records import Finding
from striate.tasks.control.doctor import terminal_lost
from striate.wording import several

_FEWEST, _MOST, _ASKED = 40, 20_000, 256
"""Rewards, rows that are looked at, and rows of them for which a network is asked."""
_FEWEST_ENDS = 3
_EXACT, _SHOWN = 1e-3, 0.05
"""Of the deviation: so far apart is the same, and so much would be missed."""
_MOSTLY, _HALF = 0.9, 0.5
_KINDS = {
    "returns": re.compile(r"^(returns?|rets?|rtgs?|rewards?_to_go)(_buf)?$"),
    "values": re.compile(r"^(v|vals?|values?)(_buf)?$"),
    "advantages": re.compile(r"^(advs?|advantages?|gaes?)(_buf)?$"),
}


def _run(evidence: Evidence) -> Iterator[Finding]:
    names = evidence.source.names
    rollouts = [kept for held in (names, *names.values()) if (kept := _rollout(held))]
    if not rollouts:
        raise NoEvidence(f"no rollout of {_FEWEST} rewards or more is found at the first step")
    networks = [value for value in reached_values(names) if isinstance(value, nn.Module)]
    for kept in rollouts:
        yield from _over_ends(kept)
        yield from _of_the_step_before(kept, [part for one in networks for part in (one, *one.children())])


def _rollout(held: Any) -> dict[str, Tensor]:
    """The rows of a rollout in the order of time, of each kind what has most numbers: all have the shape of rewards,
    (T,) or (T, environments), but observations that and more. Empty where there are no such rewards."""
    found = dict[str, Tensor]()
    for name, part in list((held if isinstance(held, Mapping) else attributes(held)).items()):
        kind = _kind(str(name)) if isinstance(part, list | Tensor | np.ndarray) else ""
        if not kind:
            continue
        with suppress(ValueError, TypeError, IndexError, RuntimeError):  # ragged, of objects, a single number
            rows = part[: _ASKED if kind == "observations" else _MOST]
            numbers = torch.as_tensor(np.array([on_cpu(row) for row in rows]))
            if numbers.numel() > found.get(kind, torch.empty(0)).numel():
                found[kind] = numbers
    shape = found["rewards"].shape if "rewards" in found else torch.Size([0])
    kept = dict[str, Tensor]()
    for kind, numbers in found.items() if shape.numel() >= _FEWEST else ():
        rows = numbers[: shape[0]]  # one more may be kept: what follows the last step
        if kind == "observations":
            kept |= {kind: rows} if rows.shape[1 : len(shape)] == shape[1:] else {}
        elif rows.numel() == shape.numel():
            kept[kind] = rows.reshape(shape).double()
    return kept


def _kind(name: str) -> str:
    own = next((kind for kind, words in _KINDS.items() if words.search(name.lower())), "")
    return own or next((kind for kind in ("observations", "rewards", "terminated", "going_on") if fits(kind, name)), "")


def _over_ends(kept: dict[str, Tensor]) -> Iterator[Finding]:
    """Returns less their rewards are the same sum of the next step's value and return everywhere, at ends, too."""
    returns, ends = kept.get("returns"), kept.get("terminated", kept.get("going_on"))
    if returns is None and {"advantages", "values"} <= kept.keys():
        returns = kept["advantages"] + kept["values"]
    if returns is None or ends is None:
        return
    marked = (ends == 0) if "terminated" not in kept else (ends != 0)
    marked[[0, -1]] = False
    near = marked[:-1] | marked[1:]  # an end is marked at the last step of an episode, or at the first of the next one
    made = returns[:-1] - kept["rewards"][:-1]
    later = torch.stack([part[1:] for part in (returns, kept.get("values")) if part is not None], -1)
    if int(marked.sum()) < _FEWEST_ENDS or int((~near).sum()) < _FEWEST / 2 or not bool(later.isfinite().all()):
        return
    factors = torch.linalg.lstsq(later[~near], made[~near][:, None], driver="gelsd").solution[:, 0]
    counted, deviation = later @ factors, float(made.std())
    shown = (counted[near].abs() > _SHOWN * deviation).double().mean()
    goes_on = (made - counted).abs() < _EXACT * deviation
    if bool(goes_on.all()) and float(shown) > _HALF:
        yield terminal_lost(
            "the rollout at the first step",
            "its returns count what follows each step by the same factors everywhere, also at "
            f"{several(int(marked.sum()), 'end')} of episodes that are marked in it",
            threshold="returns minus rewards are the same combination of next value and next return everywhere, also "
            f"at {_FEWEST_ENDS} or more ends",
            remedy="multiply what comes from the next step by `1 - done`, both the next value and the running sum: "
            "`delta = reward + gamma * next_value * (1 - done) - value; gae = delta + gamma * lam * (1 - done) * gae`",
        )
    first, last = marked[:-1] & ~marked[1:], marked[1:] & ~marked[:-1]
    if bool(goes_on[~near].all()) and _mostly(goes_on[last]) and _mostly(~goes_on[first]) and _begin(kept, first, last):
        yield terminal_lost(
            "the rollout at the first step",
            f"its returns count what follows the last step of {several(int(last.sum()), 'episode')}, but not what "
            "follows the first step of the next one, where the end is marked",
            threshold=f"observations jump on the way to {_MOSTLY:.0%} of the marked steps, and returns minus rewards "
            f"are the same combination of next value and next return in {_MOSTLY:.0%} of the steps before them, but "
            "not in them",
            remedy="multiply what follows step t by `1 - dones[t + 1]`, if `dones[t]` means that observation t is "
            "the first of an episode",
        )


def _begin(kept: dict[str, Tensor], first: Tensor, last: Tensor) -> bool:
    """Whether marked steps are the first of their episodes: observations change farther on the way to them than between
    others, and on the way from them as usual."""
    seen = kept.get("observations", torch.empty(0))
    if seen.ndim <= first.ndim:
        return False
    far = seen.double().diff(dim=0).flatten(first.ndim).norm(dim=-1)
    first, last = first[: len(far)], last[: len(far)]
    if int(last.sum()) < _FEWEST_ENDS or not bool((usual := far[~first & ~last]).numel()):
        return False
    leaps = far > usual.quantile(_MOSTLY)
    return _mostly(leaps[last]) and float(leaps[first].double().mean()) <= _HALF


def _mostly(holds: Tensor) -> bool:
    return bool(holds.double().mean() > _MOSTLY)  # not of none


def _of_the_step_before(kept: dict[str, Tensor], networks: list[nn.Module]) -> Iterator[Finding]:
    """Values are what a network gives for the observation that is kept one step before, and not for their own."""
    observations, values = kept.get("observations"), kept.get("values")
    if observations is None or values is None:
        return
    values = values[: len(observations)]
    for network in dict.fromkeys(networks):
        for given in _asked(network, observations, values):
            own, before = _same(given, values), _same(given[:-1], values[1:])
            if own > _HALF:
                return
            if before > _MOSTLY:
                yield ROLLOUTS.finding(
                    code="reward.off-by-one",
                    severity="error",
                    where="the rollout at the first step",
                    measured=f"{before:.0%} of its values are a network's outputs for the observation that is stored "
                    f"one step before, {own:.0%} for their own",
                    limit=f"{_MOSTLY:.0%} of the values belong to the observation before, and {_HALF:.0%} at most to "
                    "their own",
                    why="Each action is stored with the observation that it led to: the network learns what to do "
                    "from what it could not have seen.",
                    remedy="store the observation from which the action was chosen, before `env.step(action)` "
                    "replaces it",
                )
                return


def _asked(network: nn.Module, observations: Tensor, values: Tensor) -> list[Tensor]:
    """What a copy of a network gives for observations, of the number of their values."""
    parameter = next(network.parameters(), None)
    with suppress(Exception), same_random_state(), torch.no_grad():  # it may be asked otherwise
        rows = observations.flatten(0, values.ndim - 1)
        rows = rows.to(parameter) if parameter is not None and rows.is_floating_point() else rows
        given = tensors_in(copy.deepcopy(network).eval()(rows))
        return [part.cpu().reshape(values.shape) for part in given if part.numel() == values.numel()]
    return []


def _same(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs() <= _EXACT * other.std()).double().mean())


ROLLOUTS = Check(
    codes=("reward.terminal-lost", "reward.off-by-one"),
    question="Do the returns and values of a rollout belong to their own steps?",
    run=_run,
    of_source=True,
    of_rewards=True,
)
