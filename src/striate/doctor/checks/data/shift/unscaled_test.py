"""Test data beside validation whose inputs have another scale than those of training and validation."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import torch
from torch.utils.data import DataLoader

from striate.doctor.checks.data.shift.input_statistics import MOST, far_apart, scaled_apart, statistics_of
from striate.doctor.evidence.clock import OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.quality import Quality, quality
from striate.doctor.setup.batch import main_tensor, parts
from striate.models.preserved_state import same_random_state

WORSE = 2.0
"""How many times lower the loss is once test inputs have the scale of training."""
_TEST = re.compile("test|tst|holdout", re.IGNORECASE)


def unscaled_test(evidence: Evidence, known: torch.Tensor) -> str:
    """The measured difference if a loader that is named for testing has inputs of several times the deviation of
    training, unlike validation, and the trial's network has a far lower loss for them in the scale of training; else
    empty."""
    source, others = evidence.setup.source, (evidence.setup.train, evidence.setup.val)
    if source is None or not known.is_floating_point() or far_apart(known, evidence.val_samples.inputs):
        return ""
    for name, loader in list(source.outer_names.items()):
        if not isinstance(loader, DataLoader) or not _TEST.search(name) or any(loader is other for other in others):
            continue
        x, y = _first_batch(loader)
        if x is None or y is None or x.shape[1:] != known.shape[1:] or not scaled_apart(known, x):
            continue
        rescaled = (x - x.mean()) / x.std() * known.std() + known.mean()
        own, other = (_quality(evidence, inputs, y) for inputs in (x, rescaled))
        if own is not None and other is not None and own.loss > WORSE * other.loss and not other.guesses:
            return (
                f"training: {statistics_of(known)}; `{name}`: {statistics_of(x)}; the loss of the trial's network for "
                f"a batch of `{name}` is {own.loss:.3g}, and {other.loss:.3g} in the scale of training, which "
                "validation has"
            )
    return ""


def _first_batch(loader: DataLoader[Any]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The inputs and class numbers of the first batch; None where it has none."""
    with same_random_state(), suppress(Exception):  # the user's data set
        x, y = (main_tensor(part) for part in parts(next(iter(loader))))
        if x is not None and x.is_floating_point() and y is not None and not y.is_floating_point() and y.ndim == 1:
            return x[:MOST], y[:MOST]
    return None, None


def _quality(evidence: Evidence, x: torch.Tensor, y: torch.Tensor) -> Quality | None:
    """The quality of what the trial's network predicts; None where it cannot be told."""
    try:
        return quality(predict(evidence.setup, evidence.trial.replica, [x], directly=True).outputs, y)
    except OutOfTime:
        raise
    except Exception:  # the user's network
        return None
