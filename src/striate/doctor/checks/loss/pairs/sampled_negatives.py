"""Randomly sampled items that a ranking loss puts above the items of a user."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch.utils.data import default_collate

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.scored_pairs import Scored, shared_items
from striate.doctor.setup.batch import leaves

BELONGING = 1.5
"""How many times as often as by chance two users share two items, at least, if the items belong to the users."""
_SAMPLED = 1 / 3
"""The share of that excess over 1 which randomly sampled items have at most."""
_FEWEST = 60
_READ_TWICE, _MOSTLY = 64, 0.5
"""Samples that are read twice from the data set, and the share of them in which a sampled item has to change."""
_ALL = 0.95
"""Share of the gradients that have one sign."""


def sampled_ranked_higher(evidence: Evidence) -> tuple[str, str, int] | None:
    """What was measured, where the loss lowers scores of items of the users and raises scores of sampled items: why the
    lowered items belong to users, why the raised ones are sampled, and the number of score pairs. None elsewhere.

    If just one of the two items changes each time that the data set returns a sample, that item is the sampled one.
    Else the decision is by how often two users share two items.
    """
    changing: list[bool | None] | None = None
    for one, other in chain(evidence.scored_pairs, evidence.looked_up_pairs):
        for lowered, raised in ((one, other), (other, one)):
            signs = lowered.signs, raised.signs
            if min(map(len, signs)) < _FEWEST or float(signs[0].mean()) < _ALL or float(-signs[1].mean()) < _ALL:
                continue
            if any(_of_one_sign(scored) for scored in (lowered, raised)):
                continue  # distances, which are small for matching pairs
            changing = _changing_columns(evidence) if changing is None else changing
            sampled = [_is_sampled(evidence, scored, changing) for scored in (lowered, raised)]
            if sampled == [False, True]:
                stays, changes = "the same each time that the data set returns the sample", "another one each time"
                return stays, changes, len(signs[0])
            (shared, chance), (shared_raised, chance_raised) = (_in_common(scored) for scored in (lowered, raised))
            if sampled == [True, False] or min(chance, chance_raised) < _FEWEST or shared < BELONGING * chance:
                continue
            if shared_raised / chance_raised - 1 <= _SAMPLED * (shared / chance - 1):
                return (
                    f"two users share two such items {shared / chance:.1f} times as often as by chance",
                    f"{shared_raised / chance_raised:.1f} times as often, like items drawn at random",
                    len(signs[0]),
                )
    return None


def _changing_columns(evidence: Evidence) -> list[bool | None]:
    """For each column of a batch, whether it changes each time that the data set returns a sample; None where it
    changes for some samples. Empty where the data set cannot be indexed by numbers."""
    data: Any = getattr(evidence.setup.train, "dataset", None)
    try:
        reads = [default_collate([data[number] for number in range(min(_READ_TWICE, len(data)))]) for _ in range(2)]
    except Exception:  # the user's data set may be indexed in another way
        return []
    shares = [float((one != other).double().mean()) for (_, one), (_, other) in zip(*map(leaves, reads), strict=True)]
    return [None if 0 < share < _MOSTLY else share > 0 for share in shares]


def _is_sampled(evidence: Evidence, scored: Scored, changing: list[bool | None]) -> bool | None:
    """Whether the items of a score change each time, by the column of the batch that holds them; None if unknown."""
    columns = [tensor.detach().cpu() for _, tensor in leaves(evidence.train.raw[0])]
    items = scored.pairs[0][1]
    known = [changes for column, changes in zip(columns, changing, strict=False) if torch.equal(column, items)]
    return known[0] if len(known) == 1 else None


def _of_one_sign(scored: Scored) -> bool:
    signs = torch.cat([torch.zeros(0), *scored.scores]).sign()
    return len(signs) > 0 and bool((signs >= 0).all() or (signs <= 0).all())


def _in_common(scored: Scored) -> tuple[int, float]:
    users, items = (torch.cat([pair[k] for pair in scored.pairs]) for k in (0, 1))
    return shared_items(users, items)
