"""How well predictions fit: accuracy of classes, explained variance of quantities, and both on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.quality import Quality, are_distances
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import usual_step
from striate.wording import percent, several

_ALIKE = 0.9


@dataclass(frozen=True)
class Fit:
    """How well a network's predictions fit the targets."""

    score: float
    """Accuracy; or, where `numbers`, the share by which the loss is below that of the best constant prediction: for
    numbers, the share of their variance that predictions explain (R²). May be negative."""
    guess: float
    """Score of the best constant prediction."""
    loss: float
    """Cross-entropy, binary cross-entropy or mean squared error."""
    count: int
    """Number of samples."""
    numbers: bool
    """Whether there is no accuracy: the targets are numbers, or several labels for each sample."""

    @property
    def text(self) -> str:
        """The score in words."""
        return f"R² {self.score:.2f}" if self.numbers else f"{percent(self.score)} right"

    @property
    def skill(self) -> float:
        """The gain over the best constant prediction, as a share of the largest possible gain."""
        return (self.score - self.guess) / max(1 - self.guess, 1e-12)

    @property
    def uncertainty(self) -> float:
        """The standard error of the score, from the number of samples alone."""
        inside = min(max(self.score, 0.0), 1.0)
        return math.sqrt(max(inside * (1 - inside), 0.25 / (self.count + 1)) / max(self.count, 1))


def fit_of(predictions: Predictions) -> Fit:
    """How well predictions fit. Raises NoEvidence where outputs and targets are neither classes nor quantities."""
    found = predictions.quality
    if found is None:
        raise NoEvidence("outputs and targets are neither classes nor quantities")
    return fit_from(found, len(predictions.outputs))


def need_predictions(evidence: Evidence, *, as_loaded: bool = True) -> None:
    """Raise NoEvidence where the network's outputs are not predictions, but embeddings, for example. `as_loaded`: also
    where the step blends samples, so that the network gets inputs that the loader does not yield."""
    if not predicts_targets(evidence):
        raise NoEvidence("the network's outputs are not predictions that could be compared with targets")
    if are_distances(evidence.after_training.outputs, evidence.after_training.targets):
        raise NoEvidence("the network's outputs are distances, not predictions")
    if as_loaded and blends(evidence):
        raise NoEvidence("the step gives the network inputs other than those that the loader yields")


def blends(evidence: Evidence) -> bool:
    """Whether the inputs that the step passes to the network hardly correlate with those that the loader yields."""
    first, inputs = evidence.first, main_tensor(parts(evidence.train.raw[0])[0])
    shown = first.shown
    if shown is None or inputs is None or shown.numel() != inputs.numel() or len(shown) != len(inputs):
        return False
    one, other = (t.detach().cpu().double().reshape(len(t), -1) for t in (shown, inputs))
    one, other = one - one.mean(), other - other.mean()
    alike = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1)).clamp_min(1e-12)
    return float(alike.nan_to_num().median()) < _ALIKE


def fit_from(found: Quality, count: int) -> Fit:
    """How well predictions of a measured quality fit, for `count` samples."""
    if found.kind == "numbers":
        return Fit(1 - found.loss / max(found.constant, 1e-12), 0.0, found.loss, count, True)
    if found.accuracy is None:
        return Fit(1 - found.loss / max(found.constant, 1e-12), 0.0, found.loss, count, True)
    return Fit(found.accuracy, found.common, found.loss, count, False)


def longer(evidence: Evidence) -> Trial:
    """The trial again with up to 1000 steps, as many as its time allows."""
    return evidence.variant("longer", Change(), steps=1000)


def trial_with_adam(evidence: Evidence, rate: float, *, steps: int = 0, batches: Any = None, name: str = "") -> Trial:
    """A trial with Adam and without dropout: what the network can learn, whatever its optimizer. The step is the usual
    one where the user's step passes the batch unchanged to network and loss, else the user's. Raises NoEvidence where
    the step ignores the optimizer that it gets."""

    def make(model: nn.Module) -> Optimizer:
        return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)

    change = Change(optimizer=make, step=usual_step if _plain(evidence) else None, prepare=ready_to_learn)
    trial = evidence.variant(name or f"Adam {rate:g}, {several(steps, 'step')}", change, steps=steps, batches=batches)
    if trial.rows and not trial.replica.optimizer.state:
        raise NoEvidence("the step uses the optimizer of its own code, so another one cannot be tried")
    return trial


def _plain(evidence: Evidence) -> bool:
    """Whether the step calls network and loss once, with the batch that the loader yields."""
    first, inputs = evidence.first, main_tensor(parts(evidence.train.raw[0])[0])
    if first.calls != 1 or first.loss_outputs is None or first.outputs is None or not evidence.samples.plain:
        return False
    shown = first.shown
    same = isinstance(first.outputs, torch.Tensor) and torch.equal(first.outputs, first.loss_outputs)
    return same and shown is not None and inputs is not None and torch.equal(shown.cpu(), inputs.cpu())


def ready_to_learn(replica: Replica) -> None:
    """Put the replica into training mode, without dropout."""
    replica.model.train()
    for part in replica.model.modules():
        if isinstance(part, _DropoutNd):
            part.p = 0.0


def flat(losses: list[float], share: float) -> bool:
    """Whether the last quarter of the losses is within `share` of the quarter before, or above it."""
    quarter = len(losses) // 4
    if quarter < 5 or not all(map(math.isfinite, losses)):
        return False
    last, before = sum(losses[-quarter:]) / quarter, sum(losses[-2 * quarter : -quarter]) / quarter
    return last > (1 - share) * before
