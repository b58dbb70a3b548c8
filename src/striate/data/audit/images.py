"""Findings about images: blank ones, several modes (gray, color, transparent, 16 bits, CMYK), rotation by EXIF, sizes
far from the others, and suffixes of another format.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from striate.data.audit.alike import EVEN
from striate.data.audit.evidence import DataEvidence, blank_samples
from striate.data.audit.sample_finding import SampleFinding, one_group_each, some
from striate.records import Finding
from striate.wording import listed, several, several_of


def find_even_images(evidence: DataEvidence) -> SampleFinding | None:
    """`data.constant-images`: images whose standard deviation is below two levels, on 64 × 64 pixels at most."""
    statistics = evidence.image_statistics
    if statistics is None:
        return None
    ids = [number for number in evidence.readable if statistics.deviations[number] < EVEN]
    are, threshold = "are blank, in one uniform color", f"a standard deviation of {EVEN:g} of 255 levels"
    return blank_samples(evidence, "data.constant-images", ids, "image", are, threshold, "blank")


_WORDS = {
    **{"RGB": "color", "RGBX": "color", "L": "gray", "1": "black and white", "P": "palette", "PA": "palette"},
    **{"RGBA": "transparent", "RGBa": "transparent", "LA": "transparent gray", "La": "transparent gray"},
    **{"CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "LAB", "HSV": "HSV", "I": "32-bit gray", "F": "floating-point"},
}


def find_mixed_modes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mixed-modes`: pictures that are not in the commonest mode of the set."""
    if evidence.image_statistics is None or not evidence.image_statistics.files:
        return None
    files = evidence.image_statistics.files
    words = {
        i: _WORDS.get(files[i].mode, "16-bit gray" if files[i].mode.startswith("I;") else files[i].mode)
        for i in evidence.readable
    }
    counts = Counter(words.values())
    if len(counts) < 2:
        return None
    usual = counts.most_common(1)[0][0]
    ids = [i for i in evidence.readable if words[i] != usual]
    found = listed([f"{count:,} {word}" for word, count in counts.most_common()], 6)
    first = ids[0]
    finding = Finding(
        code="data.mixed-modes",
        severity="note",
        where=evidence.listing.source,
        measured=f"pictures in {several(len(counts), 'mode')}: {found}; the first that is not {usual} is "
        f"{evidence.named(first)}",
        threshold="one mode",
        why="If any picture has color, all become RGB: alpha is composited on white, gray is repeated, CMYK is "
        "converted without a profile. The network can recognize a class by its mode if no other class has that mode.",
        remedy="Convert them to one mode if classes differ in their modes.",
    )
    return SampleFinding(finding, one_group_each(ids), {i: words[i] for i in ids})


def find_turned(evidence: DataEvidence) -> SampleFinding | None:
    """`data.exif-rotation`: pictures that EXIF rotates or mirrors."""
    if evidence.image_statistics is None:
        return None
    ids = [i for i, file in sorted(evidence.image_statistics.files.items()) if file.turned]
    if not ids:
        return None
    finding = Finding(
        code="data.exif-rotation",
        severity="note",
        where=evidence.listing.source,
        measured=f"EXIF rotates or mirrors {len(ids):,} of {several(len(evidence.splits), 'picture')}: "
        f"{some([evidence.named(i) for i in ids])}",
        threshold="0 pictures",
        why="Training and predict apply the EXIF orientation; many other programs ignore it.",
        remedy="Save them upright if other programs read them too.",
    )
    return SampleFinding(finding, one_group_each(ids), dict.fromkeys(ids, "turned"))


_FACTOR = 4
"""An image is tiny or huge if it is so many times smaller or larger than the median on both axes: beyond that, resizing
changes most of what it shows."""


def find_tiny_images(evidence: DataEvidence) -> SampleFinding | None:
    """`data.tiny-images`: images at most a quarter as large as the median, or as the size that the user chose."""
    if evidence.image_statistics is None or not evidence.splits:
        return None
    sides, middle = _sides(evidence)
    usual = middle if evidence.config.size is None else float(np.sqrt(np.prod(evidence.config.size)))
    what = "the median" if evidence.config.size is None else "--size"
    ids = [i for i, side in zip(evidence.readable, sides, strict=True) if side * _FACTOR <= usual]
    return _finding(
        evidence, "data.tiny-images", ids, f"at most a quarter of {what}", "Small images are blurred when enlarged."
    )


def find_huge_images(evidence: DataEvidence) -> SampleFinding | None:
    """`data.huge-images`: images at least four times as large as the median."""
    if evidence.image_statistics is None or not evidence.splits:
        return None
    sides, middle = _sides(evidence)
    ids = [i for i, side in zip(evidence.readable, sides, strict=True) if side >= _FACTOR * middle]
    why = "After resizing, their content is smaller than in the other images, and each takes long to decode."
    return _finding(evidence, "data.huge-images", ids, "at least four times the median", why)


def _sides(evidence: DataEvidence) -> tuple[np.ndarray, float]:
    """The square root of height × width of each readable image, and the median of these."""
    assert evidence.image_statistics is not None
    sides = np.sqrt(evidence.image_statistics.sizes[list(evidence.readable)].prod(axis=1))
    return sides, float(np.median(sides))


def _finding(evidence: DataEvidence, code: str, ids: list[int], what: str, why: str) -> SampleFinding | None:
    if not ids:
        return None
    assert evidence.image_statistics is not None
    sizes = {i: "×".join(map(str, evidence.image_statistics.sizes[i].tolist())) for i in ids}
    middle = "×".join(
        f"{side:g}" for side in np.median(evidence.image_statistics.sizes[list(evidence.readable)], axis=0)
    )
    finding = Finding(
        code=code,
        severity="warning",
        where=evidence.listing.source,
        measured=f"{several(len(ids), 'image is', 'images are')} {what} in height and width (median: {middle}): "
        f"{some([f'{evidence.named(i)} ({sizes[i]})' for i in ids])}",
        threshold=f"a factor of {_FACTOR}",
        why=why,
        remedy="Look at them: thumbnails and scans are often included by mistake.",
    )
    return SampleFinding(finding, one_group_each(ids), sizes)


_FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), ("JPEG", "MPO")),
    **dict.fromkeys((".bmp", ".dib"), ("BMP", "DIB")),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), ("PPM",)),
    **dict.fromkeys((".jp2", ".j2k"), ("JPEG2000",)),
    **{".png": ("PNG",), ".gif": ("GIF",), ".webp": ("WEBP",), ".avif": ("AVIF",)},
}


def find_wrong_suffixes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.wrong-suffix`: pictures of another format than their suffix says."""
    if evidence.image_statistics is None:
        return None
    wrong = {}
    for number, file in sorted(evidence.image_statistics.files.items()):
        suffix = PurePosixPath(evidence.named(number)).suffix.lower()
        if suffix in _FORMATS and file.format not in _FORMATS[suffix]:
            wrong[number] = f"is {file.format}"
    if not wrong:
        return None
    finding = Finding(
        code="data.wrong-suffix",
        severity="warning",
        where=evidence.listing.source,
        measured=f"{several_of(len(wrong), len(evidence.splits), 'picture', 'have')} another format than the "
        f"suffix says: {some([f'{evidence.named(i)} ({words})' for i, words in wrong.items()])}",
        threshold="0 pictures",
        why="striate detects the format from the content; programs that rely on the suffix fail.",
        remedy="Rename them.",
    )
    return SampleFinding(finding, one_group_each(list(wrong)), wrong)
