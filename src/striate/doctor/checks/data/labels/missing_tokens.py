"""Target tokens of validation that never occur in training."""

from __future__ import annotations

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.samples import gathered
from striate.doctor.evidence.token_targets import SAME, by_position, class_losses, token_inputs
from striate.doctor.setup.batch import Path

SHARE, CHANCE = 0.05, 4.0
"""The least share of the target tokens of validation; how many times the share between two halves of training, whose
rare tokens differ, too."""
_FEWEST = 200


def tokens_missing(evidence: Evidence) -> tuple[float, float, list[int]] | None:
    """The share of target tokens of validation that never occur in training, the same share between two halves of
    training, and these tokens, the most frequent first; None if the share is chance."""
    path = _target_path(evidence)
    if path is None or not evidence.train.whole:
        return None
    try:
        read = [gathered(part.raw, path) for part in (evidence.train, evidence.val)]
    except NoEvidence:
        return None
    known, held_out = (None if part is None or part.ndim != 2 else part for part in read)
    if known is None or held_out is None:
        return None
    rows = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(0))]
    first, second = (_without_padding(part) for part in (rows[::2], rows[1::2]))
    tokens = _without_padding(held_out)
    if min(len(first), len(second), len(tokens)) < _FEWEST:
        return None
    new = tokens[~torch.isin(tokens, known)]
    share, by_chance = len(new) / len(tokens), float((~torch.isin(second, first)).double().mean())
    if share < max(SHARE, CHANCE * by_chance):
        return None
    numbers, counts = new.unique(return_counts=True)
    return share, by_chance, numbers[counts.argsort(descending=True)].tolist()


def _target_path(evidence: Evidence) -> Path | None:
    """The path of the sequences whose tokens are the targets of the loss, with or without the first token."""
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
    """The tokens (N,) of sequences without repeated tokens at either end, and without negative ones."""
    starts, ends = ((part == part[:, :1]).long().cumprod(1).bool() for part in (rows, rows.flip(1)))
    return rows[~starts & ~ends.flip(1) & (rows >= 0)]
