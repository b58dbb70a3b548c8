"""`reward.terminal-lost`, `reward.off-by-one` of rollouts: are their values and returns those of their own steps?"""

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
from striate.doctor.checks.reward.replay_buffer import attributes, fits, on_cpu
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_values
from striate.models.preserved_state import same_random_state
from striate.observe.tensors import tensors_in
from striate.records import Finding
from striate.tasks.control.doctor import terminal_lost
from striate.wording import percent, several

_FEWEST, _MOST, _PREDICTED = 40, 20_000, 256
"""Fewest rewards, most rows that are examined, and most observations for which a network is run."""
_FEWEST_ENDS = 3
_EXACT, _SHOWN = 1e-3, 0.05
"""In standard deviations: the largest difference that counts as equal, and the smallest part that matters."""
_MOSTLY, _HALF = 0.9, 0.5
_KINDS = {
    "returns": re.compile(r"^(returns?|rets?|rtgs?|rewards?_to_go)(_buf)?$"),
    "values": re.compile(r"^(v|vals?|values?)(_buf)?$"),
    "advantages": re.compile(r"^(advs?|advantages?|gaes?)(_buf)?$"),
}


def _run(evidence: Evidence) -> Iterator[Finding]:
    names = evidence.source.names
    rollouts = [rollout for holder in (names, *names.values()) if (rollout := _rollout(holder))]
    if not rollouts:
        raise NoEvidence(f"no rollout of {_FEWEST} rewards or more is found at the first step")
    networks = [value for value in reached_values(names) if isinstance(value, nn.Module)]
    for rollout in rollouts:
        yield from _across_ends(rollout)
        yield from _of_previous_step(rollout, [part for one in networks for part in (one, *one.children())])


def _rollout(holder: Any) -> dict[str, Tensor]:
    """The parts of a rollout by kind, in the order of time; of several parts of a kind, the largest. They have the
    shape of rewards, (T,) or (T, environments), and observations have further axes. Empty where there are too few
    rewards."""
    largest = dict[str, Tensor]()
    for name, part in list((holder if isinstance(holder, Mapping) else attributes(holder)).items()):
        kind = _kind(str(name)) if isinstance(part, list | Tensor | np.ndarray) else ""
        if not kind:
            continue
        with suppress(ValueError, TypeError, IndexError, RuntimeError):  # ragged, of objects, a single number
            rows = part[: _PREDICTED if kind == "observations" else _MOST]
            numbers = torch.as_tensor(np.array([on_cpu(row) for row in rows]))
            if numbers.numel() > largest.get(kind, torch.empty(0)).numel():
                largest[kind] = numbers
    shape = largest["rewards"].shape if "rewards" in largest else torch.Size([0])
    rollout = dict[str, Tensor]()
    for kind, numbers in largest.items() if shape.numel() >= _FEWEST else ():
        rows = numbers[: shape[0]]  # there may be one more row, for the state after the last step
        if kind == "observations":
            rollout |= {kind: rows} if rows.shape[1 : len(shape)] == shape[1:] else {}
        elif rows.numel() == shape.numel():
            rollout[kind] = rows.reshape(shape).double()
    return rollout


def _kind(name: str) -> str:
    own = next((kind for kind, words in _KINDS.items() if words.search(name.lower())), "")
    return own or next((kind for kind in ("observations", "rewards", "terminated", "going_on") if fits(kind, name)), "")


def _across_ends(rollout: dict[str, Tensor]) -> Iterator[Finding]:
    """Returns minus rewards that are the same linear combination of the next step's value and return everywhere, also
    at the ends of episodes; or that continue at the last step of each episode instead of the next one."""
    returns, ends = rollout.get("returns"), rollout.get("terminated", rollout.get("going_on"))
    if returns is None and {"advantages", "values"} <= rollout.keys():
        returns = rollout["advantages"] + rollout["values"]
    if returns is None or ends is None:
        return
    marked = (ends == 0) if "terminated" not in rollout else (ends != 0)
    marked[[0, -1]] = False
    near = marked[:-1] | marked[1:]  # an end is marked at the last step of an episode, or at the first of the next one
    continuation = returns[:-1] - rollout["rewards"][:-1]
    later = torch.stack([part[1:] for part in (returns, rollout.get("values")) if part is not None], -1)
    if int(marked.sum()) < _FEWEST_ENDS or int((~near).sum()) < _FEWEST / 2 or not bool(later.isfinite().all()):
        return
    factors = torch.linalg.lstsq(later[~near], continuation[~near][:, None], driver="gelsd").solution[:, 0]
    predicted, deviation = later @ factors, float(continuation.std())
    shown = (predicted[near].abs() > _SHOWN * deviation).double().mean()
    continues = (continuation - predicted).abs() < _EXACT * deviation
    if bool(continues.all()) and float(shown) > _HALF:
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
    shifted = bool(continues[~near].all()) and _mostly(continues[last]) and _mostly(~continues[first])
    if shifted and _begin_episodes(rollout, first, last):
        yield terminal_lost(
            "the rollout at the first step",
            f"its returns count what follows the last step of {several(int(last.sum()), 'episode')}, but not what "
            "follows the first step of the next one, where the end is marked",
            threshold=f"observations jump on the way to {percent(_MOSTLY, 0)} of the marked steps, and returns minus "
            f"rewards are the same combination of next value and next return in {percent(_MOSTLY, 0)} of the steps "
            "before them, but not in them",
            remedy="multiply what follows step t by `1 - dones[t + 1]`, if `dones[t]` means that observation t is "
            "the first of an episode",
        )


def _begin_episodes(rollout: dict[str, Tensor], first: Tensor, last: Tensor) -> bool:
    """Whether marked steps (`first`) begin their episodes: observations change more from the step before (`last`) to
    them than between other steps, and as usual from them to the next step."""
    observations = rollout.get("observations", torch.empty(0))
    if observations.ndim <= first.ndim:
        return False
    changes = observations.double().diff(dim=0).flatten(first.ndim).norm(dim=-1)
    first, last = first[: len(changes)], last[: len(changes)]
    if int(last.sum()) < _FEWEST_ENDS or not bool((usual := changes[~first & ~last]).numel()):
        return False
    leaps = changes > usual.quantile(_MOSTLY)
    return _mostly(leaps[last]) and float(leaps[first].double().mean()) <= _HALF


def _mostly(holds: Tensor) -> bool:
    return bool(holds.double().mean() > _MOSTLY)  # False if empty


def _of_previous_step(rollout: dict[str, Tensor], networks: list[nn.Module]) -> Iterator[Finding]:
    """Values that are a network's outputs for the observation of the previous step instead of their own."""
    observations, values = rollout.get("observations"), rollout.get("values")
    if observations is None or values is None:
        return
    values = values[: len(observations)]
    for network in dict.fromkeys(networks):
        for outputs in _outputs(network, observations, values):
            own, before = _share_equal(outputs, values), _share_equal(outputs[:-1], values[1:])
            if own > _HALF:
                return
            if before > _MOSTLY:
                yield ROLLOUTS.finding(
                    code="reward.off-by-one",
                    severity="error",
                    where="the rollout at the first step",
                    measured=f"{percent(before, 0)} of its values are a network's outputs for the observation that is "
                    f"stored one step before, {percent(own, 0)} for their own",
                    limit=f"{percent(_MOSTLY, 0)} of the values belong to the observation before, and "
                    f"{percent(_HALF, 0)} at most to their own",
                    why="Each action is stored with the observation that it led to: the network learns what to do "
                    "from what it could not have seen.",
                    remedy="store the observation from which the action was chosen, before `env.step(action)` "
                    "replaces it",
                )
                return


def _outputs(network: nn.Module, observations: Tensor, values: Tensor) -> list[Tensor]:
    """The outputs of a copy of a network for observations, those with as many numbers as `values`, in their shape.
    Empty where the network does not take observations."""
    parameter = next(network.parameters(), None)
    with suppress(Exception), same_random_state(), torch.no_grad():  # the network may take other inputs
        rows = observations.flatten(0, values.ndim - 1)
        rows = rows.to(parameter) if parameter is not None and rows.is_floating_point() else rows
        outputs = tensors_in(copy.deepcopy(network).eval()(rows))
        return [part.cpu().reshape(values.shape) for part in outputs if part.numel() == values.numel()]
    return []


def _share_equal(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs() <= _EXACT * other.std()).double().mean())


ROLLOUTS = Check(
    codes=("reward.terminal-lost", "reward.off-by-one"),
    run=_run,
    of_source=True,
    of_rewards=True,
)
