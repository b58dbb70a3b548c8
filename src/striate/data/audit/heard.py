"""The second look at sounds: every one is decoded whole, and a few numbers of it are kept.

What a sound is known by: its log-mel spectrogram on 32 bands × 32 stretches of time, without the mean of each band and
of each stretch, divided by its length. What is left is when which pitch is louder than usual: a gain adds the same
everywhere, and two recordings of steady rain have nothing in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.near_pairs import near_pairs
from striate.data.listing import Listing
from striate.data.media.audio.log_mel import log_mel, window_samples
from striate.data.media.audio.sound_files import Waveform, read_header, read_waveform
from striate.data.scan import why_unreadable
from striate.data.threads import map_ordered
from striate.errors import DataError

_SIDE = 32
_RANGE = 60.0
"""Decibels below the loudest that are compared: what is quieter is noise of the encoding."""
ALIKE = 0.95
"""Correlation from which on two sounds are the same recording."""
_LENGTHS = 0.02
"""By how much their lengths may differ, relatively."""
MOST_COMPARED = 20_000
"""Sounds that are compared, all pairs of them."""
_FULL = 0.999


@dataclass(frozen=True)
class Heard:
    """Of each sound that was decoded, by its place in `ids`: `peaks`, the largest amplitude; `clipped`, the share of
    samples that are as loud as can be, three or more in a row; `seconds`; `traits` (N, 1024), what it is known by, 0
    where there is nothing. `unreadable`: reasons by id."""

    ids: NDArray[np.int64]
    peaks: NDArray[np.float64]
    clipped: NDArray[np.float64]
    seconds: NDArray[np.float64]
    traits: NDArray[np.float32]
    unreadable: dict[int, str]

    def alike(self) -> list[tuple[int, int]]:
        """Pairs of ids of the same recording."""
        return [
            (int(self.ids[a]), int(self.ids[b]))
            for a, b in near_pairs(self.traits, ALIKE, MOST_COMPARED)
            if abs(np.log(self.seconds[a] / self.seconds[b])) <= _LENGTHS
        ]


def hear(listing: Listing, ids: Sequence[int], progress: Callable[[int], None]) -> Heard:
    """Decode the sounds `ids`, in threads."""

    def one(number: int) -> tuple[float, float, float, NDArray[np.float32]] | str:
        assert listing.read is not None
        try:
            data, where = listing.read(number), listing.paths[number]
            header = read_header(data, where)
            waveform = read_waveform(data, where, header.rate, header.frames)
        except (OSError, DataError) as error:
            return why_unreadable(error)
        full = np.abs(waveform) >= _FULL
        clipped = (full[2:] & full[1:-1] & full[:-2]).mean() if len(full) > 2 else 0.0
        return float(np.abs(waveform).max()), float(clipped), header.seconds, traits(waveform, header.rate)

    unreadable, heard, known = dict[int, str](), [], []
    for number, found in zip(ids, map_ordered(one, ids), strict=True):
        if isinstance(found, str):
            unreadable[number] = found
        else:
            known.append(number)
            heard.append(found)
        progress(1)
    peaks, clipped, seconds = (np.array([row[k] for row in heard], np.float64) for k in range(3))
    rows = np.stack([row[3] for row in heard]) if heard else np.zeros((0, _SIDE**2), np.float32)
    return Heard(np.array(known, np.int64), peaks, clipped, seconds, rows, unreadable)


def traits(waveform: Waveform, rate: int) -> NDArray[np.float32]:
    """(1024,) of length 1, the same at any gain and constant offset; zeros where the sound is too short, or changes in
    nothing."""
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
