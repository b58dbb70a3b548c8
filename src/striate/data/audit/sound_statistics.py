"""Statistics of sounds for `striate data check`: each sound is decoded completely.

The traits of a sound are its log-mel spectrogram on 32 bands × 32 intervals of time, minus the mean of each band and of
each interval, divided by its length. They say when which pitch is louder than usual. A gain adds a constant, which
cancels; two recordings of steady rain are not similar. Traits of sounds at different rates are computed at the same
rate, since the bands end at half of it: 1,000 Hz times the largest power of two that neither falls short of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.near_pairs import near_pairs
from striate.data.listing import Listing
from striate.data.media.audio.log_mel import log_mel, window_samples
from striate.data.media.audio.sound_files import LOWEST_RATE, SoundHeader, Waveform, libraries, read_waveform
from striate.data.scan import why_unreadable
from striate.data.threads import map_ordered
from striate.errors import DataError

_SIDE = 32
_RANGE = 60.0
"""Decibels below the loudest value that are compared: quieter values are noise of the encoding."""
ALIKE = 0.95
"""Sounds whose traits have at least this correlation are the same recording."""
_LENGTHS = 0.02
"""Largest relative difference between the lengths of two copies of a recording."""
MOST_COMPARED = 20_000
"""At most so many sounds are compared, in all pairs."""
_FULL = 0.999


@dataclass(frozen=True)
class SoundStatistics:
    """Statistics of the N sounds that could be decoded."""

    ids: NDArray[np.int64]
    """(N,) ids of the sounds, in the order of the other arrays."""
    peaks: NDArray[np.float64]
    """(N,) largest amplitude, 0 to 1."""
    clipped: NDArray[np.float64]
    """(N,) share of samples at full amplitude, three or more in a row."""
    seconds: NDArray[np.float64]
    """(N,) duration."""
    rates: NDArray[np.int64]
    """(N,) the highest rate at which the sound is compared."""
    traits: Mapping[int, NDArray[np.float32]]
    """(N, 1024) for each of these rates: of length 1; 0 where a sound has a lower rate, is too short or does not
    change."""
    unreadable: dict[int, str]
    """Why a sound cannot be read, by id."""

    def alike(self) -> list[tuple[int, int]]:
        """Pairs of ids of the same recording."""
        return [
            (int(self.ids[a]), int(self.ids[b]))
            for rate, traits in self.traits.items()
            for a, b in near_pairs(traits, ALIKE, MOST_COMPARED)
            if min(self.rates[a], self.rates[b]) == rate and abs(np.log(self.seconds[a] / self.seconds[b])) <= _LENGTHS
        ]


def measure_sounds(
    listing: Listing, ids: Sequence[int], headers: Mapping[int, SoundHeader], progress: Callable[[int], None]
) -> SoundStatistics:
    """Decode the sounds `ids`, in threads. `progress` is called with 1 after each."""
    highest = {number: LOWEST_RATE << (headers[number].rate // LOWEST_RATE).bit_length() - 1 for number in ids}
    rates = sorted(set(highest.values()))

    def one(number: int) -> tuple[float, float, float, int, NDArray[np.float32]] | str:
        assert listing.read is not None
        header = headers[number]
        try:
            waveform = read_waveform(listing.read(number), listing.paths[number], header.rate, header.frames)
        except (OSError, DataError) as error:
            return why_unreadable(error)
        traits = np.zeros((len(rates), _SIDE**2), np.float32)
        for place, rate in enumerate(rates):
            if rate <= highest[number]:
                traits[place] = sound_traits(libraries()[1].resample(waveform, header.rate, rate), rate)
        full = np.abs(waveform) >= _FULL
        clipped = (full[2:] & full[1:-1] & full[:-2]).mean() if len(full) > 2 else 0.0
        return float(np.abs(waveform).max()), float(clipped), header.seconds, highest[number], traits

    unreadable, measured, known = dict[int, str](), [], []
    for number, found in zip(ids, map_ordered(one, ids), strict=True):
        if isinstance(found, str):
            unreadable[number] = found
        else:
            known.append(number)
            measured.append(found)
        progress(1)
    peaks, clipped, seconds = (np.array([row[k] for row in measured], np.float64) for k in range(3))
    compared = np.array([row[3] for row in measured], np.int64)
    traits = {rate: np.stack([row[4][place] for row in measured]) for place, rate in enumerate(rates) if measured}
    return SoundStatistics(np.array(known, np.int64), peaks, clipped, seconds, compared, traits, unreadable)


def sound_traits(waveform: Waveform, rate: int) -> NDArray[np.float32]:
    """(1024,) traits of length 1, the same at any gain and constant offset; zeros where the sound is too short, or does
    not change."""
    window = window_samples(rate)
    if len(waveform) < 2 * window:
        return np.zeros(_SIDE**2, np.float32)
    waveform = waveform - waveform.mean()  # a recorder's constant offset would be the loudest band
    hop = max(1, min(window, (len(waveform) - window) // _SIDE))
    decibels = log_mel(waveform, rate, window, hop, _SIDE)
    decibels = np.maximum(decibels, decibels.max() - _RANGE)
    ends = np.linspace(0, decibels.shape[1], _SIDE + 1).astype(int)
    map_ = np.stack([decibels[:, a : max(a + 1, b)].mean(1) for a, b in pairwise(ends.tolist())], 1)
    map_ = map_ - map_.mean(0) - map_.mean(1, keepdims=True) + map_.mean()
    length = float(np.linalg.norm(map_))
    known: NDArray[np.float32] = (map_ / length if length > _SIDE / 10 else 0 * map_).reshape(-1).astype(np.float32)
    return known
