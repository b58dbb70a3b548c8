"""`model.attends-padding`: does attention see only the padding, because its mask is inverted, or does a recurrent
network predict from the state behind the padding?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import padded_positions, padding_value
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.batch import altered, copied, leaves
from striate.observe.torch_calls import function_name, torch_functions
from striate.records import Finding
from striate.wording import listed_names, percent

_CLOSED = -1e3
"""Largest number that is added to the scores of masked keys, which may be minus infinity or a large negative number."""
_LEFT, _FEWEST, _LENGTHS = 0.3, 16, 24
"""The share of the differences between samples that is left behind the padding; the fewest samples that are compared,
and the most lengths that they have."""
_NEARLY = 0.98
_SOME = 0.02
"""Least share of the positions that is padding, and least share that is not."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    known = next(((raw, found) for raw in evidence.train.raw if (found := _paddings(raw))), None)
    if known is None:
        raise NoEvidence("no batch has padded rows")
    if (read := _read_behind(evidence, known[0])) is not None:
        yield read
        return
    masked = list(_masked_keys(evidence, *known))
    if not masked:
        raise NoEvidence("no attention with a mask was seen")
    for name, keys, padded in masked:
        mixed = padded.any(1) & ~padded.all(1)
        content, padding = (keys[mixed][part[mixed]].float().mean() for part in (~padded, padded))
        if content >= _NEARLY and padding <= 1 - _NEARLY:
            yield PADDING_ATTENDED.finding(
                severity="error",
                where=name,
                measured="attention leaves out every position with content, and sees only the padding",
                why="The mask is inverted. True leaves a position out in `key_padding_mask` of nn.MultiheadAttention "
                "and nn.TransformerEncoder, but keeps it in `attn_mask` of scaled_dot_product_attention and in "
                "attention_mask of transformers.",
                remedy="`mask = ~mask`, or `mask = mask == 0` for zeros and ones; `mask = tokens == padding` for "
                "key_padding_mask",
            )
            return


def _read_behind(evidence: Evidence, batch: Any) -> Finding | None:
    """The finding for a recurrent network whose outputs for different samples become alike behind their padding; None
    for others."""
    layers = [name for name, part in evidence.setup.model.named_modules() if isinstance(part, nn.RNNBase)]
    rows = [(path, t) for path, t in leaves(batch) if t.ndim == 2 and not t.is_floating_point() and len(t) > 1]
    if not layers or len(rows) != 1:
        return None
    path, tokens = rows[0]
    filler = padding_value(tokens.detach().cpu())
    if filler is None:
        return None
    lengths = (tokens.detach().cpu() != filler).sum(1)
    padded = predict(evidence.setup, evidence.trial.replica, [batch]).outputs
    if padded.ndim not in (1, 2) or len(padded) != len(tokens) or not padded.is_floating_point():
        return None
    cut, tried = padded.clone(), lengths[lengths > 0].unique()[:_LENGTHS]
    with suppress(NoEvidence):  # a network that gets the lengths, too, may refuse shorter rows
        for length in tried.tolist():
            shorter = altered(batch, path, _first(length))
            outputs = predict(evidence.setup, evidence.trial.replica, [shorter]).outputs
            cut[lengths == length] = outputs[lengths == length]
        known = torch.isin(lengths, tried)
        left = padded[known].std(0).mean() / cut[known].std(0).mean().clamp_min(1e-12)
        if int(known.sum()) >= _FEWEST and float(left) < _LEFT:
            return PADDING_ATTENDED.finding(
                severity="error",
                where=listed_names(layers),
                measured=f"behind their padding, {percent(float((tokens == filler).double().mean()), 0)} of all "
                f"positions, the outputs of different samples differ by {percent(float(left), 0)} of what they "
                "differ by without it",
                limit=f"{percent(_LEFT, 0)} of the standard deviation over samples is left behind the padding",
                why="The last state of a recurrent network forgets the content while it reads the padding.",
                remedy="pass the lengths: `packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, "
                "enforce_sorted=False)`, and use the last state `h_n` that the layer returns for `packed`; or read "
                "each output at its own end: `out[torch.arange(len(out)), lengths - 1]`",
            )
    return None


def _first(length: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda rows: rows[:, :length]


def _paddings(batch: Any) -> list[torch.Tensor]:
    """Which positions (samples, positions) are padding: according to tokens or features if possible, and only else to a
    mask in the batch, which may be the inverted one."""
    found = []
    for _, tensor in leaves(batch):
        tokens = tensor.detach().cpu()
        integers = tokens.ndim == 2 and len(tokens) > 1 and tokens.shape[1] > 2 and not tokens.is_floating_point()
        if integers and int(tokens.max()) > 1 and (filler := padding_value(tokens)) is not None:
            found.append(tokens == filler)
        elif tokens.ndim == 3 and tokens.is_floating_point() and tokens.shape[1] > 2:
            empty = (tokens == 0).all(2).long().flip(1).cumprod(1).flip(1).bool()  # to the end of the row
            if _SOME < float(empty.float().mean()) < 1 - _SOME and not bool(empty.all(1).any()):
                found.append(empty)
    by_mask = None if found else padded_positions(batch)
    return found if by_mask is None else [by_mask]


def _masked_keys(
    evidence: Evidence, batch: Any, paddings: Sequence[torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """For each call of attention its name, the keys (samples, positions) that no query sees, and the padding of that
    shape."""
    found: list[tuple[str, torch.Tensor]] = []

    def called(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = function(*args, **kwargs)
        name, keys = function_name(function), None
        if name == "multi_head_attention_forward":
            keys = _closed(kwargs.get("key_padding_mask"), true_is_open=False)
        elif name == "scaled_dot_product_attention":
            keys = _closed(args[3] if len(args) > 3 else kwargs.get("attn_mask"), true_is_open=True)
        elif name == "softmax" and isinstance(value, torch.Tensor):
            dim = kwargs.get("dim", args[1] if len(args) > 1 and isinstance(args[1], int) else -1)
            weights = value.detach().movedim(dim, -1)
            keys = weights < 1e-6 if bool(weights.isfinite().all()) else None
        if keys is not None and keys.ndim > 1 and keys.numel():
            found.append((name, keys.detach().cpu()))
        return value

    # In training mode, since in evaluation mode torch fuses attention layers into one call.
    watched = Change(around=lambda *_: torch_functions(called))
    run_trial(evidence.setup, [copied(batch)], 1, evidence.clock.until(0.1), watched, close=False)
    for padded in paddings:
        samples, positions = padded.shape
        for name, keys in found:
            if len(keys) % samples == 0 and keys.shape[-1] == positions:
                yield name, keys.reshape(samples, -1, positions).all(1), padded


def _closed(mask: Any, *, true_is_open: bool) -> torch.Tensor | None:
    if not isinstance(mask, torch.Tensor):
        return None
    if mask.dtype == torch.bool:
        return ~mask if true_is_open else mask.detach()
    return mask.detach() < _CLOSED


PADDING_ATTENDED = Check(
    codes=("model.attends-padding",),
    threshold=f"{percent(_NEARLY, 0)} of the keys that are not padding are left out, and {percent(1 - _NEARLY, 0)} of "
    "the padding, in rows that have both",
    run=_run,
    explains="loss.not-finite model.batch-mixing model.collapsed optim.lr-too-high optim.lr-too-low fit.*",
)
