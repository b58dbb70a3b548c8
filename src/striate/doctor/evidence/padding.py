"""Padding of sequences up to the longest of a batch."""

from __future__ import annotations

from typing import Any

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import token_inputs
from striate.doctor.setup.batch import leaves

_TRIED = 4
_PARTS = (2, 4, 8)
"""Numbers of parts into which a step may split a batch to accumulate gradients."""


def target_rows(evidence: Evidence, target: torch.Tensor) -> torch.Tensor | None:
    """The targets of a loss as (samples, positions); None where they are no sequences."""
    if target.ndim == 2:
        return target
    lengths = [length for _, _, tokens in token_inputs(evidence) for length in (tokens.shape[1], tokens.shape[1] - 1)]
    most = max((len(tokens) for _, _, tokens in token_inputs(evidence)), default=0)
    for rows in (most, *(most // parts for parts in _PARTS)):  # samples of a batch, or of its first part
        if target.ndim == 1 and rows and any(len(target) == rows * length for length in lengths):
            return target.reshape(rows, -1)
    for _, _, tokens in token_inputs(evidence):  # (positions, samples), all but the first position
        if target.ndim == 1 and target.numel() == tokens[1:].numel():
            return target.reshape(-1, tokens.shape[1]).T
    return None


def padding_value(rows: torch.Tensor) -> int | None:
    """The number that pads the ends of rows, to different lengths, and occurs nowhere else; None where there is
    none."""
    for turned in (rows, rows.T):
        last, counts = turned[:, -1].unique(return_counts=True)
        for filler in last[counts.argsort(descending=True)][:_TRIED].tolist():  # an end token may be more frequent
            same = turned == filler
            run = same.flip(1).long().cumprod(1).sum(1)
            only_at_ends = bool((run == same.sum(1)).all())
            partly = bool(((run > 0) & (run < turned.shape[1])).any())  # unlike a hyphen, which fills columns of dates
            if only_at_ends and partly and len(run.unique()) > 1 and int(run.max()) > 1:
                return int(filler)
    return None


def padded_positions(batch: Any) -> torch.Tensor | None:
    """(samples, positions) whether a position is padding, by a mask in the batch, or by the number that pads its
    tokens; None where it has neither."""
    found = [t.detach().cpu() for _, t in leaves(batch) if t.ndim == 2 and t.shape[1] > 2 and len(t) > 1]
    for tensor in found:
        known = tensor == 1
        if bool(((tensor == 0) | known).all()) and _ends(~known):
            return ~known
    for tensor in found:
        filler = None if tensor.is_floating_point() else padding_value(tensor)
        if filler is not None:
            return tensor == filler
    return None


def _ends(padded: torch.Tensor) -> bool:
    """Whether a mask covers the ends, or the beginnings, of rows of several lengths."""
    run = padded.sum(1)
    places = torch.arange(padded.shape[1])[None]
    ends = [places >= padded.shape[1] - run[:, None], places < run[:, None]]
    whole = any(bool((padded == end).all()) for end in ends)
    return whole and len(run.unique()) > 1 and int(run.max()) > 1 and bool((run < padded.shape[1]).all())
