"""What an evaluation, or a library, gives as an accuracy of the trial's network, beside the predictions themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader

from striate.data.annotations.masks import IGNORED
from striate.doctor.checks.eval.counts.findings import COUNT_SAMPLES, OTHER_NUMBER, wrong_count
from striate.doctor.checks.eval.evaluated import asked_directly, evaluated, is_accuracy, logged
from striate.doctor.checks.eval.evaluation_loops import size_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import leaf, leaves
from striate.records import Finding
from striate.wording import listed, several

_LOGGED = 0.05


def wrong_result(evidence: Evidence) -> Iterator[Finding]:
    """What the script's own evaluation gives, where it is a count of right predictions divided by something else."""
    found = evaluated(evidence)
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
    # A loss near zero is no share of none.
    if found.gives(found.share) or (wrong > 0 and found.gives(wrong)) or right < max(2, 0.1 * samples):
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
    known = asked_directly(evidence) if found.accuracies else None
    if known is not None and found.in_training:
        training = asked_directly(evidence, evaluating=False)
        known = known if training is not None and torch.equal(known[0], training[0]) else None  # dropout, batch norm
    if known is not None and not _is_right(evidence, found.accuracies, *known):
        numbers = listed([f"{number:.4g}" for number in found.accuracies[0]])
        yield _no_accuracy(found.where, f"`{found.text}` gives {numbers} as an accuracy", known[0] == known[1])


def logged_otherwise(evidence: Evidence) -> Iterator[Finding]:
    """What a library logs as an accuracy, where it is another than the share of predictions that are right."""
    numbers, predicted, targets = logged(evidence)
    named = {name: value for name, value in numbers.items() if is_accuracy(name)}
    if _is_right(evidence, [(value,) for value in named.values()], predicted, targets):
        return
    name, value = next(iter(named.items()))
    yield _no_accuracy("validation", f"`{name}` is {value:.4g}", predicted == targets)


def _is_right(
    evidence: Evidence, named: Iterable[tuple[float, ...]], predicted: torch.Tensor, targets: torch.Tensor
) -> bool:
    """Whether one number of those that are to be an accuracy is one, as a share, in percent or as a count, of all
    samples, of those that the loss does not ignore, or in the mean of the classes; also where there is none, or hardly
    a prediction is right."""
    right, true = predicted == targets, list[float]()
    ignored = torch.tensor([IGNORED, *(call.ignored for call in class_losses(evidence))])
    counted = (targets >= 0) & ~torch.isin(targets, ignored)
    for part in (torch.ones_like(counted), counted):
        recalls = [float(right[part & (targets == label)].float().mean()) for label in targets[part].unique()]
        true += [float(right[part].float().mean()), sum(recalls) / max(len(recalls), 1)]
    scales = (1.0, 100.0, float(len(targets)))
    # Of `430/450 (95.6%)` the 450 is what the count is of.
    said = [number for numbers in named for number in numbers if len(numbers) == 1 or number != len(targets)]
    told = [number / scale for number in said for scale in scales]
    few = int(right.sum()) < max(2, 0.1 * len(targets))
    return few or not told or any(abs(number - other) < _LOGGED for number in told for other in true)


def _no_accuracy(where: str, told: str, right: torch.Tensor) -> Finding:
    return wrong_count(
        where,
        f"{told} for a network with {int(right.sum())} of {several(len(right), 'validation sample')} right, "
        f"{float(right.float().mean()):.1%}",
        "The reported accuracy is not that of the predictions.",
        "compare classes and labels of the same shape, `(logits.argmax(-1) == labels).sum()`, and divide by "
        "the number of labels",
        f"the reported accuracy differs from the true one by {_LOGGED:.0%} or more",
    )
