"""Source sequences with the targets of others: the tokens of sources and targets are unrelated."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import next_token_targets, token_inputs
from striate.doctor.setup.batch import leaf
from striate.records import Finding

FEWEST = 300
_ERRORS, _TIMES = 3.0, 10
_WORDS = 20
"""The fewest different tokens: with fewer, such as digits, a target token may depend on several source tokens together,
and on none alone."""
_POSITIONS, _FIRST, _TOKENS, _MOST, _RARE = 64, 12, 200, 400, 5


def mismatched_sequences(evidence: Evidence) -> Finding | None:
    """A finding if sources and targets are unrelated; else None. Raises NoEvidence if there are too few."""
    measured = _unrelated(evidence)
    if measured is None:
        return None
    return Finding(
        code="data.labels-random",
        severity="error",
        where="training targets",
        measured=measured,
        threshold="tokens of sources and their targets are associated no more than with other targets of the same "
        "lengths",
        why="Sources and targets do not belong together: the network only learns what targets look like.",
        remedy="Keep each source and its target in one pair, and sort or shuffle pairs: `pairs = sorted(zip(sources, "
        "targets), key=lambda pair: len(pair[0]))`.",
    )


def _unrelated(evidence: Evidence) -> str | None:
    """The measured correlation of tokens of sources and targets, in words, if it is no larger than in other pairs of
    the same lengths; None if it is, or if samples are not pairs of sequences. Raises NoEvidence if there are too few.
    """
    predicted_tokens = next_token_targets(evidence)
    if predicted_tokens is None:
        return None
    _, target_path, tokens = predicted_tokens
    sources = [
        path
        for _, path, other in token_inputs(evidence)
        if path != target_path
        and len(other) == len(tokens)
        and len(other.unique()) >= _WORDS
        and not _alike(other, tokens)
    ]
    if len(sources) != 1 or len(tokens.unique()) < _WORDS:
        return None
    (source, lengths), (target, others) = (_rows(evidence, path) for path in (sources[0], target_path))
    _, groups, counts = torch.stack([lengths, others], 1).unique(dim=0, return_inverse=True, return_counts=True)
    movable = int(counts[counts >= _RARE].sum())
    if movable < FEWEST:
        raise NoEvidence(f"fewer than {FEWEST} pairs of sequences have the same lengths as another pair")
    x, y = _token_features(source), _token_features(target)
    generator = torch.Generator().manual_seed(0)
    own, *shuffled = (
        float((x.T @ one / len(x)).square().sum()) for one in (y, *_shuffled_within(y, groups, generator))
    )
    mean, error = (float(part) for part in (torch.tensor(shuffled).mean(), torch.tensor(shuffled).std()))
    if not x.numel() or not y.numel() or own > mean + _ERRORS * error:
        return None
    return (
        f"for {len(x):,} pairs of source and target, the squared correlations of their tokens sum to {own:.1f}, and "
        f"to {mean:.1f} ± {error:.1f} if targets of the same lengths are shuffled"
    )


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two sequences are equal, or shifted by one position."""
    width = min(one.shape[1], other.shape[1]) - 1
    shifts = ((0, 0), (0, 1), (1, 0))
    return any(float((one[:, a:][:, :width] == other[:, b:][:, :width]).float().mean()) > 0.5 for a, b in shifts)


def _rows(evidence: Evidence, path: tuple[object, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """All sequences at a path of the batches, padded to the longest, and their lengths without padding."""
    found = [tensor.detach().cpu() for batch in evidence.train.raw if (tensor := leaf(batch, path)) is not None]
    filler = int(torch.cat([rows[:, -1] for rows in found]).mode().values)
    width = max(rows.shape[1] for rows in found)
    rows = torch.cat([functional.pad(rows, (0, width - rows.shape[1]), value=filler) for rows in found])
    return rows, (rows != filler).sum(1)


def _token_features(rows: torch.Tensor) -> torch.Tensor:
    """Standardized features of each sequence: which common tokens occur in it, and at its first positions."""
    tokens, counts = rows.unique(return_counts=True)
    here = rows[:, :_POSITIONS, None] == tokens[counts.argsort(descending=True)[:_TOKENS]]
    features = torch.cat([here.any(1), here[:, :_FIRST].flatten(1)], 1).float()
    counted = torch.minimum(features.sum(0), len(features) - features.sum(0))
    chosen = counted.argsort(descending=True)[:_MOST]
    features = features[:, chosen[counted[chosen] >= _RARE]]
    return (features - features.mean(0)) / features.std(0)


def _shuffled_within(y: torch.Tensor, groups: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
    """The rows of `y`, shuffled within each group, several times."""
    own = groups.argsort(stable=True)
    found = []
    for _ in range(_TIMES):
        other = torch.randperm(len(groups), generator=generator)
        other = other[groups[other].argsort(stable=True)]
        shuffled = torch.empty_like(y)
        shuffled[own] = y[other]
        found.append(shuffled)
    return found
