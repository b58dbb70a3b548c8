"""Typical mistakes of autoencoders that reconstructions show."""

from __future__ import annotations

import numpy as np

from striate.records import Finding
from striate.tasks.evaluation import Evaluation
from striate.tasks.reconstruct.metrics import squared_errors
from striate.wording import percent, several

FEWEST = 12
SAME = 0.02
"""Reconstructions with less than this share of the variance of the images are all the same image."""
RANGE = 0.1
"""Largest difference between the range of outputs and that of the images."""
_OF_ZERO, _OF_TANH = 0.4999, (0.2689, 0.7311)
"""The sigmoid of 0, the smallest pixel after relu or sigmoid; and of −1 and 1, the range of pixels after tanh."""


def reconstruction_findings(evaluation: Evaluation) -> tuple[Finding, ...]:
    """Findings on the reconstructions of a split."""
    if evaluation.n < FEWEST:
        return ()
    found = (_same_image(evaluation), _range_not_reached(evaluation), _no_better_than_mean(evaluation))
    return tuple(finding for finding in found if finding is not None)[:1]


def _variance(images: np.ndarray) -> float:
    return float(images.reshape(len(images), -1).var(0).mean())


def _some(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Images and reconstructions of at most 1,000 samples, as numbers from 0 to 1."""
    rows = np.linspace(0, evaluation.n - 1, min(evaluation.n, 1_000)).astype(int)
    return evaluation.targets[rows].astype(np.float64) / 255, np.asarray(evaluation.decoded[rows], np.float64)


def _same_image(evaluation: Evaluation) -> Finding | None:
    """`fit.same-image`: all reconstructions are the same image."""
    images, made = _some(evaluation)
    whole, own = _variance(images), _variance(made)
    if whole == 0 or own >= SAME * whole:
        return None
    return Finding(
        code="fit.same-image",
        severity="warning",
        where=f"{evaluation.split} split",
        measured=f"the reconstructions vary by {percent(own / whole)} of the variance of the images",
        threshold=f"at least {percent(SAME)}",
        why="The network outputs about the same image, the mean of all, for every input: the code carries no "
        "information. Its units are dead or saturated, or the learning rate is too low or too high.",
        remedy="Train for longer. If that does not help: another learning rate (--lr; for a network trained by "
        "gradients, striate lr-find finds one), or leaky in place of relu.",
    )


def _range_not_reached(evaluation: Evaluation) -> Finding | None:
    """`fit.output-range`: outputs cannot be as dark or as bright as the images."""
    images, made = _some(evaluation)
    low, high = np.quantile(images, (0.001, 0.999))
    least, most = float(made.min()), float(made.max())
    cut_off = least >= _OF_ZERO or (least >= _OF_TANH[0] and most <= _OF_TANH[1])
    if not cut_off or (least - low <= RANGE and high - most <= RANGE):
        return None
    return Finding(
        code="fit.output-range",
        severity="warning",
        where=f"{evaluation.split} split",
        measured=f"reconstructions from {least:.2f} to {most:.2f}",
        threshold=f"the range of the images, {low:.2f} to {high:.2f}",
        why="The reconstructions do not reach the darkest or brightest values of the images. With binary cross-entropy "
        "the task applies a sigmoid to the outputs: a relu, sigmoid or tanh at the end of the network limits them.",
        remedy="End the network with a layer with weights, without an activation after it.",
    )


def _no_better_than_mean(evaluation: Evaluation) -> Finding | None:
    """`fit.no-better-than-mean`: the error is at least that of always predicting the mean image."""
    images, made = _some(evaluation)
    own = float(squared_errors(made, (255 * images).round().astype(np.uint8)).mean())
    mean = _variance(images)
    if mean == 0 or own < mean:
        return None
    return Finding(
        code="fit.no-better-than-mean",
        severity="warning",
        where=f"{evaluation.split} split",
        measured=f"a mean squared error of {own:.4g}",
        threshold=f"{mean:.4g}, the error of the mean image",
        why=f"On {several(evaluation.n, 'image')} the reconstructions are no better than one image for all: the scale "
        "of the outputs is wrong, or nothing was learned.",
        remedy="The network must output values from 0 to 1 for --task.loss squared, logits for binary-cross-entropy; "
        "or train for longer.",
    )
