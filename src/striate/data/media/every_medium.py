"""The list of all media; free of torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

from striate.data.media.medium import Medium, suffix_of
from striate.loading import object_at

MEDIA: dict[str, str] = {
    "image": "striate.data.media.image.image_medium:Images",
    "raster": "striate.data.media.image.raster_medium:Rasters",
    "spectrogram": "striate.data.media.audio.sound_medium:Spectrograms",
    "waveform": "striate.data.media.audio.sound_medium:Waveforms",
    "rgb-clip": "striate.data.media.clip.clip_medium:ColorClips",
    "flow-clip": "striate.data.media.clip.clip_medium:FlowClips",
    "two-stream-clip": "striate.data.media.clip.clip_medium:TwoStreamClips",
    "volume": "striate.data.media.volume.volume_medium:Volumes",
    "grid": "striate.data.media.numeric:Grids",
    "table": "striate.data.media.numeric:Tables",
}
"""Module and class by name. Media in files come before media in arrays."""


PICTURE = "image"
"""The medium of ordinary pictures: bytes in one or three channels."""


def kind_of_shape(shape: tuple[int, ...]) -> str:
    """The medium of inputs with this shape, where nothing else decides it."""
    if len(shape) == 3 and shape[0] in (1, 3):
        return PICTURE
    return "grid" if len(shape) > 1 else "table"


@cache
def medium_of(kind: str) -> Medium:
    """The medium of this name: `Dataset.kind`, `Listing.kind` or `Preparation.kind`."""
    found: Medium = object_at(MEDIA[kind])()
    return found


def all_media() -> tuple[Medium, ...]:
    """Every medium, in the order of the list."""
    return tuple(map(medium_of, MEDIA))


def medium_of_file(path: str) -> Medium | None:
    """The medium whose files have the suffix of this one; None where none has."""
    return next((medium for medium in all_media() if medium.owns(path)), None)


def is_sample(path: str) -> bool:
    """Whether the file has the suffix of any medium."""
    return medium_of_file(path) is not None


def medium_of_files(paths: Iterable[str]) -> Medium:
    """The medium of most of the files; the first of the list where suffixes do not decide."""
    counts = Counter(map(suffix_of, paths))
    return max(all_media(), key=lambda medium: sum(counts[suffix] for suffix in medium.suffixes))
