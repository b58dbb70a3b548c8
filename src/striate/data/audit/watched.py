"""The second look at clips: some frames of every one are decoded, and a few numbers of them are kept.

Of eight frames of 16×16 gray pixels, the median over time is the scene that a clip shows, and what is left of each
frame without it is what moves; each is divided by its length. Two clips of one source video have the same background,
whatever moves; only the same clip moves in the same way.
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
from striate.data.media.image.fitting import place
from striate.data.scan import why_unreadable
from striate.data.threads import map_ordered
from striate.errors import DataError

_FRAMES, _SIDE = 8, 16
ALIKE, SAME_SCENE = 0.9, 0.97
"""Correlations of what moves, from which on two clips of one scene are the same, encoded anew, and of the scenes, from
which on these are one."""
_LENGTHS = 0.05
"""By how much the lengths of the same clip may differ, relatively."""
_FLAT, _STILL = 6.0, 2.0
"""Levels of standard deviation below which a scene has nothing to be known by, and below which nothing moves."""
MOST_COMPARED = 20_000
"""Clips that are compared, all pairs of them."""

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Watched:
    """Of each clip that was decoded, by its place in `ids`: its `seconds`; what it is known by, `motions` (N, 2048) and
    `scenes` (N, 256), of length 1, or 0 where there is nothing. `unreadable`: reasons by id."""

    ids: NDArray[np.int64]
    seconds: NDArray[np.float64]
    motions: NDArray[np.float32]
    scenes: NDArray[np.float32]
    unreadable: dict[int, str]

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


def watch(listing: Listing, ids: Sequence[int], max_pixels: int, progress: Callable[[int], None]) -> Watched:
    """Decode frames of the clips `ids`, in threads, the last of each among them."""

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
        small = np.stack([place(found[k], (_SIDE, _SIDE), "stretch").mean(0) for k in chosen])
        scene = np.median(small, 0)
        return header.seconds, _trait(small - scene, _STILL), _trait(scene - scene.mean(), _FLAT)

    unreadable, known, seen = dict[int, str](), [], []
    for number, found in zip(ids, map_ordered(one, ids, chunk=1), strict=True):
        if isinstance(found, str):
            unreadable[number] = found
        else:
            known.append(number)
            seen.append(found)
        progress(1)
    shapes = (_FRAMES * _SIDE**2, _SIDE**2)
    motions, scenes = (
        np.stack([row[k] for row in seen]) if seen else np.zeros((0, size), np.float32)
        for k, size in enumerate(shapes, start=1)
    )
    return Watched(np.array(known, np.int64), np.array([row[0] for row in seen]), motions, scenes, unreadable)


def _trait(values: NDArray[np.float64], least: float) -> NDArray[np.float32]:
    flat = values.reshape(-1)
    length = float(np.linalg.norm(flat))
    known = flat / length if length > least * len(flat) ** 0.5 else 0 * flat
    return np.asarray(known, np.float32)
