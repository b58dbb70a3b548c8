"""`data.labels-random` of pairs of items for a user: is the same item of each pair always preferred?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.scored_pairs import Scored
from striate.records import Finding
from striate.wording import percent, several

_ONE_WAY, _OWN = 0.95, 0.9
_FEWEST, _TURNED, _AS_OFTEN = 60, 30, 0.7
"""The fewest gradients; the fewest samples that rank two items of a user in the opposite order of another sample; and
their least ratio to the number by chance, if the lower items of each user are shuffled."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    for one, other in chain(evidence.scored_pairs, evidence.looked_up_pairs):
        for raised, lowered in ((one, other), (other, one)):
            ways = raised.signs, lowered.signs
            if min(map(len, ways)) < _FEWEST or float(-ways[0].mean()) < _ONE_WAY or float(ways[1].mean()) < _ONE_WAY:
                continue
            own, turned, by_chance = _preferred(raised, lowered)
            if own >= _OWN and turned >= max(_TURNED, _AS_OFTEN * by_chance):
                yield PREFERRED_BOTH_WAYS.finding(
                    severity="error",
                    where="training samples",
                    measured=f"{percent(own, 0)} of the items whose scores the loss lowers are raised elsewhere for "
                    f"the same user; two items of a user occur in opposite order {several(turned, 'time')}, and "
                    f"{several(by_chance, 'time')} if the lower items are drawn at random",
                    why="Each item is ranked above the items that it is ranked below elsewhere: there is nothing "
                    "to learn.",
                    remedy="draw the other item from those that the user does not have: `while item in seen[user]: "
                    "item = random.randrange(items)`",
                )
                return


def _preferred(raised: Scored, lowered: Scored) -> tuple[float, int, int]:
    """The share of lowered items that are raised for the same user elsewhere; how often two items of a user occur in
    opposite order; and how often they do if the lower items of each user are shuffled."""
    users, first = (torch.cat([pair[k] for pair in raised.pairs]).long() for k in (0, 1))
    second = torch.cat([pair[1] for pair in lowered.pairs]).long()
    size = int(torch.maximum(first, second).max()) + 1
    own = float(torch.isin(users * size + second, users * size + first).double().mean())
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(0))
    shuffled = torch.empty_like(second)
    shuffled[users.argsort(stable=True)] = second[order[users[order].argsort(stable=True)]]
    return own, _opposite_pairs(users * size, first, second, size), _opposite_pairs(users * size, first, shuffled, size)


def _opposite_pairs(users: torch.Tensor, first: torch.Tensor, second: torch.Tensor, size: int) -> int:
    one, other = (users + first) * size + second, (users + second) * size + first
    return int(torch.isin(one, other[first != second]).sum())


PREFERRED_BOTH_WAYS = Check(
    codes=("data.labels-random",),
    threshold=f"{percent(_OWN, 0)} of the items whose scores the gradient lowers are raised elsewhere for the same "
    f"user, and two items of a user occur in opposite order in {_TURNED} or more samples, {_AS_OFTEN:g} times as often "
    "as by chance",
    run=_run,
    quick=False,
    explains="loss.pairs-swapped data.label-noise optim.lr-too-low fit.*",
)
