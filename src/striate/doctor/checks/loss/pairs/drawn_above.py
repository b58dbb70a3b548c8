"""Items drawn by chance that a loss ranks above those that belong to a user."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch.utils.data import default_collate

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.scored_pairs import Scored, shared_items
from striate.doctor.setup.batch import leaves

BELONGING = 1.5
"""How often two users have two items in common, over how often they would by chance: where items belong to users."""
_OF_IT = 1 / 3
"""So much of what that is above 1, at most, is there where items are drawn by chance, but for those that belong."""
_FEWEST = 60
_ASKED, _MOSTLY = 64, 0.5
"""Samples that the data set is asked for twice, and of how many of them an item has to be another one."""
_ALL = 0.95
"""Of the gradients, that go one way."""


def drawn_above(evidence: Evidence) -> tuple[str, str, int] | None:
    """What says that the items whose scores the loss lowers belong to the users, and that those whose scores it raises
    are drawn by chance, and how many pairs of scores were seen; None where what is raised belongs to users, or neither
    does. Of items in columns of a data set only one of which is another each time that it is asked for a sample, that
    is the one that is drawn; else how often two users have two items in common tells."""
    again: list[bool | None] | None = None
    for one, other in chain(evidence.scored_pairs, evidence.looked_up_pairs):
        for lowered, raised in ((one, other), (other, one)):
            ways = lowered.signs, raised.signs
            if min(map(len, ways)) < _FEWEST or float(ways[0].mean()) < _ALL or float(-ways[1].mean()) < _ALL:
                continue
            if any(_of_one_sign(scored) for scored in (lowered, raised)):
                continue  # distances, which are small for what belongs together
            again = _drawn_again(evidence) if again is None else again
            drawn_ones = [_is_drawn(evidence, scored, again) for scored in (lowered, raised)]
            if drawn_ones == [False, True]:
                same, anew = (
                    "the same each time that the data set returns the sample",
                    "another one each time",
                )
                return same, anew, len(ways[0])
            (belong, chance), (drawn, by_chance) = (_in_common(scored) for scored in (lowered, raised))
            if drawn_ones == [True, False] or min(chance, by_chance) < _FEWEST or belong < BELONGING * chance:
                continue
            if drawn / by_chance - 1 <= _OF_IT * (belong / chance - 1):
                return (
                    f"two users share two such items {belong / chance:.1f} times as often as by chance",
                    f"{drawn / by_chance:.1f} times as often, like items drawn at random",
                    len(ways[0]),
                )
    return None


def _drawn_again(evidence: Evidence) -> list[bool | None]:
    """Of each column of whole numbers in a batch, whether the data set draws another number each time that it is asked
    for a sample; None where it does now and then. Nothing where it cannot be asked."""
    data: Any = getattr(evidence.setup.train, "dataset", None)
    try:
        asked = [default_collate([data[number] for number in range(min(_ASKED, len(data)))]) for _ in range(2)]
    except Exception:  # a data set of the user's, asked in another way
        return []
    shares = [float((one != other).double().mean()) for (_, one), (_, other) in zip(*map(leaves, asked), strict=True)]
    return [None if 0 < share < _MOSTLY else share > 0 for share in shares]


def _is_drawn(evidence: Evidence, scored: Scored, again: list[bool | None]) -> bool | None:
    """Whether the items of a score are drawn anew each time, by the column of the batch that they are."""
    columns = [tensor.detach().cpu() for _, tensor in leaves(evidence.train.raw[0])]
    items = scored.pairs[0][1]
    known = [told for column, told in zip(columns, again, strict=False) if torch.equal(column, items)]
    return known[0] if len(known) == 1 else None


def _of_one_sign(scored: Scored) -> bool:
    signs = torch.cat([torch.zeros(0), *scored.scores]).sign()
    return len(signs) > 0 and bool((signs >= 0).all() or (signs <= 0).all())


def _in_common(scored: Scored) -> tuple[int, float]:
    users, items = (torch.cat([pair[k] for pair in scored.pairs]) for k in (0, 1))
    return shared_items(users, items)
