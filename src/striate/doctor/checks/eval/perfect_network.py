"""The metrics of a script's own evaluation for a network that predicts all validation labels right."""

from __future__ import annotations

import ast
import copy
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from striate.doctor.checks.eval.library_metrics import (
    PERFECT,
    as_share,
    is_complete,
    is_share,
    perfect_outputs,
    words_of,
)
from striate.doctor.checks.eval.script_evaluation import (
    MOST_STEPS,
    call_with,
    evaluation_calls,
    named_numbers,
    predicted_by_batch,
)
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.quality import quality
from striate.doctor.evidence.skill import skill
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import main_tensor, mapped, parts
from striate.observe.module_calls import forward_hooks
from striate.observe.tensors import tensors_in

_ERRORS, _NO_ERRORS = frozenset(("mae", "rmse", "mse")), frozenset(("loss", "log", "train", "relative", "ratio"))
_RANKED = re.compile(
    r"((val|valid|test|eval|mean|avg)[ _])?(hr|ndcg|mrr|hit[ _](rate|ratio))[ _]?(@|at)?[ _]?\d*", re.IGNORECASE
)
"""Scores of a list of candidates that are 1 where the only right one comes first."""
_NOTHING, _LEARNED = 1e-3, 0.25
"""Error that counts as 0, in standard deviations of the targets; least skill of a network that has learned."""


@dataclass(frozen=True)
class WrongScore:
    """A metric that is not perfect although all predictions are right."""

    where: str
    """Line of the call that evaluates."""
    text: str
    """Source of the call."""
    name: str
    value: float


def scores_of_perfect_network(evidence: Evidence) -> Iterator[WrongScore]:
    """Scores below 1 and errors above 0 for perfect predictions. Raises NoEvidence where the outputs do not have the
    form of the labels, the network has learned nothing, or no function of the script evaluates it."""
    val = evidence.val
    if not val.whole or not evidence.trial.rows:
        raise NoEvidence("only a part of the validation data was read")
    predicted = predicted_by_batch(evidence)
    batches = [(outputs, _with_ignored(evidence, outputs, labels)) for outputs, labels in predicted]
    outputs, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    read = quality(outputs, targets)
    by_loss = read is not None and read.kind == "classes" and evidence.samples.plain and any(class_losses(evidence))
    # Where most labels are of one class, guesses are mostly right.
    guesses = read is None or (read.guesses and (skill(Predictions(outputs, targets, read.loss)) or 0) < _LEARNED)
    if read is None or (guesses and not by_loss):
        raise NoEvidence("outputs do not have the form of the labels, or the network has not learned them")
    complete = all(is_complete(*batch) for batch in batches)
    candidates = read.kind == "labels" and all(int((labels == 1).sum()) == 1 for _, labels in batches)
    as_they_are = read.kind == "numbers" and read.loss < read.constant / 2
    largest = _NOTHING * float(targets.double().std()) if as_they_are else math.inf
    # An evaluation may count the labels that the loss ignores.
    ignored = float((torch.cat([labels for _, labels in predicted]) != targets).double().mean())
    for site, function, arguments in evaluation_calls(evidence, of_copies=True):
        evidence.clock.need(MOST_STEPS * len(val.raw) * evidence.step_seconds)
        is_wrong = partial(
            _is_wrong, least=PERFECT - ignored, complete=complete, largest=largest, candidates=candidates
        )
        scores = partial(scores_with, evidence, site, function, arguments)
        for name, value in scores(partial(perfect_replacement, evidence, form=0)):
            if not is_wrong(name, value):
                continue
            # In sequences each label may be predicted at the position before.
            shifted = scores(partial(perfect_replacement, evidence, form=1))
            if all(is_wrong(*other) for other in shifted if other[0] == name):
                yield WrongScore(f"line {site.lineno}", ast.unparse(site), name, value)


def _is_wrong(name: str, value: float, *, least: float, complete: bool, largest: float, candidates: bool) -> bool:
    """Whether a score by its name is below `least`, or an error above `largest`. `candidates`: each batch has one right
    sample."""
    words = words_of(name)
    if candidates and _RANKED.fullmatch(name):
        return 0 <= value < least
    if is_share(words, complete):
        return as_share(value) < least
    return bool(words & _ERRORS) and not words & _NO_ERRORS and value > largest


Replacement = Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None]
"""Given outputs and labels of a batch, what replaces the outputs; None where nothing can."""


def scores_with(
    evidence: Evidence, site: ast.Call, function: Callable[..., Any], arguments: dict[str, Any], put: Replacement
) -> list[tuple[str, float]]:
    """The named numbers that an evaluating function returns or prints while the network's outputs are replaced batch by
    batch; empty where they cannot be."""
    model, latest, failed = evidence.trial.replica.model, list[Any](), list[bool]()

    def replaced(_: nn.Module, __: Any, output: Any) -> Any:
        outputs, labels, others = main_tensor(output), main_tensor(parts(latest[-1])[1]) if latest else None, None
        alone = sum(bool(part.ndim) for part in tensors_in(output)) == 1  # other outputs would not be replaced
        if alone and outputs is not None and labels is not None:
            others = put(outputs, labels)
        failed.append(others is None)
        return output if others is None else mapped(output, lambda _, part: others if part is outputs else part)

    loader = evidence.setup.val
    assert isinstance(loader, DataLoader), "evaluations are given one"
    if loader.num_workers or loader.collate_fn is None:
        return []
    noted, collate = copy.copy(loader), loader.collate_fn

    def noting(samples: list[Any]) -> Any:
        latest.append(collate(samples))
        return latest[-1]

    noted.collate_fn = noting
    others = {id(evidence.setup.model): model, id(loader): noted}
    with forward_hooks(after=[(model, replaced)]):
        result = call_with(function, arguments, others, model)
    once = 0 < len(failed) <= len(latest)  # test-time augmentation runs the network more often than once a batch
    return [] if result is None or any(failed) or not once else named_numbers(evidence.source, site, *result)


def _with_ignored(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The labels, with -1 in place of labels without an output that the loss ignores, such as 255."""
    if labels.is_floating_point() or outputs.ndim != labels.ndim + 1:
        return labels
    without = labels >= outputs.shape[1]
    ignored = {call.ignored for call in class_losses(evidence)}
    left_out = bool(without.any()) and set(labels[without].unique().tolist()) <= ignored
    return labels.long().where(~without, -1) if left_out and not bool(without.all()) else labels


def perfect_replacement(
    evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor, form: int
) -> torch.Tensor | None:
    """Outputs of a perfect network in the form of these outputs; None where they cannot be made."""
    there = _with_ignored(evidence, outputs, labels)
    labels = labels if there is labels else there.where(there >= 0, there[there >= 0].mode().values)
    labels, same = labels.to(outputs.device), outputs.numel() == labels.numel()
    shares = bool(((outputs >= 0) & (outputs <= 1)).all())
    known = next(islice(perfect_outputs(evidence, outputs, labels), form, None), None)
    if known is not None:
        return ((known > 0).to(outputs.dtype) if shares else known).reshape(outputs.shape)
    return labels.reshape(outputs.shape).to(outputs.dtype) if same and labels.is_floating_point() and not form else None
