"""Tokens that validation asks for again and again, and training never."""

from __future__ import annotations

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.samples import gathered
from striate.doctor.evidence.token_targets import SAME, by_position, class_losses, token_inputs
from striate.doctor.setup.batch import Path

SHARE, CHANCE = 0.05, 4.0
"""Of the tokens of validation; times the share between halves of training, which have as many rare words."""
_FEWEST = 200


def tokens_missing(evidence: Evidence) -> tuple[float, float, list[int]] | None:
    """Which share of the tokens that sequences of validation ask for never occurs in training, the same of one half of
    training and the other, and the commonest of these tokens; None where that is chance."""
    path = _target_path(evidence)
    if path is None or not evidence.train.whole:
        return None
    try:
        read = [gathered(part.raw, path) for part in (evidence.train, evidence.val)]
    except NoEvidence:
        return None
    known, asked = (None if part is None or part.ndim != 2 else part for part in read)
    if known is None or asked is None:
        return None
    rows = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(0))]
    first, second = (_without_padding(part) for part in (rows[::2], rows[1::2]))
    tokens = _without_padding(asked)
    if min(len(first), len(second), len(tokens)) < _FEWEST:
        return None
    new = tokens[~torch.isin(tokens, known)]
    share, by_chance = len(new) / len(tokens), float((~torch.isin(second, first)).double().mean())
    if share < max(SHARE, CHANCE * by_chance):
        return None
    numbers, counts = new.unique(return_counts=True)
    return share, by_chance, numbers[counts.argsort(descending=True)].tolist()


def _target_path(evidence: Evidence) -> Path | None:
    """Where the sequences lie that the loss asks for, all or without their first token."""
    for _, path, tokens in token_inputs(evidence):
        for call in class_losses(evidence):
            found = by_position(call, tokens)
            if found is None:
                continue
            target, counted, short = found
            if counted.any() and float((target == tokens[:, short:])[counted].float().mean()) >= SAME:
                return path
    return None


def _without_padding(rows: torch.Tensor) -> torch.Tensor:
    """The tokens (N,) of sequences without the ones that are repeated at either end, and without marks below zero."""
    starts, ends = ((part == part[:, :1]).long().cumprod(1).bool() for part in (rows, rows.flip(1)))
    return rows[~starts & ~ends.flip(1) & (rows >= 0)]
