"""The log-mel spectrogram of a waveform, in decibels, and the same in bytes.

A frame is `window` samples under a periodic Hann window; frames begin every `hop` samples, and only complete frames
count. The power spectrum of a frame, scaled so that a sine of amplitude 1 has power 1 (0 dB), is summed by triangles of
height 1. Their corners are at equal distances on the mel scale of O'Shaughnessy (1987), m = 2595 · log10(1 + f / 700),
from 0 to half the rate. The transform is SciPy's, whose bits do not depend on the number of threads as torch's do, and
which is faster than NumPy's. It is in double precision, which is exact to a thousandth of a decibel 100 dB below the
loudest value.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

BANDS = 64
QUIETEST = -100.0
"""Decibels of level 0; quieter values are clipped to it."""
LEVELS_A_DECIBEL = 2
"""255 is 27.5 dB, louder than any sound with amplitudes up to 1, which leaves room for a gain."""
_SHORTEST_WINDOW = 0.04  # seconds: the lowest bands are some 30 Hz wide
_HOP = 0.01  # seconds, twice that from so many frames on
_MANY_FRAMES = 300


def window_samples(rate: int) -> int:
    """The smallest power of two that lasts 40 ms or longer."""
    return 1 << (int(_SHORTEST_WINDOW * rate) - 1).bit_length()


def hop_samples(rate: int, samples: int) -> int:
    """10 ms, or 20 ms where that makes more than 300 frames."""
    hop = round(_HOP * rate)
    return hop if samples <= _MANY_FRAMES * hop else 2 * hop


def frame_count(samples: int, window: int, hop: int) -> int:
    """The number of complete frames."""
    return 0 if samples < window else 1 + (samples - window) // hop


def band_count(rate: int, window: int) -> int:
    """64, or a half or a quarter of that, where bands would be narrower than the resolution of the window."""
    bands = BANDS
    while bands > 1 and (mel_filters(rate, window, bands).sum(1) == 0).any():
        bands //= 2
    return bands


def band_centers(rate: int, bands: int) -> NDArray[np.float64]:
    """(bands,) the center of each band in hertz, in ascending order."""
    return _corners(rate, bands)[1:-1]


def _corners(rate: int, bands: int) -> NDArray[np.float64]:
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    corners: NDArray[np.float64] = 700 * (10 ** (mels / 2595) - 1)
    return corners


@cache
def mel_filters(rate: int, window: int, bands: int) -> Any:
    """(bands, window // 2 + 1), sparse: the weight of each frequency in each band."""
    from scipy.sparse import csr_array  # takes a tenth of a second to load

    low, middle, high = (_corners(rate, bands)[k : bands + k, None] for k in range(3))
    frequencies = np.arange(window // 2 + 1) * rate / window
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return csr_array(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


@cache
def hann_window(window: int) -> NDArray[np.float32]:
    """(window,) weights under which a sine of amplitude 1 has power 1."""
    values = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    scaled: NDArray[np.float32] = (values * 2 / values.sum()).astype(np.float32)
    return scaled


def log_mel(waveform: NDArray[np.float32], rate: int, window: int, hop: int, bands: int) -> NDArray[np.float32]:
    """(bands, frames) decibels of a waveform (samples,), the lowest band first."""
    from scipy.fft import rfft  # imported here, so that reading headers does not wait for it

    frames = np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]
    spectrum = rfft(np.multiply(frames, hann_window(window), dtype=np.float64), axis=1).astype(np.complex64)
    power = (spectrum.real**2 + spectrum.imag**2).T
    mel = mel_filters(rate, window, bands) @ np.ascontiguousarray(power, np.float32)
    decibels: NDArray[np.float32] = 10 * np.log10(np.maximum(mel, np.float32(10 ** (QUIETEST / 10))))
    return decibels


def as_levels(decibels: NDArray[Any]) -> NDArray[np.uint8]:
    """Decibels as bytes: half decibels above `QUIETEST`."""
    return np.rint((decibels - QUIETEST) * LEVELS_A_DECIBEL).clip(0, 255).astype(np.uint8)
