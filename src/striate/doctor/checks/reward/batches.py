"""`reward.*` of batches of transitions: their values, and whether the step counts the next value at the end of an
episode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import Path, altered, is_binary, leaf, leaves
from striate.errors import StriateError
from striate.records import Finding
from striate.tasks.control.doctor import observation_same, reward_values, terminal_lost

_WHERE = "batches of the training loader"
_FEWEST, _SAME = 500, 0.8
_APART = 1e-6


def learns_from_rewards(evidence: Evidence) -> bool:
    """Whether training batches are transitions, without a script."""
    if evidence.setup.source is not None:
        return False
    try:
        return _places(evidence.train.raw[0]) is not None
    except (NoEvidence, StriateError, IndexError):
        return False


def _places(batch: Any) -> dict[str, Path] | None:
    """The paths of the parts of a batch (observation, action, reward, next observation, done), which has two tensors of
    the same shape, and for each sample an integer, a float and a flag; None for other batches."""
    tensors = list(leaves(batch))
    flat = [(path, part) for path, part in tensors if part.ndim == 1 or (part.ndim == 2 and part.shape[1] == 1)]
    wide = [(path, part) for path, part in tensors if part.ndim >= 2 and part[0].numel() > 1]
    pair = next(
        ((one, other) for k, one in enumerate(wide) for other in wide[k + 1 :] if one[1].shape == other[1].shape), None
    )
    flags = [path for path, part in flat if part.dtype == torch.bool or _is_flag(part)]
    integers = [path for path, part in flat if not part.is_floating_point() and part.dtype != torch.bool]
    numbers = [path for path, part in flat if part.is_floating_point() and path not in flags[-1:]]
    if pair is None or len(flat) < 3 or not flags or not integers or not numbers:
        return None
    return {"observation": pair[0][0], "following": pair[1][0], "reward": numbers[0], "done": flags[-1]}


def _is_flag(part: torch.Tensor) -> bool:
    return part.is_floating_point() and is_binary(part)


def _run(evidence: Evidence) -> Iterator[Finding]:
    batches = evidence.train.raw
    places = _places(batches[0])
    if places is None:
        raise NoEvidence("batches are not transitions")
    before, after, rewards, done = (
        torch.cat([part for batch in batches if (part := leaf(batch, places[name])) is not None])
        for name in ("observation", "following", "reward", "done")
    )
    yield from reward_values(rewards.reshape(-1).double().numpy(), _WHERE)
    same = float((before == after).flatten(1).all(1).double().mean())
    if same >= _SAME:
        yield observation_same(_WHERE, "the observation itself")
    flags = done.reshape(-1).bool()
    if not flags.any():
        if len(flags) >= _FEWEST:
            yield terminal_lost(_WHERE, f"none of {len(flags):,} transitions is marked as the end of an episode")
        return
    yield from _bootstraps(evidence, places)


def _bootstraps(evidence: Evidence, places: dict[str, Path]) -> Iterator[Finding]:
    """A step whose loss changes if only the next observations of transitions that end an episode are replaced."""
    for batch in evidence.train.raw:
        done, after = (leaf(batch, places[name]) for name in ("done", "following"))
        if done is None or after is None or not (flags := done.reshape(-1).bool()).any() or flags.all():
            continue
        others = after[~flags][np.arange(int(flags.sum())) % int((~flags).sum())]

        def change(part: torch.Tensor, flags: torch.Tensor = flags, others: torch.Tensor = others) -> torch.Tensor:
            changed = part.clone()
            changed[flags] = others
            return changed

        as_is = evidence.variant("rewards, as they are", Change(), batches=[batch], steps=1).losses
        moved = altered(batch, places["following"], change)
        changed = evidence.variant("rewards, other ends", Change(), batches=[moved], steps=1).losses
        if not as_is or not changed:
            raise NoEvidence("the step fails")
        if abs(as_is[0] - changed[0]) > _APART * max(1.0, abs(as_is[0])):
            measured = (
                f"the loss of a step is {as_is[0]:.4g}, but {changed[0]:.4g} if only the observations after the end "
                "of episodes are replaced"
            )
            yield terminal_lost("the training step", measured)
        return


BATCHES = Check(
    codes=("reward.terminal-lost", "reward.off-by-one", "reward.never-seen", "reward.scale"),
    run=_run,
    of_rewards=True,
)
