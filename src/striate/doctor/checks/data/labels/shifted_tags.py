"""`data.step-labels` of taggers: the step shifts the labels of words, as only a language model needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.library_metrics import PERFECT, perfect_shares
from striate.doctor.checks.model.sees_future import CHANGED, others_behind, outputs_moved
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses, token_inputs
from striate.doctor.setup.batch import Path, leaf, leaves, main_tensor
from striate.records import Finding
from striate.wording import percent

_COPIES, _CLEARLY = 0.5, 0.1
_FEWER = 0.7
"""The largest ratio of the error of predicting labels from the word at their position to that from the word before."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    found = next(_shifted(evidence), None)
    if found is None:
        raise NoEvidence("the loss does not get the labels without the first of each sequence")
    call, batch, path, place, tokens = found
    if not _lacks_last(call, main_tensor(evidence.first.outputs), tokens):
        return
    by_metric = _measured_by_metric(evidence)
    measured = by_metric or _measured_by_words(evidence, call, batch, path, place)
    if measured is None:
        return
    yield SHIFTED_TAGS.finding(
        severity="error",
        where="the training step",
        measured="the loss gets the outputs without the last position and the labels without the first, though "
        + measured,
        limit="labels without the first, though the script's metric reads each label at its own position"
        if by_metric
        else f"labels without the first, though words predict at most {_FEWER:g} times as many labels wrong at "
        "their own position as at the next one, which the network sees",
        why="Each word gets the label of the next word. Only language models, whose labels are their inputs, need "
        "the shift.",
        remedy="pass both to the loss without a shift: `F.cross_entropy(logits.reshape(-1, logits.shape[-1]), "
        "labels.reshape(-1), ignore_index=-100)`",
    )


def _measured_by_metric(evidence: Evidence) -> str | None:
    """The measured difference if the script's own metric reads labels at their own positions; else None."""
    with suppress(NoEvidence):
        answers, _ = perfect_shares(evidence)
        here, before = answers if len(answers) == 2 else ({}, {})
        for name, share in here.items():
            if share >= PERFECT and before.get(name, 1.0) < PERFECT - _CLEARLY:
                return (
                    "its metric reads each label at its own position: with outputs shifted as for the loss, "
                    f"`{name}` is {before[name]:.3g}"
                )
    return None


def _measured_by_words(evidence: Evidence, call: LossCall, batch: Any, path: Path, place: Path) -> str | None:
    """The measured difference if words predict the label at their own position, and the network sees the following
    words; else None."""
    own, before = _errors_by_word(evidence, path, place, call.ignored)
    if own > _FEWER * before:
        return None
    tokens = leaf(batch, path)
    middle = 0 if tokens is None else tokens.shape[1] // 2
    moved, scale = outputs_moved(evidence, batch, path, lambda given: others_behind(given, middle))
    follows, _ = outputs_moved(evidence, batch, place, lambda given: given.roll(1, 0))
    if float(moved[:, :middle].amax()) < CHANGED * scale or float(follows.amax()) >= CHANGED * scale:
        return None  # the network does not see what follows, or sees earlier labels: it may predict the next label
    return (
        f"{percent(1 - own, 0)} of the labels can be predicted from the word at their position, "
        f"{percent(1 - before, 0)} from the word before, and the network sees the words that follow"
    )


def _shifted(evidence: Evidence) -> Iterator[tuple[LossCall, Any, Path, Path, torch.Tensor]]:
    """Calls of a loss with the labels of a batch without the first column; each with the batch, the paths of its tokens
    and labels, and the tokens."""
    for call in class_losses(evidence):
        for batch, path, tokens in token_inputs(evidence):
            for place, found in leaves(batch):
                labels = found.detach().cpu()
                if place == path or labels.shape != tokens.shape or call.target.numel() != labels[:, 1:].numel():
                    continue
                given, counted = call.target.detach().cpu().flatten(), labels != call.ignored
                if not torch.equal(given, labels[:, 1:].flatten()) or torch.equal(given, labels[:, :-1].flatten()):
                    continue
                if float((labels == tokens)[counted].float().mean()) < _COPIES and int(tokens.max()) > 1:
                    yield call, batch, path, place, tokens


def _errors_by_word(evidence: Evidence, path: Path, place: Path, ignored: int) -> tuple[float, float]:
    """The error of predicting each label as the most frequent one of the word at its position, and of the word before;
    counted in one half of the sequences and measured in the other."""
    words, labels = ([leaf(batch, where) for batch in evidence.train.raw] for where in (path, place))
    pairs = [
        (w.cpu().long(), y.cpu().long()) for w, y in zip(words, labels, strict=True) if w is not None and y is not None
    ]
    return tuple(  # type: ignore[return-value]
        _error_rate(
            [w[:, : w.shape[1] - shift][(y != ignored)[:, shift:]] for w, y in pairs],
            [y[:, shift:][(y != ignored)[:, shift:]] for _, y in pairs],
        )
        for shift in (0, 1)
    )


def _error_rate(words: list[torch.Tensor], labels: list[torch.Tensor]) -> float:
    half = max(1, len(words) // 2)
    kinds, numbers = torch.cat(words).unique(return_inverse=True)
    names, label_numbers = torch.cat(labels).unique(return_inverse=True)
    known = sum(map(len, words[:half])) if len(words) > 1 else len(numbers) // 2
    counts = torch.zeros(len(kinds), len(names)).index_put_(
        (numbers[:known], label_numbers[:known]), torch.ones(()), accumulate=True
    )
    counts += 1e-3 * counts.sum(0) / max(known, 1)  # for new words, the most frequent label of all
    return float((counts.argmax(1)[numbers[known:]] != label_numbers[known:]).float().mean())


def _lacks_last(call: LossCall, outputs: torch.Tensor | None, tokens: torch.Tensor) -> bool:
    """Whether the loss gets the outputs of the network without the last position, not without the first."""
    if outputs is None or outputs.ndim != 3:
        return False
    samples, length = tokens.shape
    outputs = outputs.detach().cpu() if outputs.shape[:2] == tokens.shape else outputs.detach().cpu().transpose(1, 2)
    scores = call.input.detach().cpu()
    scores = scores.transpose(1, 2) if scores.ndim == 3 else scores
    if outputs.shape[:2] != tokens.shape or scores.numel() != samples * (length - 1) * outputs.shape[2]:
        return False
    given = scores.reshape(samples, length - 1, -1).float().log_softmax(2)
    whole = outputs.float().log_softmax(2)
    return float((given - whole[:, :-1]).abs().mean()) < float((given - whole[:, 1:]).abs().mean())


SHIFTED_TAGS = Check(
    codes=("data.step-labels",),
    run=_run,
    explains="fit.* loss.initial-off optim.lr-too-high optim.lr-too-low",
)
