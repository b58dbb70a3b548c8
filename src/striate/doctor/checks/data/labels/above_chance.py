"""Does the network predict held-out samples better than chance?"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import torch
from scipy.stats import rankdata

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import copies_in
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.samples import class_numbers
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import main_tensor, parts, reshuffled
from striate.wording import several

SIGMAS, _OF_WORDS = 3.0, 2.0
"""Standard errors above chance: for most inputs, and for token sequences and graphs."""
MOST_NUMBERS, _FEWEST_RANKED = 16, 10
NOTHING_TO_LEARN = (
    "There is nothing to learn: the loss only falls by memorizing single samples, and validation stays at chance."
)


def validation_predictions(evidence: Evidence) -> Predictions | None:
    """The predictions of the trial's network for validation; None where it does not run on validation."""
    try:
        return evidence.after_val
    except NoEvidence:
        return None


def better_than_chance(predictions: Predictions | None) -> bool:
    """Whether predictions for held-out samples depend on their targets."""
    return predictions is not None and (_sigmas(predictions) or 0.0) >= SIGMAS


def _sigmas(predictions: Predictions) -> float | None:
    """By how many standard errors the predictions are better than chance; None where unknown."""
    targets = predictions.targets
    if targets is None or not bool(torch.isfinite(predictions.outputs).all()):
        return None
    if targets.ndim == 2 and (numbers := class_numbers(targets)) is not None:  # one-hot or soft labels
        targets = numbers
        predictions = replace(predictions, targets=targets)
    try:
        predicted = predictions.predicted.flatten()
        labels = targets.flatten().long()
    except NoEvidence:
        return _correlation(predictions.outputs, targets)
    size = int(max(predicted.max(), labels.max())) + 1
    if int(labels.min()) < 0:
        return None
    shares, true_shares = (torch.bincount(part, minlength=size).double() / len(part) for part in (predicted, labels))
    chance = float((shares * true_shares).sum())
    accuracy = float((predicted == labels).double().mean())
    return (accuracy - chance) / max(math.sqrt(chance * (1 - chance) / len(labels)), 0.5 / len(labels))


def _correlation(outputs: torch.Tensor, targets: torch.Tensor) -> float | None:
    if outputs.shape == targets.shape and 1 < targets[:1].numel() <= MOST_NUMBERS and len(targets) > 2:
        pairs = zip(outputs.flatten(1).double().T, targets.flatten(1).double().T, strict=True)
        related_to = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]
        return max((value for value in related_to if value == value), default=0.0) * math.sqrt(len(targets))
    if targets.numel() != len(targets) or len(outputs) != len(targets) or len(targets) < 3:
        return None
    target = targets.flatten().double()
    columns = outputs.reshape(len(outputs), -1).double().T
    found = [
        float(torch.corrcoef(torch.stack([column, target]))[0, 1]) for column in columns if float(column.std()) > 0
    ]
    return max((value for value in found if value == value), default=0.0) * math.sqrt(len(target))


def _ranks(predictions: Predictions) -> float:
    """By how many standard errors the samples of a class have higher outputs for it than other samples; the largest
    over classes. By the rank sum of Wilcoxon (1945), which also works for rare classes that are never predicted."""
    outputs, labels = predictions.outputs, class_numbers(predictions.targets)
    outputs = outputs.reshape(len(outputs), -1).double()
    if labels is None or len(labels) != len(outputs):
        return 0.0
    outputs = torch.cat([-outputs, outputs], 1) if outputs.shape[1] == 1 else outputs
    outputs = outputs - outputs.mean(1, keepdim=True)
    return max(0.0, *(rank_sum(column, labels == k)[1] for k, column in enumerate(outputs.T)))


def rank_sum(outputs: torch.Tensor, positive: torch.Tensor) -> tuple[float, float]:
    """The area under the ROC curve of `outputs` for the samples `positive`, and its distance from 0.5 in standard
    errors."""
    few, rest = int(positive.sum()), int((~positive).sum())
    if min(few, rest) < _FEWEST_RANKED:
        return 0.5, 0.0
    above = float(rankdata(outputs.numpy())[positive.numpy()].sum()) - few * (few + 1) / 2
    return above / (few * rest), (above - few * rest / 2) / math.sqrt(few * rest * (few + rest + 1) / 12)


def network_on_held_out(evidence: Evidence, graphs: bool = False, ranked: bool = False) -> str | None:
    """How well the network, trained with its own optimizer and with Adam, predicts held-out samples, in words; None if
    it is better than chance (networks may see more than simple models) or does not run. For `graphs` and token
    sequences it has to have learned its training samples (else NoEvidence is raised). `ranked`: use the ranks of
    outputs, too, not only the predicted classes."""
    held = held_out(evidence)
    if held is None:
        return None
    train, held_out_batches = held
    change = Change(
        optimizer=lambda model: torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    )
    sigmas, steps, fitted = [], 0, False
    given = main_tensor(parts(evidence.train.raw[0])[0])
    words = graphs or (
        given is not None and not given.is_floating_point()
    )  # simple models do not see the order of tokens
    enough = _OF_WORDS if words else SIGMAS
    for name, variation in (("held out", Change()), ("held out, Adam", change)):
        trial = evidence.variant(name, variation, batches=train)
        predictions = None if trial.error is not None else evidence.predictions_of(trial, held_out_batches)
        found = None if predictions is None else _sigmas(predictions)
        if predictions is None or found is None:
            continue
        found = max(found, _ranks(predictions)) if ranked else found
        sigmas.append(found)
        if found >= enough:
            return None
        steps = max(steps, len(trial.rows))
        fitted = fitted or better_than_chance(evidence.predictions_of(trial, train))
    if not sigmas:
        return None
    if words and not fitted:
        raise NoEvidence(f"the network does not learn its training samples either in {several(steps, 'step')}")
    return f"is {max(sigmas):.1f} standard errors better than chance on held-out samples"


def _rows_without_copies(evidence: Evidence) -> torch.Tensor | None:
    with suppress(NoEvidence):
        first = copies_in(evidence.samples.sole_inputs)
        return torch.nonzero(first == torch.arange(len(first))).flatten()
    return None


def held_out(evidence: Evidence) -> tuple[list[object], list[object]] | None:
    """Batches to train on and held-out batches, with each sample once, although a loop may draw it twice; batches of
    several lengths stay unchanged. None if there are fewer than four."""
    batches = reshuffled(evidence.train.raw, _rows_without_copies(evidence)) or list(evidence.train.raw)
    if len(batches) < 4:
        return None
    cut = max(1, round(0.7 * len(batches)))
    return batches[:cut], batches[cut:]
