"""A check of data as text for a terminal."""

from __future__ import annotations

from striate.data.audit.record import DataCheck
from striate.errors import pasted
from striate.wording import filled, finding_text, listed, several


def check_text(check: DataCheck, width: int) -> str:
    """What was checked, the findings, and what was written, in lines of at most `width` letters."""
    width = max(40, width)
    parts = [filled(_what(check), width), *(finding_text(finding, width) for finding in check.findings)]
    counts = check.counts()
    found = listed([several(number, severity) for severity, number in counts.items() if number])
    parts.append(found or "Nothing was found.")
    if check.quarantine is not None:
        rows = check.quarantine.read_text(encoding="utf-8").count("\n") - 1
        task = " --task regress" if check.evidence.listing.has_numbers else ""
        parts.append(
            f"{check.quarantine}: {rows:,} samples. Train on them:\n  striate train {pasted(check.quarantine)}{task}"
        )
    if check.remedy:
        left = len(check.left_out)
        what = f"leave out {several(left, 'sample')}" if left else "keep together what is alike"
        parts.append(f"A manifest to {what}:\n  {check.remedy}")
    if check.sheet is not None:
        parts.append(f"{check.sheet}")
    return "\n\n".join(parts)


def _what(check: DataCheck) -> str:
    listing = check.evidence.listing
    classes = f" of {len(listing.classes):,} classes" if listing.has_one_class_each else ""
    sizes = ", ".join(f"{count:,} {name}" for name, count in check.sizes.items())
    splits = "given splits" if check.evidence.given else "splits as striate train makes them"
    return f"{listing.name}: {len(listing):,} {listing.medium.many}{classes}; {sizes} ({splits})"
