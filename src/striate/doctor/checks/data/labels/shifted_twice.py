"""`data.step-labels` of language models of transformers, which shift labels themselves: labels shifted by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import percent

_KINDS = ("LMHeadModel", "ForCausalLM")
_IGNORED, _SAME, _FEWEST = -100, 0.9, 32


def _run(evidence: Evidence) -> Iterator[Finding]:
    kind = type(evidence.setup.model)
    if not (kind.__module__.startswith("transformers.") and kind.__name__.endswith(_KINDS)):
        raise NoEvidence("the network is not a language model of transformers")
    here, following, counted = 0, 0, 0
    for batch in evidence.train.raw:
        tokens, labels = (batch.get(key) for key in ("input_ids", "labels")) if isinstance(batch, Mapping) else (0, 0)
        if not (isinstance(tokens, torch.Tensor) and isinstance(labels, torch.Tensor) and tokens.shape == labels.shape):
            raise NoEvidence("its batches have no input_ids and labels of the same shape")
        counts = (labels != _IGNORED)[:, :-1]
        if isinstance(attended := batch.get("attention_mask"), torch.Tensor) and attended.shape == tokens.shape:
            counts = counts & attended[:, 1:].bool()  # behind the last token the input is padding
        counted += int(counts.sum())
        here += int((labels[:, :-1] == tokens[:, :-1])[counts].sum())
        following += int((labels[:, :-1] == tokens[:, 1:])[counts].sum())
    if counted < _FEWEST or following < _SAME * counted or here >= following:
        return
    yield SHIFTED_TWICE.finding(
        severity="error",
        where="the training batches",
        measured=f"{percent(following / counted, 0)} of the labels are the next token of input_ids, although "
        f"{kind.__name__} shifts its labels itself",
        why="The network learns to predict the token after the next one: the generated text makes no sense.",
        remedy='pass the tokens without a shift: `batch["labels"] = batch["input_ids"].clone()`, with -100 for '
        "positions without a target",
    )


SHIFTED_TWICE = Check(
    codes=("data.step-labels",),
    threshold=f"for language models of transformers: {percent(_SAME, 0)} of the labels that count are the next token "
    "of input_ids, and fewer are the token at their own position",
    run=_run,
    explains="fit.* model.sees-future",
)
