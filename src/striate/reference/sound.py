"""Inputs from sound: waveforms of a fixed length, and the log-mel spectrogram, frame by frame."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import Array, array, number, whole
from striate.wording import several


def _one_channel(waveform: ArrayLike) -> Array:
    x = array(waveform, "waveform")
    if x.ndim != 1:
        raise ShapeError("waveform", f"shape {x.shape}", "(samples,), one channel", "waveform.mean(0)")
    return x


def fit_waveform(waveform: ArrayLike, samples: int) -> Array:
    """A waveform (samples,): the middle of a longer one, or a shorter one with silence before and after it.
    Raises ShapeError, UsageError."""
    x, samples = _one_channel(waveform), whole(samples, "samples", 0)
    start = (len(x) - samples) // 2 if len(x) >= samples else -((samples - len(x)) // 2)
    return np.array([x[start + k] if 0 <= start + k < len(x) else 0.0 for k in range(samples)])


def mel(hertz: float) -> float:
    """The mel scale: m = 2595 · log10(1 + f / 700) (O'Shaughnessy, "Speech communication", 1987)."""
    return 2595 * math.log10(1 + hertz / 700)


def log_mel(
    waveform: ArrayLike, rate: float, window: int, hop: int, bands: int = 64, quietest: float = -100.0
) -> Array:
    """The log-mel spectrogram (bands, frames) in decibels, the lowest band first; a sine of amplitude 1 has 0 dB.

    Each complete frame of `window` samples, one every `hop` samples, is multiplied by a periodic Hann window and
    transformed. The power of a band is the sum over frequencies with triangular weights of height 1, which reach from
    the center of the band below to that of the band above. Centers have equal distances in mel from 0 to half the
    `rate` (samples per second). Raises ShapeError, and UsageError where there is no complete frame.
    """
    x, rate, quietest = _one_channel(waveform), number(rate, "rate", above=0), number(quietest, "quietest")
    window, hop, bands = whole(window, "window"), whole(hop, "hop"), whole(bands, "bands")
    if len(x) < window:
        raise UsageError(
            "waveform", several(len(x), "sample"), f"at least the {window} of a window", "window=len(waveform)"
        )
    times = np.arange(window)
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * t / window) for t in times])
    corners = [mel(rate / 2) * k / (bands + 1) for k in range(bands + 2)]
    edges = [700 * (10 ** (m / 2595) - 1) for m in corners]
    columns = []
    for start in range(0, len(x) - window + 1, hop):
        frame = x[start : start + window] * hann
        sums = [0.0] * bands
        for k in range(window // 2 + 1):
            frequency = k * rate / window
            inside = [b for b in range(bands) if edges[b] < frequency < edges[b + 2]]
            if not inside:
                continue
            wave = (frame * np.exp(-2j * math.pi * k * times / window)).sum()
            power = (2 * abs(wave) / hann.sum()) ** 2
            for b in inside:
                up = (frequency - edges[b]) / (edges[b + 1] - edges[b])
                down = (edges[b + 2] - frequency) / (edges[b + 2] - edges[b + 1])
                sums[b] += min(up, down) * power
        columns.append([10 * math.log10(max(power, 10 ** (quietest / 10))) for power in sums])
    return np.array(columns).T
