"""Models whose accuracy on validation is compared with and without corrections: the trial's network, a simple model,
the nearest sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from striate.doctor.checks.data.shift.input_statistics import MOST, far_apart
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.corrections import Correction
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.held_samples import labeled_samples
from striate.doctor.evidence.neighbor_search import evaluates_by_neighbors
from striate.doctor.evidence.predictions import Predictions, predict
from striate.doctor.evidence.quality import quality
from striate.doctor.evidence.read_batches import Batches
from striate.doctor.evidence.samples import class_numbers
from striate.doctor.setup.batch import altered, main_tensor, parts
from striate.models.preserved_state import same_random_state

AT_ONCE = 128
_BY_NEAREST = "the trial's network (by the nearest training sample)"

ScoreOf = Callable[[Callable[[torch.Tensor], torch.Tensor] | None], torch.Tensor]


@dataclass(frozen=True)
class ScoredModel:
    """A model whose validation accuracy is compared."""

    name: str
    train: float
    """Mean score of training samples, each scored as by `right`."""
    right: ScoreOf
    """A function of a correction of inputs (or None) that returns the score of each validation sample (N,): 1 or 0 for
    classes; for numbers, the share by which the error is below that of a constant prediction."""
    gained: Callable[[Correction], float] = lambda _: 0.0
    """By how much `train` rises when training inputs get the correction."""
    chance: float = 0.0
    """Training score of a constant prediction; 0 where it is unknown."""
    numbers: bool = False
    """Whether it predicts numbers, not classes."""

    @property
    def learned(self) -> float:
        """The training score, rescaled: 0 for a constant prediction, 1 for perfect ones."""
        return (self.train - self.chance) / max(1 - self.chance, 1e-12)


def scored_models(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> Iterable[ScoredModel]:
    """The trial's network; if it has not learned enough, also the best simple model and the nearest training sample."""
    network = _network(evidence)
    if network is not None:
        yield network
    if (network is None or network.train < 0.5) and x.shape[1:] == known.shape[1:]:
        try:
            reference, labels = evidence.reference, evidence.val_samples.labels[:MOST].numpy()
        except NoEvidence:
            nearest_stored = _by_held(evidence, known, x)
            if nearest_stored is not None:
                yield nearest_stored
            return
        # Simple models are fitted to all inputs of the network: corrections of one of several cannot be tried on them.
        if not evidence.samples.alone or (evaluates_by_neighbors(evidence) and _have_other_classes(evidence)):
            return
        name = reference.best[0]

        def right(change: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
            inputs = x[:MOST] if change is None else change(x[:MOST])
            return torch.from_numpy(reference.predict(inputs, name) == labels).double()

        yield ScoredModel(f"a simple model ({name})", reference.accuracy(name), right)
        nearest = _nearest(evidence)
        if nearest is not None:
            yield nearest


def _have_other_classes(evidence: Evidence) -> bool:
    train, val = evidence.samples.labels.unique(), evidence.val_samples.labels.unique()
    return not torch.equal(train, val)


def _nearest(evidence: Evidence) -> ScoredModel | None:
    """The trial's network as an embedding: a sample is right if its nearest training sample has its label."""
    gallery, labels = evidence.after.outputs, class_numbers(evidence.after.targets)
    path, batches = evidence.val_samples.x_path, some_batches(evidence.val)
    if gallery.ndim != 2 or labels is None or labels.shape != gallery.shape[:1]:
        return None
    apart = torch.cdist(gallery.float(), gallery.float()).fill_diagonal_(math.inf)
    trained = float((labels[apart.argmin(1)] == labels).double().mean())

    def right(change: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        changed = batches if change is None or path is None else [altered(batch, path, change) for batch in batches]
        found = evidence.predictions_of(evidence.trial, changed)
        val_labels = class_numbers(found.targets)
        if val_labels is None or found.outputs.shape[1:] != gallery.shape[1:]:
            raise NoEvidence("it is unknown which predictions are right")
        return (labels[torch.cdist(found.outputs.float(), gallery.float()).argmin(1)] == val_labels).double()

    return ScoredModel(_BY_NEAREST, trained, right)


def _by_held(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> ScoredModel | None:
    """The same for losses without labels, such as that of triplets: by the samples that the data set returns for single
    indices, and the labels that it stores."""
    stored, val_labels = labeled_samples(evidence.setup.train), class_numbers(evidence.val_samples.y)
    if stored is None or val_labels is None or len(val_labels) != len(x):
        return None
    data, labels = evidence.setup.train.dataset, stored[1]  # type: ignore[attr-defined]
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:MOST]
    with same_random_state():
        drawn = [main_tensor(parts(data[number])[0]) for number in rows.tolist()]
    alike = [one for one in drawn if one is not None and one.shape == known.shape[1:]]
    if len(alike) < len(rows) or far_apart(known, torch.stack(alike)):
        return None

    def embedded(samples: torch.Tensor) -> torch.Tensor:
        batches = samples.to(known.dtype).split(AT_ONCE)
        return predict(evidence.setup, evidence.trial.replica, batches, directly=True).outputs.float()

    labels, places = labels[rows], embedded(torch.stack(alike))
    if places.ndim != 2:
        return None
    apart = torch.cdist(places, places).fill_diagonal_(math.inf)

    def right(change: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        embeddings = embedded(x[:MOST] if change is None else change(x[:MOST]))
        return (labels[torch.cdist(embeddings, places).argmin(1)] == val_labels[:MOST]).double()

    return ScoredModel(_BY_NEAREST, float((labels[apart.argmin(1)] == labels).double().mean()), right)


def _network(evidence: Evidence) -> ScoredModel | None:
    try:
        trained = float(_right(evidence.after).mean())
    except NoEvidence:
        return None
    known = evidence.after.quality
    chance, numbers = (known.common, known.kind == "numbers") if known is not None else (0.0, False)
    path = evidence.val_samples.x_path
    batches = some_batches(evidence.val)

    def right(change: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        changed = batches if change is None or path is None else [altered(batch, path, change) for batch in batches]
        return _right(evidence.predictions_of(evidence.trial, changed).in_unit_of(evidence.after))

    def gained(way: Correction) -> float:
        place, shown = evidence.samples.x_path, some_batches(evidence.train)
        if place is None:
            return 0.0
        changed = [shown, [altered(batch, place, way.undo) for batch in shown]]
        plain, fixed = (float(_right(evidence.predictions_of(evidence.trial, each)).mean()) for each in changed)
        return fixed - plain

    return ScoredModel("the trial's network", trained, right, gained, chance, numbers)


def some_batches(read: Batches) -> list[Any]:
    batches: list[Any] = []
    count = 0
    for batch, size in zip(read.raw, read.sizes, strict=True):
        if count < MOST:
            batches.append(batch)
            count += size
    return batches


def _right(predictions: Predictions) -> torch.Tensor:
    """The score of each prediction (N,): 1 or 0 for classes; for numbers, 1 less its error as a share of that of a
    constant prediction, from −1 to 1."""
    targets, outputs = predictions.targets, predictions.outputs
    known = quality(outputs, targets)
    if known is None or targets is None:
        raise NoEvidence("it is unknown which predictions are right")
    if known.kind == "classes" and targets.shape == outputs.shape:  # soft labels, as for blended samples
        return (outputs.argmax(1) == targets.argmax(1)).double()
    if known.accuracy is not None:
        predicted = predictions.predicted
        return (predicted == targets.reshape(predicted.shape).long()).double().reshape(len(predicted), -1).mean(1)
    if known.kind != "numbers" or outputs.numel() != targets.numel():
        raise NoEvidence("it is unknown which predictions are right")
    rows = targets.double().reshape(len(targets), -1)
    error = (outputs.double().reshape(len(outputs), -1) - rows).square().mean(1)
    return (1 - error / max(known.constant, 1e-12)).clamp(-1, 1).nan_to_num(-1)
