"""What a file makes of frames, waveforms and voxels is what the program makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.exporting.given import Samples, given_of, middle

RNG = np.random.default_rng(0)


def _both(preparation: Preparation, samples: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """For each size the inputs of the file, and those of the program."""
    given, medium = given_of(preparation, whole=False), medium_of(preparation.kind)
    assert given is not None
    return [
        (
            given.prepared(torch.from_numpy(batch))[0].numpy(),
            np.stack([medium.from_given(one, preparation) for one in batch]),
        )
        for _, batch in given.cases(list(samples))
    ]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_frames_are_chosen_and_resized_to_the_same_bytes(fit: Any) -> None:
    preparation = Preparation("rgb-clip", (3, 4, 12, 16), fit)
    for found, right in _both(preparation, RNG.integers(0, 256, (2, 4, 12, 16, 3), np.uint8)):
        assert np.array_equal(found, right)


def test_of_a_waveform_of_any_length_the_middle_is_taken() -> None:
    preparation = Preparation("waveform", (1, 401), rate=8000, samples=401, window=256, hop=80)
    for found, right in _both(preparation, RNG.normal(0, 0.1, (2, 401)).astype(np.float32)):
        assert np.array_equal(found, right)


def test_levels_of_spectrograms_differ_by_rounding_alone() -> None:
    preparation = Preparation("spectrogram", (1, 32, 94), rate=8000, samples=8000, window=512, hop=80)
    time = np.arange(8000) / 8000
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 1500 * time) * time)
    for found, right in _both(preparation, np.stack([sweep, RNG.normal(0, 0.01, 8000)]).astype(np.float32)):
        assert abs(found - right).max() <= 1
        assert (found != right).mean() < 0.002


@pytest.mark.parametrize(
    "how",
    [{"intensity": "as-is"}, {"intensity": "z-score"}, {"intensity": "percentile"}, {"limits": (-0.5, 1.5)}],
    ids=str,
)
def test_volumes_of_any_size_are_scaled_and_laid_into_the_grid(how: Any) -> None:
    preparation = Preparation("volume", (2, 8, 16, 8), **{"intensity": "window", **how})
    volumes = RNG.normal(1, 3, (2, 2, 8, 16, 8)).astype(np.float32) * (RNG.random((2, 2, 8, 16, 8)) < 0.7)
    for found, right in _both(preparation, volumes.astype(np.float32)):
        assert found == pytest.approx(right, abs=2e-6)


def test_a_volume_of_one_value_has_no_spread_to_divide_by() -> None:
    preparation = Preparation("volume", (1, 8, 8, 8), intensity="z-score")
    for value in (0.0, 5.0):
        ((found, right), *_) = _both(preparation, np.full((1, 1, 8, 8, 8), value, np.float32))
        assert np.array_equal(found, right)


@pytest.mark.parametrize("have", [1, 4, 5, 6, 9])
def test_the_middle_of_an_axis_is_that_of_numpy(have: int) -> None:
    from striate.data.media.audio.sound_files import centered

    wave = np.arange(1, have + 1, dtype=np.float32)
    assert np.array_equal(middle(torch.from_numpy(wave)[None], 1, 5)[0].numpy(), centered(wave, 5))


def test_pictures_and_numbers_have_no_form_of_their_own() -> None:
    assert given_of(Preparation("image", (3, 8, 8)), whole=False) is None
    assert Samples.name == "waveform"
