"""The quality of predictions, independent of the user's loss, and the classes that outputs predict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from striate.doctor.setup.batch import is_binary


def accuracy_of(outputs: torch.Tensor | None, targets: torch.Tensor | None) -> float | None:
    """The accuracy, 0 to 1: by the largest output of (N, K, …); for two classes and outputs (N,) or (N, 1), by their
    sign, or by the threshold 0.5 where all are in 0 to 1. None where outputs are no class scores."""
    predictions = classes_of(outputs, targets)
    if predictions is None or targets is None:
        return None
    return float((predictions == targets.to(predictions.device).reshape(predictions.shape).long()).float().mean())


def classes_of(outputs: torch.Tensor | None, targets: torch.Tensor | None) -> torch.Tensor | None:
    """The classes that outputs predict, in the shape of the targets; None where outputs are no class scores."""
    if outputs is None or targets is None or not targets.numel() or not outputs.numel() or not targets.ndim:
        return None
    outputs = one_axis_more(outputs.detach(), targets)
    if outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1 and not targets.is_floating_point():
        fits = outputs.shape[2:] == targets.shape[1:] and len(outputs) == len(targets) and not are_directions(outputs)
        return outputs.argmax(1) if fits else None
    if outputs.numel() == targets.numel() == len(targets) and is_binary(targets):
        flat = outputs.reshape(targets.shape)
        limit = 0.5 if bool(((flat >= 0) & (flat <= 1)).all()) else 0.0
        return (flat > limit).long()
    return None


def one_axis_more(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Outputs as (N, K), without axes of length 1 as in (N, 1, K), where each sample has one class number."""
    if (
        targets.ndim != 1
        or targets.is_floating_point()
        or outputs.ndim < 3
        or sum(n > 1 for n in outputs.shape[1:]) != 1
    ):
        return outputs
    return outputs.flatten(1)


def root_mean_square(tensor: torch.Tensor) -> float:
    """The root mean square of all numbers."""
    return float(tensor.detach().double().square().mean().sqrt())


def are_directions(outputs: torch.Tensor) -> bool:
    """Whether outputs (N, K) are vectors of norm 1, as normalized embeddings are; these are no class scores."""
    if outputs.ndim != 2 or outputs.shape[1] < _FEWEST_NUMBERS:
        return False
    return float((outputs.detach().double().norm(dim=1) - 1).abs().max()) < 1e-3


_SURE, _FEWEST_NUMBERS = 1e-12, 8


@dataclass(frozen=True)
class Quality:
    """How good predictions are."""

    kind: str
    """`classes` (one of several), `labels` (each present or not) or `numbers`."""
    loss: float
    """Cross-entropy in nats, binary cross-entropy in nats, or mean squared error."""
    constant: float
    """Loss of the best prediction that does not depend on the input."""
    accuracy: float | None = None
    """For classes, and for one label for each sample: 0 to 1. Else None."""
    common: float = 0.0
    """Share of the most frequent class; for labels, the share of present ones or of absent ones, whichever is larger; 0
    for numbers."""
    explained: float = 0.0
    """For numbers: squared correlation with the targets; where several outputs may predict one number, of the best."""

    @property
    def guesses(self) -> bool:
        """Whether the predictions are hardly better than one that does not depend on the input."""
        if self.accuracy is not None:
            return self.accuracy <= self.common + 0.05
        return self.loss >= 0.95 * self.constant if self.kind == "labels" else self.explained < 0.1


def quality(outputs: torch.Tensor, targets: torch.Tensor | None) -> Quality | None:
    """The quality of outputs (N, …) for targets (N, …); None where their shapes fit no known task."""
    if targets is None or not outputs.is_floating_point() or not outputs.numel() or not targets.numel():
        return None
    outputs, targets = outputs.detach().cpu(), targets.detach().cpu()
    if targets.ndim == 2 and targets.shape[1] == 1 and outputs.ndim == 2 and outputs.shape[1] > 1:
        if targets.is_floating_point():
            return _numbers(outputs, targets)
        targets = targets[:, 0]
    if outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1 and len(outputs) == len(targets):
        if not targets.is_floating_point():
            fits = outputs.shape[2:] == targets.shape[1:] and not are_directions(outputs)
            return _classes(outputs, targets.long()) if fits else None
        return _numbers(outputs, targets) if targets.ndim == 1 else None
    if outputs.numel() != targets.numel():
        return None
    if outputs.shape == targets.shape and _are_probabilities(targets):
        return _soft_classes(outputs, targets)
    if is_binary(targets):
        return _labels(outputs.reshape(targets.shape), targets)
    return _numbers(outputs.reshape(targets.shape), targets)


def are_distances(outputs: torch.Tensor, targets: torch.Tensor | None) -> bool:
    """Whether the outputs of a trained network for binary labels are neither scores nor probabilities, but distances of
    two samples: all above 0, and some above 1."""
    if targets is None or targets.numel() != outputs.numel() or len(targets.unique()) > 2:
        return False
    return float(outputs.min()) > 0 and float(outputs.max()) > 1


def _are_probabilities(targets: torch.Tensor) -> bool:
    """Whether targets (N, K) are class probabilities or one-hot."""
    if targets.ndim != 2 or targets.shape[1] < 2 or not bool((targets >= 0).all()):
        return False
    return float((targets.double().sum(1) - 1).abs().max()) < 1e-3


def log_probabilities(outputs_NK: torch.Tensor) -> torch.Tensor:
    """The log probabilities of outputs (N, K, …): themselves, their logarithm, or their log softmax, by `form_of`."""
    form = form_of(outputs_NK)
    if form == "probabilities":
        return outputs_NK.double().clamp_min(_SURE).log()
    return outputs_NK.double() if form == "log probabilities" else functional.log_softmax(outputs_NK.double(), 1)


def form_of(outputs_NK: torch.Tensor) -> str:
    """`probabilities` where outputs (N, K, …) lie in 0 to 1 and sum to 1, `log probabilities`, or else `logits`."""
    values = outputs_NK.detach().double()
    if not bool(torch.isfinite(values).all()):
        return "logits"
    if bool((values >= 0).all()) and float((values.sum(1) - 1).abs().max()) < 1e-3:
        return "probabilities"
    if bool((values <= 1e-6).all()) and float(values.logsumexp(1).abs().max()) < 1e-3:
        return "log probabilities"
    return "logits"


def entropy(labels: torch.Tensor) -> float:
    """The entropy of the class frequencies in nats, which is the cross entropy of predicting these frequencies."""
    shares = torch.bincount(labels.flatten()).double() / max(labels.numel(), 1)
    return float(-(shares * shares.clamp_min(_SURE).log()).sum())


def _classes(outputs: torch.Tensor, targets: torch.Tensor) -> Quality | None:
    logs, predicted = log_probabilities(outputs).movedim(1, -1), outputs.argmax(1)
    counted = targets >= 0  # negative targets, such as -100, are ignored
    labels = targets[counted]
    if not labels.numel() or int(labels.max()) >= outputs.shape[1]:
        return None
    loss = -logs[counted].gather(1, labels[:, None]).mean()
    right = float((predicted[counted] == labels).double().mean())
    common = float(torch.bincount(labels).max()) / labels.numel()
    return Quality("classes", float(loss), entropy(labels), right, common)


def _soft_classes(outputs: torch.Tensor, targets: torch.Tensor) -> Quality:
    labels = targets.argmax(1)
    loss = -(log_probabilities(outputs) * targets.double()).sum(1).mean()
    right = float((outputs.argmax(1) == labels).double().mean())
    shares = targets.double().mean(0)
    constant = float(-(shares * shares.clamp_min(_SURE).log()).sum())
    return Quality("classes", float(loss), constant, right, float(torch.bincount(labels).max()) / len(labels))


def _labels(outputs: torch.Tensor, targets: torch.Tensor) -> Quality:
    values, labels = outputs.double(), targets.double()
    if bool(((values >= 0) & (values <= 1)).all()):
        values = torch.logit(values, eps=1e-7)
    loss = float(functional.binary_cross_entropy_with_logits(values, labels))
    shares = (labels.mean(0) if labels.ndim > 1 else labels.mean()).clamp(1e-7, 1 - 1e-7)
    constant = float(-(shares * shares.log() + (1 - shares) * (1 - shares).log()).mean())
    single = labels.numel() == len(labels)
    common = max(float(labels.mean()), 1 - float(labels.mean()))
    return Quality("labels", loss, constant, accuracy_of(outputs, targets) if single else None, common)


def _numbers(outputs: torch.Tensor, targets: torch.Tensor) -> Quality:
    """Where there are several outputs for one number, such as a mean and a variance, the best one counts."""
    numbers = targets.double()
    columns = [outputs.double()]
    if outputs.shape != targets.shape:
        columns = [outputs[:, number].double() for number in range(outputs.shape[1])]
        numbers = numbers.reshape(len(numbers))
    fits = [(_explained(column, numbers), float((column - numbers).square().mean())) for column in columns]
    explained, loss = max(fits)
    mean = numbers.mean(0) if numbers.ndim > 1 else numbers.mean()
    return Quality("numbers", loss, float((numbers - mean).square().mean()), explained=explained)


def _explained(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    a = outputs - (outputs.mean(0) if outputs.ndim > 1 else outputs.mean())
    b = targets - (targets.mean(0) if targets.ndim > 1 else targets.mean())
    scale = float(a.square().sum() * b.square().sum())
    value = float((a * b).sum()) ** 2 / scale if scale > 0 else 0.0
    return value if math.isfinite(value) else 0.0
