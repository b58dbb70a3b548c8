"""Functions that several checks of data share: both splits, pictures of samples, scores of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import channels_first
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.read_batches import Batches
from striate.doctor.evidence.samples import Samples

WORDS = {"train": "training", "val": "validation"}


def are_tokens(evidence: Evidence, labels: torch.Tensor) -> bool:
    """Whether each position of a sequence of integers has a class."""
    x = evidence.samples.x
    return x is not None and not x.is_floating_point() and x.ndim == 2 and x.numel() == len(labels) > len(x)


def both_parts(evidence: Evidence) -> Iterator[tuple[Samples, Batches]]:
    """Training data; then validation data, if they exist and there is time to read them."""
    yield evidence.samples, evidence.train
    try:
        yield evidence.val_samples, evidence.val
    except OutOfTime:
        raise
    except NoEvidence:
        return


def deviation_of(x: torch.Tensor) -> torch.Tensor:
    """The standard deviation of the values of each sample (N, …)."""
    return x.double().flatten(1).std(1, correction=0)


def score(predictions: Predictions) -> float | None:
    """The quality of predictions: the accuracy of classes, else the share by which their loss is below that of a
    constant prediction (0 for a constant one, 1 for perfect ones). None where unknown."""
    if not bool(torch.isfinite(predictions.outputs).all()):
        return 0.0
    known = predictions.quality
    if known is None:
        return None
    if known.accuracy is not None:
        return known.accuracy
    return max(0.0, 1 - known.loss / known.constant) if known.constant > 0 else None


def picture_of(title: str, samples: list[torch.Tensor], labels: list[str]) -> Picture | None:
    """Images side by side, each scaled to its own minimum and maximum; None if samples are not images."""
    images = [_levels(sample) for sample in samples]
    if not images or any(image is None for image in images):
        return None
    return Picture("images", title, labels=tuple(labels), images=tuple(images))


def _levels(sample: torch.Tensor) -> Any:
    image = sample.detach().double()
    if image.ndim == 3:
        image = channels_first(image[None])[0]
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or min(image.shape[1:]) < 4 or max(image.shape[1:]) > 512:
        return None
    image = torch.nan_to_num(image if len(image) == 3 else image[:1], 0.0, 0.0, 0.0)
    low, high = image.min(), image.max()
    return ((image - low) / (high - low).clamp_min(1e-12) * 255).round().tolist()
