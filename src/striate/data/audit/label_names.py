"""Names of classes that look like one class written in two ways, or like no class."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import combinations

from striate.data.audit.marked import some
from striate.data.listing import Listing
from striate.records import Finding
from striate.wording import several

_NO_CLASS = frozenset(
    (
        *("unknown", "unlabeled", "unlabelled", "unsorted", "untitled", "misc", "tmp", "temp", "todo", "backup"),
        *("copy", "new folder", "neuer ordner", "folder", "none", "null", "nan", "n/a", "test data", "thumbs"),
    )
)
_LETTERS = 6
"""Names of so many letters may differ by one through a typing mistake; shorter ones (cat, car) are different words."""
_RARE = 0.2


def find_suspicious_names(listing: Listing) -> Finding | None:
    """`data.label-names`: classes that differ in case, blanks, a plural or one letter, or whose name is none."""
    if listing.annotation != "class":
        return None
    counts = Counter(listing.labels)
    said = [f"{name!r} has blanks around it" for name in listing.classes if name != name.strip()]
    said += [f"{name!r} is hardly a class" for name in listing.classes if name.strip().casefold() in _NO_CLASS]
    keys = {name: _plain(name) for name in listing.classes}
    if len(keys) <= 2000:  # beyond, a name is likely to be near another by chance
        for one, other in combinations(listing.classes, 2):
            why = _likeness(keys[one], keys[other], counts[one], counts[other])
            if why:
                said.append(f"{one!r} and {other!r} ({why})")
    if not said:
        return None
    return Finding(
        "data.label-names",
        "warning",
        listing.source,
        f"{several(len(said), 'suspicious name')} of classes: {some(said)}",
        "0 names",
        "One class under two names is learned as two.",
        "Rename them, or leave them if they are meant so.",
    )


def _plain(name: str) -> str:
    """In lower case, without accents, blanks and signs."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in letters if c.isalnum()) or name


def _likeness(one: str, other: str, many: int, few: int) -> str:
    if one == other:
        return "the same but for case, blanks or signs"
    if re.search(r"\d", one + other):
        return ""
    if min(len(one), len(other)) >= 3 and (one in _singulars(other) or other in _singulars(one)):
        return "singular and plural"
    rare = min(many, few) <= _RARE * max(many, few)
    if rare and min(len(one), len(other)) >= _LETTERS and _one_letter(one, other):
        return "one letter apart, and one of them rare"
    return ""


def _singulars(word: str) -> set[str]:
    """What the word may be the plural of."""
    found = {word[:-1]} if word.endswith("s") and not word.endswith("ss") else set()
    if word.endswith("ies"):
        found.add(word[:-3] + "y")
    if word.endswith(("ses", "xes", "ches", "shes", "oes")):
        found.add(word[:-2])
    return found


def _one_letter(one: str, other: str) -> bool:
    """Whether one letter replaced, added, left out or swapped with the next makes one word the other."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[start:] == other[start + 1 :]
    swapped = one[:start] + one[start : start + 2][::-1] + one[start + 2 :]
    return one[start + 1 :] == other[start + 1 :] or swapped == other
