"""The metrics of a reconstruction, from the differences of its pixels, with values from 0 to 1, from the image's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.tasks.metric import Metric

MSE = Metric("mse", "mean squared error", higher_is_better=False)
PSNR = Metric("psnr", "PSNR", "dB")
SQUARED_ERROR = Metric("squared_error", "squared error of an image", higher_is_better=False)
METRICS = (MSE, PSNR, SQUARED_ERROR)

_BYTES = 1 << 26
"""Images are compared in chunks of about this number of bytes."""


def squared_errors(decoded: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) mean over pixels and channels of the squared difference of `decoded` (N, …), values 0 to 1, and `targets`
    (N, …) uint8, which have as many numbers."""
    errors = np.empty(len(targets))
    step = max(1, _BYTES // max(1, 8 * int(np.prod(targets.shape[1:]))))
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        truth = targets[part].reshape(len(targets[part]), -1).astype(np.float64) / 255
        errors[part] = ((np.asarray(decoded[part], np.float64).reshape(truth.shape) - truth) ** 2).mean(1)
    return errors


def psnr(mse: float) -> float | None:
    """The peak signal-to-noise ratio in decibels of images with values from 0 to 1, −10 · log10(mse); None for 0."""
    return -10 * float(np.log10(mse)) if mse > 0 else None
