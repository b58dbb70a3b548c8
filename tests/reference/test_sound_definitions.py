"""What files and spectrograms are made of agrees with the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from striate.data.media.audio.log_mel import band_count, hop_samples, log_mel, mel_filters, window_samples
from striate.data.media.audio.sound_files import centered
from striate.errors import UsageError
from striate.reference import fit_waveform
from striate.reference import log_mel as defined


def test_spectrograms_agree_with_the_definition() -> None:
    rng = np.random.default_rng(0)
    rate, window, hop, bands = 8000, 256, 80, 20
    for x in (rng.normal(scale=0.1, size=500), np.zeros(300), np.sin(np.arange(400)) * 3):
        waveform = x.astype(np.float32)
        found, true = log_mel(waveform, rate, window, hop, bands), defined(waveform, rate, window, hop, bands)
        assert found.shape == true.shape == (bands, 1 + (len(x) - window) // hop)
        assert np.abs(found - true).max() < 1e-3


def test_a_sine_of_amplitude_one_has_about_no_decibels_in_its_band() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(1024) / 8000)
    column = defined(sine, 8000, 512, 512, 64)[:, 0]
    assert -2 < column.max() < 2
    assert column.argmax() == 29  # of 64 bands up to 4 kHz the one around 1 kHz
    with pytest.raises(UsageError, match="at least the 512"):
        defined(sine[:100], 8000, 512, 512)


@pytest.mark.parametrize(("length", "samples"), [(7, 4), (8, 3), (3, 8), (4, 9), (5, 5)])
def test_waveforms_are_cut_and_padded_as_defined(length: int, samples: int) -> None:
    x = np.arange(1, length + 1).astype(np.float32)
    assert centered(x, samples).tolist() == fit_waveform(x, samples).tolist()


@pytest.mark.parametrize("rate", [1000, 8000, 16000, 22050, 24000, 48000])
def test_every_band_hears_something(rate: int) -> None:
    window = window_samples(rate)
    assert (mel_filters(rate, window, band_count(rate, window)).sum(1) > 0).all()
    assert hop_samples(rate, rate) == rate // 100
    assert hop_samples(rate, 10 * rate) == 2 * round(rate / 100)
