"""Accuracies that the script's evaluation or a library reports, compared with those of the network's predictions."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from itertools import count
from operator import truediv

import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from striate.data.annotations.masks import IGNORED
from striate.doctor.checks.eval.counts.findings import COUNT_SAMPLES, OTHER_NUMBER, wrong_count
from striate.doctor.checks.eval.evaluation_loops import size_of
from striate.doctor.checks.eval.library_metrics import as_share
from striate.doctor.checks.eval.perfect_network import perfect_replacement, scores_with
from striate.doctor.checks.eval.script_evaluation import (
    EvaluationCall,
    evaluation_calls,
    first_evaluation,
    is_accuracy,
    logged_with_predictions,
    predicted_by_batch,
    validation_predictions,
)
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import are_distances
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import leaf, leaves
from striate.records import Finding
from striate.wording import listed, percent, several

_LOGGED, _PERFECT = 0.05, 1e-4
_SEPARATED = 0.1
"""Gain of the accuracy at the best threshold over that of always predicting the more frequent label."""


def wrong_result(evidence: Evidence) -> Iterator[Finding]:
    """Wrong accuracies of the script's own evaluation, such as right predictions divided by a number other than that of
    the samples."""
    found = first_evaluation(evidence)
    samples, batches = sum(found.sizes), len(found.sizes)
    loader = evidence.setup.train
    trained = size_of(loader) if isinstance(loader, DataLoader) else None
    others = {batches: "the number of batches", max(found.sizes): "the size of a batch"}
    others |= {batches * max(found.sizes): "the number of batches times their size, and the last is smaller"}
    for path, _ in leaves(evidence.val.raw[0]):
        rows = sum(len(part) for batch in evidence.val.raw if (part := leaf(batch, path)) is not None and part.ndim)
        if rows > samples:
            others.setdefault(rows, "the number of nodes, or of other rows in a batch")
    if trained is not None:
        others |= {trained[0]: "the number of training samples", trained[1]: "the number of training batches"}
    right = sum(found.right)
    wrong = 1 - found.share
    # A number near zero may be a loss: it is no share of right predictions where there are none.
    if found.gives(found.share) or (wrong > 0 and found.gives(wrong)):
        return
    if (of_one_batch := _of_one_batch(evidence, found)) is not None:
        yield of_one_batch
        return
    if right < max(2, 0.1 * samples):
        return
    for number, what in others.items():
        if number not in (0, samples) and found.gives(right / number):
            yield wrong_count(
                found.where,
                f"for a network with {right} of {several(samples, 'validation sample')} right "
                f"`{found.text}` gives {right / number:.4g}: the count divided by {number}, {what}",
                "The number printed as an accuracy is not the accuracy.",
                COUNT_SAMPLES,
                OTHER_NUMBER,
            )
            return
    if (weighted := _of_full_batches(evidence, found)) is not None:
        yield weighted
        return
    known = validation_predictions(evidence) if found.accuracies else None
    if known is not None and found.in_training:
        training = validation_predictions(evidence, evaluating=False)
        known = known if training is not None and torch.equal(known[0], training[0]) else None  # dropout, batch norm
    if known is not None and not _is_right(evidence, found.accuracies, *known):
        text = f"`{found.text}` gives {listed([f'{number:.4g}' for number in found.accuracies[0]])} as an accuracy"
        shares = _shares_by_threshold(evidence)
        if shares is None:
            yield _no_accuracy(found.where, text, known[0] == known[1])
        elif not _lie_within(found, *shares):
            yield _other_side(found.where, text, *shares)


def _shares_by_threshold(evidence: Evidence) -> tuple[float, float] | None:
    """The lowest and the highest accuracy over all thresholds, for single outputs that are distances, or lower for
    label 1 than for label 0. Outputs on the side of label 1 count as predictions of 1. None where outputs are scores of
    label 1, whose threshold is known."""
    outputs, targets = (torch.cat(part).flatten() for part in zip(*predicted_by_batch(evidence), strict=True))
    if outputs.shape != targets.shape:
        return None
    signs = 2 * targets[outputs.argsort()].double() - 1
    below = float((targets == 0).double().mean()) + functional.pad(signs.cumsum(0), (1, 0)) / len(targets)
    is_low = float(below.max() + below.min()) > 1
    common = max(float(targets.double().mean()), 1 - float(targets.double().mean()))
    learned = max(float(below.max()), 1 - float(below.min())) > common + _SEPARATED
    if not are_distances(outputs, targets) and not (is_low and learned):
        return None
    shares = below if is_low else 1 - below
    return (float(shares.min()), float(shares.max())) if learned else (0.0, 1.0)


def _lie_within(found: EvaluationCall, least: float, most: float) -> bool:
    """Whether one of the reported accuracies is between the two, as a fraction, in percent or as a count."""
    reported = [number for numbers in found.accuracies for number in numbers]
    scales = (1.0, 100.0, float(sum(found.sizes)))
    return any(least - _LOGGED <= number / scale <= most + _LOGGED for number in reported for scale in scales)


def _other_side(where: str, text: str, least: float, most: float) -> Finding:
    return wrong_count(
        where,
        f"{text}, though the outputs, on the side where the network puts samples of label 1, give {percent(least)} to "
        f"{percent(most)} at any threshold",
        "The outputs on the wrong side of the threshold count as 1: the number falls as the network learns.",
        "count as 1 what lies on the side where the loss puts it: `same = distance < threshold` if it pulls pairs of "
        "target 1 together, `different = distance > threshold` if it pushes them apart",
        "an accuracy of distances, or of outputs that are lower for label 1, that no threshold gives",
    )


def _of_full_batches(evidence: Evidence, found: EvaluationCall) -> Finding | None:
    """The finding where the accuracy of each batch is multiplied by the size of a full batch, and the sum is divided by
    the number of samples: above 1 for a perfect network."""
    samples, full = sum(found.sizes), max(found.sizes)
    value, most = sum(map(truediv, found.right, found.sizes)) * full / samples, full * len(found.sizes) / samples
    if most == 1 or not found.gives(value):
        return None
    if not any(abs(share - most) < _PERFECT for share in _results_with(evidence, found, range(len(found.sizes)))):
        return None
    return wrong_count(
        found.where,
        f"for a network with {sum(found.right)} of {several(samples, 'validation sample')} right `{found.text}` gives "
        f"{value:.4g}, and {most:.4g} for a perfect one: the share of each batch times {full}, also of a batch of "
        f"{min(found.sizes)}, divided by {samples}",
        "The number printed as an accuracy is not the accuracy: the last batch counts too much, and it may exceed 1.",
        "add up the right predictions of each batch, `correct += (predicted == targets).sum().item()`, or its share "
        "times its own size, `len(targets)`",
        "the shares of the batches times the size of a full one, divided by the number of samples",
    )


def _of_one_batch(evidence: Evidence, found: EvaluationCall) -> Finding | None:
    """The finding where the result is the accuracy of one batch: it becomes 1 if only that batch is predicted right."""
    for place, which in ((0, "first"), (len(found.sizes) - 1, "last")):
        right, size = found.right[place], found.sizes[place]
        if right / size in (1, found.share) or not found.gives(right / size):
            continue
        if any(abs(share - 1) < _PERFECT for share in _results_with(evidence, found, (place,))):
            return wrong_count(
                found.where,
                f"`{found.text}` gives {right / size:.4g} for a network with {right} of {several(size, 'sample')} of "
                f"the {which} validation batch right, and 1 if only that batch is predicted right",
                "The number is that of one batch: the others do not count.",
                "return the mean over all samples, behind the loop: `correct / total`, or the average of a meter, not "
                "its latest value",
                "a result that is the share of right predictions in one batch, whatever the others are",
            )
    return None


def _results_with(evidence: Evidence, found: EvaluationCall, places: Collection[int]) -> list[float]:
    """The results of an evaluation, as fractions, for a network that predicts the batches at these places right."""
    shares, batches = list[float](), count()

    def put(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        return perfect_replacement(evidence, outputs, labels, form=0) if next(batches) in places else outputs

    for site, function, arguments in evaluation_calls(evidence):
        if not shares and (f"line {site.lineno}", ast.unparse(site)) == (found.where, found.text):
            shares = [as_share(value) for _, value in scores_with(evidence, site, function, arguments, put)]
    return shares


def wrong_log(evidence: Evidence) -> Iterator[Finding]:
    """Accuracies that a library logs and that differ from the share of right predictions."""
    numbers, predicted, targets = logged_with_predictions(evidence)
    named = {name: value for name, value in numbers.items() if is_accuracy(name)}
    if _is_right(evidence, [(value,) for value in named.values()], predicted, targets):
        return
    name, value = next(iter(named.items()))
    yield _no_accuracy("validation", f"`{name}` is {value:.4g}", predicted == targets)


def _is_right(
    evidence: Evidence, named: Iterable[tuple[float, ...]], predicted: torch.Tensor, targets: torch.Tensor
) -> bool:
    """Whether one of the reported numbers is the accuracy, as a fraction, in percent or as a count; of all samples, of
    those that the loss does not ignore, or as a mean over classes. Also true where no number is reported, or hardly a
    prediction is right."""
    right, true = predicted == targets, list[float]()
    ignored = torch.tensor([IGNORED, *(call.ignored for call in class_losses(evidence))])
    counted = (targets >= 0) & ~torch.isin(targets, ignored)
    for part in (torch.ones_like(counted), counted):
        recalls = [float(right[part & (targets == label)].float().mean()) for label in targets[part].unique()]
        true += [float(right[part].float().mean()), sum(recalls) / max(len(recalls), 1)]
    scales = (1.0, 100.0, float(len(targets)))
    # In `430/450 (95.6%)` the 450 is the number of samples.
    numbers = [number for row in named for number in row if len(row) == 1 or number != len(targets)]
    reported = [number / scale for number in numbers for scale in scales]
    few = int(right.sum()) < max(2, 0.1 * len(targets))
    return few or not reported or any(abs(number - other) < _LOGGED for number in reported for other in true)


def _no_accuracy(where: str, text: str, right: torch.Tensor) -> Finding:
    return wrong_count(
        where,
        f"{text} for a network with {int(right.sum())} of {several(len(right), 'validation sample')} right, "
        f"{percent(float(right.float().mean()))}",
        "The reported accuracy is not that of the predictions.",
        "compare classes and labels of the same shape, `(logits.argmax(-1) == labels).sum()`, and divide by "
        "the number of labels",
        f"the reported accuracy differs from the true one by {percent(_LOGGED, 0)} or more",
    )
