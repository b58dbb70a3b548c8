"""Pictures whose content is of another format than their suffix says."""

from __future__ import annotations

from pathlib import PurePosixPath

from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import Marked, alone, some
from striate.records import Finding

_FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), ("JPEG", "MPO")),
    **dict.fromkeys((".bmp", ".dib"), ("BMP", "DIB")),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), ("PPM",)),
    **dict.fromkeys((".jp2", ".j2k"), ("JPEG2000",)),
    **{".png": ("PNG",), ".gif": ("GIF",), ".webp": ("WEBP",), ".avif": ("AVIF",)},
}


def find_wrong_suffixes(evidence: Evidence) -> Marked | None:
    """`data.wrong-suffix`: pictures of another format than their suffix says."""
    if evidence.looks is None:
        return None
    wrong = {}
    for number, file in sorted(evidence.looks.files.items()):
        suffix = PurePosixPath(evidence.named(number)).suffix.lower()
        if suffix in _FORMATS and file.format not in _FORMATS[suffix]:
            wrong[number] = f"is {file.format}"
    if not wrong:
        return None
    finding = Finding(
        "data.wrong-suffix",
        "warning",
        evidence.listing.source,
        f"{len(wrong):,} of {len(evidence.splits):,} pictures are of another format than their suffix says: "
        f"{some([f'{evidence.named(i)} ({words})' for i, words in wrong.items()])}",
        "0 pictures",
        "They are read here by their content; programs that go by the suffix fail on them.",
        "Rename them.",
    )
    return Marked(finding, alone(list(wrong)), wrong)
