"""Pictures in several modes: gray among color, transparent, 16 bits, inks of a printer."""

from __future__ import annotations

from collections import Counter

from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import Marked, alone
from striate.records import Finding
from striate.wording import listed

_WORDS = {
    **{"RGB": "color", "RGBX": "color", "L": "gray", "1": "black and white", "P": "palette", "PA": "palette"},
    **{"RGBA": "transparent", "RGBa": "transparent", "LA": "transparent gray", "La": "transparent gray"},
    **{"CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "LAB", "HSV": "HSV", "I": "32-bit gray", "F": "floating-point"},
}


def find_mixed_modes(evidence: Evidence) -> Marked | None:
    """`data.mixed-modes`: pictures that are not in the commonest mode of the set."""
    if evidence.looks is None or not evidence.looks.files:
        return None
    files = evidence.looks.files
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
        "data.mixed-modes",
        "note",
        evidence.listing.source,
        f"pictures in {len(counts)} modes: {found}; the first that is not {usual} is {evidence.named(first)}",
        "one mode",
        "All become color if any has some: alpha is laid over white, gray repeated, CMYK converted without a profile. "
        "A mode that only one class has gives the class away.",
        "Convert them to one mode if they differ by class.",
    )
    return Marked(finding, alone(ids), {i: words[i] for i in ids})
