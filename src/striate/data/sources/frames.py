"""Folders of frames as clips, on request; and animated pictures as clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from posixpath import splitext

from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.media.clip.clip_files import SUFFIXES, av_library, frame_order, frames_in_bytes, read_clip_header
from striate.data.media.clip.clip_medium import Clips
from striate.data.media.every_medium import medium_of
from striate.errors import ConfigError, DataError
from striate.wording import listed, several

_LOOKED_AT = 5


def in_view(listing: Listing, config: DataConfig) -> Listing:
    """The listing in the view of `config`. Pictures become clips if a view of clips or a number of frames is requested,
    or if all are animated. Raises ConfigError for a view that the medium lacks, DataError for frames outside the folder
    of a clip."""
    requested = config.view in Clips.views or config.frames is not None
    if listing.kind == "image" and listing.read is not None and listing.annotation != "mask":
        if all(splitext(path)[1].lower() == ".gif" for path in listing.paths):
            if requested or _animated(listing):
                note = "The .gif files are animated: they are read as clips."
                listing = replace(listing, kind=Clips.views["rgb"], notes=(*listing.notes, note))
        elif requested:
            listing = _by_folder(listing)
    if listing.medium.folders and any(splitext(path)[1].lower() in SUFFIXES - {".gif"} for path in listing.paths):
        av_library()  # raises once for all clips, where it is missing
    views = listing.medium.views
    if config.view is None or not views:
        return listing
    if config.view not in views:
        expected = f"{listed(list(views), 9)}: {listing.source} has {listing.medium.many}"
        raise ConfigError("data.view", config.view, expected, f"--data.view {next(iter(views))}")
    return replace(listing, kind=views[config.view])


def _animated(listing: Listing) -> bool:
    assert listing.read is not None
    limit = DataConfig.max_pixels
    for number in range(min(_LOOKED_AT, len(listing))):
        try:
            return read_clip_header(listing.read(number), listing.paths[number], limit).frames > 1
        except (OSError, DataError):
            continue
    return False


def _by_folder(listing: Listing) -> Listing:
    """A sample for each folder of frames, with the label of its first frame."""
    folders: dict[str, list[int]] = {}
    for number, path in enumerate(listing.paths):
        folders.setdefault(str(PurePosixPath(path).parent), []).append(number)
    loose = [
        folder
        for folder in folders
        if listing.class_level and folder.count("/") < listing.class_level + any(listing.given)
    ]
    if loose or "." in folders:
        where = (loose or ["."])[0]
        raise DataError(
            f"data {listing.source}",
            f"{several(len(folders[where]), 'picture')} directly in {where}/, not in the folder of a clip",
            "a folder of frames for each clip, in the folder of its class: run/clip1/0001.png",
            "put the frames of each clip into a separate folder; for images that are not frames, leave out --data.view"
            " and --data.frames",
        )
    order = sorted(folders)
    frames = [
        sorted(folders[folder], key=lambda n: frame_order(PurePosixPath(listing.paths[n]).name)) for folder in order
    ]
    first, read, paths = listing.part([numbers[0] for numbers in frames]), listing.read, listing.paths
    place = {path: number for number, path in enumerate(paths)}
    assert read is not None

    def joined(number: int) -> bytes:
        return frames_in_bytes([paths[n] for n in frames[number]], lambda path: read(place[path]))

    note = f"Clips: {several(len(order), 'folder')} with {several(len(paths), 'frame')} in all."
    kind = medium_of(Clips.views["rgb"]).name
    return replace(first, kind=kind, paths=tuple(order), read=joined, notes=(*listing.notes, note))
