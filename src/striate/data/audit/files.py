"""Files that cannot be read: damaged, cut off, empty, no pictures, too large; and files of a source that are not used:
hidden files, formats that are not read, and others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import SampleFinding, one_group_each, some
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.media.every_medium import is_sample
from striate.data.media.medium import REPLACE
from striate.data.sources.tree import is_hidden
from striate.errors import DataError
from striate.records import Finding, Remedy, option_remedy
from striate.wording import several


def find_unreadable(evidence: DataEvidence) -> SampleFinding | None:
    """`data.unreadable`: which files cannot be read, and why."""
    listing, unreadable = evidence.listing, evidence.unreadable
    if not unreadable:
        return None
    total = len(evidence.scan.contents) + len(evidence.scan.unreadable)
    ids = sorted(unreadable)
    named = [f"{listing.paths[number]} ({unreadable[number]})" for number in ids]
    finding = Finding(
        code="data.unreadable",
        severity="error",
        where=listing.source,
        measured=f"{len(named):,} of {several(total, 'file')} cannot be read: {some(named)}",
        threshold="0 files",
        why="Unreadable files are not in any split, so training does not use them.",
        remedy=_remedy(listing, unreadable),
    )
    return SampleFinding(finding, one_group_each(ids), dict(unreadable), frozenset(ids))


_TOO_LARGE = re.compile(r"= ([0-9,]+) pixels, more than the")


def larger_limit(unreadable: Mapping[int, str]) -> int | None:
    """The value of `data.max_pixels` that allows the largest of the refused pictures; None where none is too large."""
    found = [int(match[1].replace(",", "")) for why in unreadable.values() if (match := _TOO_LARGE.search(why))]
    return max(found, default=None)


def own_remedy(listing: Listing, number: int) -> str | None:
    """The remedy of the error that reading the header of a file raises, if it is more than to replace the file."""
    assert listing.read is not None, "arrays are readable"
    try:
        listing.medium.header(listing.read(number), listing.paths[number], max_pixels=DataConfig().max_pixels)
    except DataError as error:
        return None if error.remedy == REPLACE else error.remedy
    except OSError:
        pass
    return None


def _remedy(listing: Listing, unreadable: Mapping[int, str]) -> Remedy:
    limit = larger_limit(unreadable)
    if limit is None:
        own = own_remedy(listing, min(unreadable))
        matter = "replace the files that matter." if own is None else f"for those that matter: {own}."
        return Remedy(f"Training leaves them out; {matter}")
    damaged = not all(_TOO_LARGE.search(why) for why in unreadable.values())
    words = "Replace the damaged files that matter; to" if damaged else "To"
    return option_remedy("data.max_pixels", str(limit), f"{words} read pictures with so many pixels: ")


UNREAD = frozenset(
    (
        *(".svg", ".svgz", ".eps", ".ai", ".psd", ".xcf", ".tga", ".ico", ".icns", ".pdf"),
        *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
        *(".exr", ".hdr", ".jxl", ".jxr", ".dicom", ".fits", ".svs", ".ndpi", ".pcx", ".sgi", ".dds"),
        *(".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"),
    )
)
"""Suffixes (lower case) of pictures, volumes and clips whose formats are not read."""


def find_hidden(evidence: DataEvidence) -> SampleFinding | None:
    """`data.hidden`: hidden files, which are never read."""
    names = [name for name in evidence.listing.ignored if _hidden(name)]
    if not names:
        return None
    return SampleFinding(
        Finding(
            code="data.hidden",
            severity="note",
            where=evidence.listing.source,
            measured=f"{several(len(names), 'hidden file is', 'hidden files are')} not used: {some(names)}",
            threshold="0 files",
            why="Files whose names begin with a dot, and __MACOSX, are leftovers of systems and programs.",
            remedy="Nothing to do, unless some are samples: copy these under other names.",
        )
    )


def find_unread_formats(evidence: DataEvidence) -> SampleFinding | None:
    """`data.unsupported`: pictures and clips, by their suffix, of formats that are not read."""
    names = [name for name in evidence.listing.ignored if not _hidden(name) and _unread(name)]
    if not names:
        return None
    return SampleFinding(
        Finding(
            code="data.unsupported",
            severity="warning",
            where=evidence.listing.source,
            measured=f"{several(len(names), 'file has', 'files have')} an unsupported format: {some(names)}",
            threshold="0 files",
            why="Such files are not used. Supported: JPEG, PNG, GIF, BMP, TIFF, WebP, PPM, JPEG 2000 and AVIF.",
            remedy="Convert to PNG or JPEG.",
        )
    )


def find_misplaced(evidence: DataEvidence) -> SampleFinding | None:
    """`data.misplaced`: samples outside the folders that are searched; annotations without their samples."""
    texts = _labels_alone(evidence.listing)
    names = [name for name in evidence.listing.ignored if not _hidden(name) and is_sample(name)]
    if not names and not texts:
        return None
    measured = f"{several(len(names), 'sample is', 'samples are')} not in a folder of samples: {some(names)}"
    why = "A sample without a label is not used for training."
    remedy = "Copy each into the folder of its class, or list all samples in a manifest .csv (path,label)."
    if evidence.listing.has_masks:
        masks = [name for name in names if "masks" in name.split("/")]
        measured = f"{several(len(names), 'picture is', 'pictures are')} not used: {some(names)}"
        if len(masks) == len(names):
            measured = f"{several(len(masks), 'mask')} without an image of the same name in images/: {some(masks)}"
        why = "Training uses pairs of an image in images/ and a mask in masks/."
        remedy = "Add the missing images, or remove these files."
    if texts:
        alone = f"{several(len(texts), 'file')} of boxes without an image of the same name: {some(texts)}"
        measured = f"{measured}; {alone}" if names else alone
        why = "Training does not use these boxes."
        remedy = "Add the missing images, or remove these files."
    finding = Finding(
        code="data.misplaced",
        severity="warning",
        where=evidence.listing.source,
        measured=measured,
        threshold="0 files",
        why=why,
        remedy=remedy,
    )
    return SampleFinding(finding)


def find_ignored(evidence: DataEvidence) -> SampleFinding | None:
    """`data.ignored`: other files, or arrays, that are not used."""
    listing = evidence.listing
    arrays, alone = listing.inputs is not None, set(_labels_alone(listing))
    others = [name for name in listing.ignored if name not in alone and not _hidden(name)]
    names = [name for name in others if not _unread(name) and not is_sample(name)]
    if not names:
        return None
    finding = Finding(
        code="data.ignored",
        severity="note",
        where=listing.source,
        measured=f"{several(len(names), 'file or array is', 'files or arrays are')} not used: {some(names)}",
        threshold="0",
        why="Only inputs, targets, groups and class names are used."
        if arrays
        else "Only samples, known by their suffixes, and their annotations are used.",
        remedy="Nothing to do, unless the inputs or the targets are among them: save these as x and y."
        if arrays
        else "Nothing to do, unless some are samples: list these in a manifest .csv (path,label).",
    )
    return SampleFinding(finding)


def _labels_alone(listing: Listing) -> list[str]:
    """Files of boxes in labels/, as of YOLO, whose images are missing."""
    if not any(boxed.relative for boxed in listing.boxes):
        return []
    texts = [name for name in listing.ignored if name.endswith(".txt") and not _hidden(name)]
    return [name for name in texts if "labels" in name.split("/")[:-1]]


def _hidden(name: str) -> bool:
    return any(is_hidden(part) for part in name.split("/"))


def _unread(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in UNREAD
