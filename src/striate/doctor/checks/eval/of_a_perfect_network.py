"""What a script's own evaluation gives for a network that predicts all labels of validation right."""

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

from striate.doctor.checks.eval.all_right import RIGHT, all_right, as_share, is_complete, is_share, words_of
from striate.doctor.checks.eval.evaluated import MOST_STEPS, answer_of, evaluations, named_numbers, predicted_by_batch
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
"""Of the deviation of the targets: an error of no size; of the way from a guess to right predictions."""


@dataclass(frozen=True)
class Untrue:
    """A number that the call `text` gives by `name` for predictions that are all right."""

    where: str
    text: str
    name: str
    value: float


def untrue_of_a_perfect_network(evidence: Evidence) -> Iterator[Untrue]:
    """Scores below 1, and errors above 0. Raises NoEvidence where predictions cannot be read from the outputs as they
    are, or no function of the script evaluates the network."""
    val = evidence.val
    if not val.whole or not evidence.trial.rows:
        raise NoEvidence("only a part of the validation data was read")
    given = predicted_by_batch(evidence)
    batches = [(outputs, _labeled(evidence, outputs, wanted)) for outputs, wanted in given]
    outputs, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    read = quality(outputs, targets)
    by_loss = read is not None and read.kind == "classes" and evidence.samples.plain and any(class_losses(evidence))
    # Where one class is most of all, a guess is mostly right.
    guesses = read is None or (read.guesses and (skill(Predictions(outputs, targets, read.loss)) or 0) < _LEARNED)
    if read is None or (guesses and not by_loss):
        raise NoEvidence("outputs do not have the form of the labels, or the network has not learned them")
    complete = all(is_complete(*batch) for batch in batches)
    candidates = read.kind == "labels" and all(int((wanted == 1).sum()) == 1 for _, wanted in batches)
    as_they_are = read.kind == "numbers" and read.loss < read.constant / 2
    largest = _NOTHING * float(targets.double().std()) if as_they_are else math.inf
    left_out = float((torch.cat([wanted for _, wanted in given]) != targets).double().mean())  # who counts these, may
    for site, function, arguments in evaluations(evidence, of_copies=True):
        evidence.clock.need(MOST_STEPS * len(val.raw) * evidence.step_seconds)
        untrue = partial(_is_untrue, right=RIGHT - left_out, complete=complete, largest=largest, candidates=candidates)
        ask = partial(asked_with, evidence, site, function, arguments)
        for name, value in ask(partial(right_outputs, evidence, form=0)):
            if not untrue(name, value):
                continue
            # Of sequences outputs may be of the position before.
            if all(untrue(*other) for other in ask(partial(right_outputs, evidence, form=1)) if other[0] == name):
                yield Untrue(f"line {site.lineno}", ast.unparse(site), name, value)


def _is_untrue(name: str, value: float, *, right: float, complete: bool, largest: float, candidates: bool) -> bool:
    """Whether a number that is called a score is below `right`, or one that is called an error above `largest`.
    `candidates`: each batch has one right sample."""
    words = words_of(name)
    if candidates and _RANKED.fullmatch(name):
        return 0 <= value < right
    if is_share(words, complete):
        return as_share(value) < right
    return bool(words & _ERRORS) and not words & _NO_ERRORS and value > largest


Putting = Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None]
"""What stands for the outputs of a batch with these labels; None where nothing can."""


def asked_with(
    evidence: Evidence, site: ast.Call, function: Callable[..., Any], given: dict[str, Any], put: Putting
) -> list[tuple[str, float]]:
    """What the function gives by names, of a network whose outputs are replaced batch by batch; nothing where they
    cannot be."""
    model, latest, failed = evidence.trial.replica.model, list[Any](), list[bool]()

    def replaced(_: nn.Module, __: Any, output: Any) -> Any:
        outputs, labels, others = main_tensor(output), main_tensor(parts(latest[-1])[1]) if latest else None, None
        alone = sum(bool(part.ndim) for part in tensors_in(output)) == 1  # what else there is would stay as it is
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
        answered = answer_of(function, given, others, model)
    once = 0 < len(failed) <= len(latest)  # a mirror image that is asked about as well has other labels
    return [] if answered is None or any(failed) or not once else named_numbers(evidence.source, site, *answered)


def _labeled(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Labels, with -1 for those that have no output and that the loss leaves out, as 255."""
    if labels.is_floating_point() or outputs.ndim != labels.ndim + 1:
        return labels
    without = labels >= outputs.shape[1]
    ignored = {call.ignored for call in class_losses(evidence)}
    left_out = bool(without.any()) and set(labels[without].unique().tolist()) <= ignored
    return labels.long().where(~without, -1) if left_out and not bool(without.all()) else labels


def right_outputs(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor, form: int) -> torch.Tensor | None:
    """What a perfect network would give in place of these outputs."""
    there = _labeled(evidence, outputs, labels)
    labels = labels if there is labels else there.where(there >= 0, there[there >= 0].mode().values)
    labels, same = labels.to(outputs.device), outputs.numel() == labels.numel()
    shares = bool(((outputs >= 0) & (outputs <= 1)).all())
    known = next(islice(all_right(evidence, outputs, labels), form, None), None)
    if known is not None:
        return ((known > 0).to(outputs.dtype) if shares else known).reshape(outputs.shape)
    return labels.reshape(outputs.shape).to(outputs.dtype) if same and labels.is_floating_point() and not form else None
