"""Statistics of clips for `striate data check`: some frames of each clip are decoded.

Eight frames are scaled to 16 × 16 gray pixels. Their median over time is the scene; the differences of the frames from
it are the motion; both are divided by their length. Two clips of one source video have the same scene; only copies of a
clip also have the same motion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.near_pairs import near_pairs
from striate.data.listing import Listing
from striate.data.media.clip.clip_files import read_frames
from striate.data.media.clip.clip_medium import even_places
from striate.data.media.image.fitting import place_picture
from striate.data.scan import why_unreadable
from striate.data.threads import map_ordered
from striate.errors import DataError

_FRAMES, _SIDE = 8, 16
ALIKE, SAME_SCENE = 0.9, 0.97
"""Clips whose motions, and scenes, have at least these correlations are copies of one clip, and show one scene."""
_LENGTHS = 0.05
"""Largest relative difference between the lengths of two copies of a clip."""
_FLAT, _STILL = 6.0, 2.0
"""Standard deviations in levels below which a scene is too uniform to be compared, and below which nothing moves."""
MOST_COMPARED = 20_000
"""At most so many clips are compared, in all pairs."""

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class ClipStatistics:
    """Statistics of the N clips that could be decoded."""

    ids: NDArray[np.int64]
    """(N,) ids of the clips, in the order of the other arrays."""
    seconds: NDArray[np.float64]
    """(N,) duration."""
    motions: NDArray[np.float32]
    """(N, 2048), of length 1; 0 where nothing moves."""
    scenes: NDArray[np.float32]
    """(N, 256), of length 1; 0 where the scene is uniform."""
    unreadable: dict[int, str]
    """Why a clip cannot be read, by id."""

    def alike(self) -> Pairs:
        """Pairs of ids of the same clip."""
        with np.errstate(divide="ignore"):
            lengths = np.log(self.seconds)
        return [
            (int(self.ids[a]), int(self.ids[b]))
            for a, b in near_pairs(self.motions, ALIKE, MOST_COMPARED)
            if abs(lengths[a] - lengths[b]) <= _LENGTHS and self.scenes[a] @ self.scenes[b] >= SAME_SCENE
        ]

    def same_scene(self) -> Pairs:
        """Pairs of ids of clips of the same scene."""
        return [(int(self.ids[a]), int(self.ids[b])) for a, b in near_pairs(self.scenes, SAME_SCENE, MOST_COMPARED)]


def measure_clips(
    listing: Listing, ids: Sequence[int], max_pixels: int, progress: Callable[[int], None]
) -> ClipStatistics:
    """Decode frames of the clips `ids`, in threads, including the last of each. `progress` is called with 1 after each
    clip."""

    def one(number: int) -> tuple[float, NDArray[np.float32], NDArray[np.float32]] | str:
        assert listing.read is not None
        try:
            header, found = read_frames(
                listing.read(number),
                listing.paths[number],
                lambda header: [*even_places(header.frames, _FRAMES), header.frames - 1],
                max_pixels,
            )
        except (OSError, DataError) as error:
            return why_unreadable(error)
        chosen = even_places(header.frames, _FRAMES)
        small = np.stack([place_picture(found[k], (_SIDE, _SIDE), "stretch").mean(0) for k in chosen])
        scene = np.median(small, 0)
        return header.seconds, _trait(small - scene, _STILL), _trait(scene - scene.mean(), _FLAT)

    unreadable, known, measured = dict[int, str](), [], []
    for number, found in zip(ids, map_ordered(one, ids, chunk=1), strict=True):
        if isinstance(found, str):
            unreadable[number] = found
        else:
            known.append(number)
            measured.append(found)
        progress(1)
    shapes = (_FRAMES * _SIDE**2, _SIDE**2)
    motions, scenes = (
        np.stack([row[k] for row in measured]) if measured else np.zeros((0, size), np.float32)
        for k, size in enumerate(shapes, start=1)
    )
    return ClipStatistics(
        np.array(known, np.int64), np.array([row[0] for row in measured]), motions, scenes, unreadable
    )


def _trait(values: NDArray[np.float64], least: float) -> NDArray[np.float32]:
    flat = values.reshape(-1)
    length = float(np.linalg.norm(flat))
    known = flat / length if length > least * len(flat) ** 0.5 else 0 * flat
    return np.asarray(known, np.float32)
