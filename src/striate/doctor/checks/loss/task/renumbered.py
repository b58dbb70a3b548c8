"""A loss that asks for classes at the outputs of other classes, or at any output except their own."""

from __future__ import annotations

import torch

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.wording import percent, several

_RENUMBERED = 0.8
_AVOIDED, _MOST_CLASSES, _SORTED = 0.2, 200, 0.8


def renumbered(evidence: Evidence) -> Wrong | None:
    """A loss that asks for each class at the output of another one, so that the accuracy is high once the outputs are
    renumbered; or one that asks for any class except the right one, so that the accuracy is far below chance."""
    if not evidence.setup.classifies or not predicts_targets(evidence):
        return None
    after = evidence.after_training
    targets, outputs = after.targets, after.outputs
    if targets is None or targets.ndim != 1 or targets.is_floating_point() or outputs.ndim != 2:
        return None
    classes = outputs.shape[1]
    if not 3 <= classes <= _MOST_CLASSES or not set(targets.unique().tolist()) <= set(range(classes)):
        return None
    alike = [float(part.bincount().max()) / len(part) for part in targets.long().split(evidence.train.sizes[0])]
    if sum(alike) > _SORTED * len(alike):  # batches of one class: the network predicts the class of earlier batches
        return None
    from scipy.optimize import linear_sum_assignment

    counts = torch.zeros(classes, classes)
    counts.index_put_((targets.long(), outputs.argmax(1)), torch.tensor(1.0), accumulate=True)
    right, predicted = (part.tolist() for part in map(torch.from_numpy, linear_sum_assignment(-counts.numpy())))
    best, own = float(counts[right, predicted].sum() / len(targets)), float(counts.diag().sum() / len(targets))
    if (
        best < _RENUMBERED
        and own < _AVOIDED / classes
        and len(targets) >= 30 * classes
        and counts.sum(0).max() < 0.5 * len(targets)
    ):
        return Wrong(
            "error",
            f"the accuracy on training samples is {percent(own)} after {several(len(evidence.trial.rows), 'step')}, "
            f"below chance ({percent(1 / classes)})",
            "The loss asks for any class except the right one.",
            "`nn.CrossEntropyLoss(label_smoothing=0.1)(outputs, labels)`: the right class has the largest target",
            limit=f"an accuracy of {_AVOIDED:g} times chance, with 30 samples of each class or more",
        )
    if best < _RENUMBERED or own > best / 3:
        return None
    pairs = ", ".join(f"{there} for class {one}" for one, there in zip(right, predicted, strict=True) if one != there)
    return Wrong(
        "error",
        f"the accuracy on training samples is {percent(own, 0)} after {several(len(evidence.trial.rows), 'step')}, and "
        f"{percent(best, 0)} once the outputs are renumbered: {pairs[:80]}",
        "The loss asks for each class at the output of another one, so the largest output is the wrong class.",
        "pass the class numbers of the loader to the loss: `nn.CrossEntropyLoss()(outputs, labels)`, or "
        "`F.one_hot(labels, outputs.shape[1])`",
        limit=f"an accuracy of {percent(_RENUMBERED, 0)} once outputs are renumbered, three times that without",
    )
