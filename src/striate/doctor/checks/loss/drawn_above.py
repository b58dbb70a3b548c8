"""Items drawn by chance that a loss ranks above those that belong to a user."""

from __future__ import annotations

from itertools import chain

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.looked_up_pairs import looked_up_pairs
from striate.doctor.evidence.scored_pairs import Scored, held_in_common, scored_pairs

BELONGING = 1.5
"""How often two users have two items in common, over how often they would by chance: where items belong to users."""
_OF_IT = 1 / 3
"""So much of what that is above 1, at most, is there where items are drawn by chance, but for those that belong."""
_FEWEST = 60
_ALL = 0.95
"""Of the gradients, that go one way."""


def drawn_above(evidence: Evidence) -> tuple[float, float, int] | None:
    """How often two users have two items in common, over how often by chance, of the items whose scores the loss
    lowers, and of those whose scores it raises, and how many pairs of scores were seen; None where what is raised
    belongs to users, or neither does."""
    for one, other in chain(scored_pairs(evidence), looked_up_pairs(evidence)):
        for lowered, raised in ((one, other), (other, one)):
            ways = lowered.signs, raised.signs
            if min(map(len, ways)) < _FEWEST or float(ways[0].mean()) < _ALL or float(-ways[1].mean()) < _ALL:
                continue
            if any(_of_one_sign(scored) for scored in (lowered, raised)):
                continue  # distances, which are small for what belongs together
            (belong, chance), (drawn, by_chance) = (_in_common(scored) for scored in (lowered, raised))
            if min(chance, by_chance) < _FEWEST or belong < BELONGING * chance:
                continue
            if drawn / by_chance - 1 <= _OF_IT * (belong / chance - 1):
                return belong / chance, drawn / by_chance, len(ways[0])
    return None


def _of_one_sign(scored: Scored) -> bool:
    signs = torch.cat([torch.zeros(0), *scored.scores]).sign()
    return len(signs) > 0 and bool((signs >= 0).all() or (signs <= 0).all())


def _in_common(scored: Scored) -> tuple[int, float]:
    users, items = (torch.cat([pair[k] for pair in scored.pairs]) for k in (0, 1))
    return held_in_common(users, items)
