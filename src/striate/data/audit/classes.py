"""Numbers of samples per class, and class names that look like two spellings of one class."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from striate.data.annotations.target_columns import columns_of, occurring_classes
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.leaks import ORDER
from striate.data.audit.sample_finding import SampleFinding, some
from striate.data.listing import Listing, as_number
from striate.records import Finding, Remedy, Severity, option_remedy
from striate.wording import several

IMBALANCED, VERY_IMBALANCED = 3, 10
"""Ratio of the numbers of samples of the commonest and the rarest class, from which there is a note, and a warning."""
IMBALANCE_THRESHOLD = f"{IMBALANCED} times; a warning from {VERY_IMBALANCED}"
_FEW = 5


def imbalance_severity(ratio: float) -> Severity | None:
    """Severity of a commonest class with `ratio` times as many samples as the rarest; None below `IMBALANCED`."""
    return None if ratio < IMBALANCED else "note" if ratio < VERY_IMBALANCED else "warning"


def _counts(evidence: DataEvidence) -> dict[str, Counter[str]]:
    """The number of samples of each class, by split."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ORDER if name in evidence.splits.values()}
    for number, split in evidence.splits.items():
        counts[split][evidence.listing.labels[number]] += 1
    return counts


def find_imbalance(evidence: DataEvidence) -> SampleFinding | None:
    """`data.imbalance`: the commonest class has three times as many training samples as the rarest, or more."""
    if evidence.listing.annotation != "class":
        return None
    train = _counts(evidence).get("train", Counter())
    if len(train) < 2:
        return None
    (most, many), (least, few) = train.most_common()[0], train.most_common()[-1]
    severity = imbalance_severity(many / few)
    if severity is None:
        return None
    return SampleFinding(
        Finding(
            code="data.imbalance",
            severity=severity,
            where=evidence.listing.source,
            measured=f"{many / few:.1f} times as many samples of {most} ({many:,}) as of {least} ({few:,}) in train",
            threshold=IMBALANCE_THRESHOLD,
            why="Accuracy then says little about the rare classes: look at macro F1 and the confusion matrix.",
            remedy=Remedy(
                "Add samples of the rare classes.",
                settings={"task.class_weights": "balanced"},
                advice="more samples of the rare classes",
            ),
        )
    )


def find_missing_classes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.missing-class`: classes, or labels, without a readable sample in some split."""
    listing = evidence.listing
    if listing.annotation == "class":
        counts = _counts(evidence)
    elif listing.annotation in ("labels", "columns"):
        counts = _label_counts(evidence)
    else:
        return None
    lacking = {name: [c for c in listing.classes if not counts[name][c]] for name in counts}
    known = several(len(listing.classes), *(("label",) if listing.annotation == "labels" else ("class", "classes")))
    return missing_class(listing, known, lacking, "Add samples of these classes, or move some from another split.")


def _label_counts(evidence: DataEvidence) -> dict[str, Counter[str]]:
    """By split, the number of samples with each label, or with each class of several targets."""
    listing = evidence.listing
    assert listing.targets is not None
    there = listing.targets > 0
    if listing.annotation == "columns":
        there = occurring_classes(listing.targets, columns_of(listing.target_names, listing.classes))
    counts = {}
    for name in ORDER:
        if ids := [number for number, split in evidence.splits.items() if split == name]:
            counts[name] = Counter(dict(zip(listing.classes, there[ids].sum(0).tolist(), strict=True)))
    return counts


def missing_class(
    listing: Listing, known: str, lacking: Mapping[str, Sequence[str]], remedy: str
) -> SampleFinding | None:
    """`data.missing-class` where a split lacks classes. `known` counts the classes in words; `lacking` names those that
    each split lacks."""
    lacking = {name: classes for name, classes in lacking.items() if classes}
    if not lacking:
        return None
    texts = "; ".join(f"{name} has no {some(classes)}" for name, classes in lacking.items())
    return SampleFinding(
        Finding(
            code="data.missing-class",
            severity="error" if "train" in lacking else "warning",
            where=listing.source,
            measured=f"{known}: {texts}",
            threshold="every class in every split",
            why="A class without training samples cannot be learned, and one without test samples cannot be measured.",
            remedy=remedy,
        )
    )


_DEEPEST = 20


def find_repeated_folders(evidence: DataEvidence) -> SampleFinding | None:
    """`data.class-level`: folders below the class folders have names that occur in several classes, so they may be the
    classes: `site/year/species`. Not where the user chose the level."""
    listing = evidence.listing
    if evidence.config.class_level is not None or listing.class_level is None or len(listing.classes) < 2:
        return None
    repeated: dict[int, list[str]] = {}
    for level in range(listing.class_level + 1, _DEEPEST + 1):
        homes = Counter(name for names in listing.folders_at(level).values() for name in names)
        if not homes:
            break
        if len(homes) > 1 and 2 * sum(count > 1 for count in homes.values()) >= len(homes):
            repeated[level] = sorted(homes)
    if not repeated:
        return None
    deepest = max(repeated)
    below = "; ".join(f"{some(names)} (level {level})" for level, names in repeated.items())
    finding = Finding(
        code="data.class-level",
        severity="warning",
        where=listing.source,
        measured=f"the classes are the folders {some(listing.classes)} (level {listing.class_level}), and these "
        f"subfolders occur in several of them: {below}",
        threshold="subfolders that occur in only one class",
        why="Names that repeat are often the classes, and the folders above them are places or years.",
        remedy=option_remedy(
            "data.class_level",
            str(deepest),
            f"If {some(repeated[deepest])} are the classes: ",
            f"; if each path is a class: --data.class_level path; else --data.class_level {listing.class_level}.",
        ),
    )
    return SampleFinding(finding)


def two_classes(listing: Listing) -> str:
    """The remedy for data of one class: to use its subfolders as classes, where it has several."""
    below = sorted(set().union(*listing.folders_at(deeper := (listing.class_level or 0) + 1).values()))
    if len(below) > 1:
        return f"--data.class_level {deeper}: the folders {some(below)} are the classes"
    return "give the parent folder, or add a subfolder with pictures of another class"


def find_small_classes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.too-few`: classes with fewer than five different training samples, or only one class."""
    if evidence.listing.annotation != "class" or not evidence.splits:
        return None
    severity: Severity = "warning"
    why = "The network memorizes so few samples instead of learning the class."
    remedy = "Add samples (a few dozen for each class to begin with), or leave such a class out."
    if len(evidence.listing.classes) < 2:
        got, severity = f"only one class, {evidence.listing.classes[0]}", "error"
        remedy = two_classes(evidence.listing)
        why, remedy = "A classifier needs at least two classes.", f"{remedy[0].upper()}{remedy[1:]}."
    else:
        contents: dict[str, set[bytes]] = {name: set() for name in evidence.listing.classes}
        everywhere: dict[str, set[bytes]] = {name: set() for name in evidence.listing.classes}
        for number, split in evidence.splits.items():
            label, content = evidence.listing.labels[number], evidence.scan.contents[number]
            everywhere[label].add(content)
            if split == "train":
                contents[label].add(content)
        if single := [name for name, found in everywhere.items() if len(found) == 1]:
            severity = "error"
            why = f"{some(single)}: one sample in all splits together, so the accuracy on it cannot be measured."
        few = [f"{name} ({len(found)})" for name, found in contents.items() if 0 < len(found) < _FEW]
        if not few:
            return None
        count = several(len(few), "class has", "classes have")
        got = f"{count} fewer than {_FEW} different training samples: {some(few)}"
    return SampleFinding(
        Finding(
            code="data.too-few",
            severity=severity,
            where=evidence.listing.source,
            measured=got,
            threshold=f"two classes, {_FEW} different samples each in train",
            why=why,
            remedy=remedy,
        )
    )


_NO_CLASS = frozenset(
    (
        *("unknown", "unlabeled", "unlabelled", "unsorted", "untitled", "misc", "tmp", "temp", "todo", "backup"),
        *("copy", "new folder", "neuer ordner", "folder", "none", "null", "nan", "n/a", "test data", "thumbs"),
    )
)
_LETTERS = 6
"""Names of at least so many letters that differ by one letter may be misspelled; shorter ones (cat, car) are different
words."""
_RARE = 0.2


_NAMED = ("class", "labels", "box", "instance", "mask")
"""Annotations with names of classes. Identities have names of persons."""


def find_suspicious_names(evidence: DataEvidence) -> SampleFinding | None:
    """`data.label-names`: classes that differ in case, spaces, a plural or one letter, or whose name is not a class."""
    listing = evidence.listing
    if listing.annotation not in _NAMED:
        return None
    # Without a count for each class, none is taken to be rare.
    counts = Counter(listing.labels if listing.annotation == "class" else listing.classes)
    texts = [f"{name!r} has spaces around it" for name in listing.classes if name != name.strip()]
    texts += [
        f"{name!r} is probably not a class"
        for name in listing.classes
        if name.strip().casefold() in _NO_CLASS and listing.annotation == "class"
    ]
    keys = {name: _plain(name) for name in listing.classes}
    if len(keys) <= 2000:  # beyond, a name is likely to be near another by chance
        for one, other in combinations(listing.classes, 2):
            why = _likeness(keys[one], keys[other], counts[one], counts[other])
            if why:
                texts.append(f"{one!r} and {other!r} ({why})")
    if not texts:
        return None
    finding = Finding(
        code="data.label-names",
        severity="warning",
        where=listing.source,
        measured=f"{several(len(texts), 'suspicious class name')}: {some(texts)}",
        threshold="0 names",
        why="A class with two names is learned as two classes.",
        remedy="Rename them, or leave them if they are intended.",
    )
    return SampleFinding(finding)


def _plain(name: str) -> str:
    """In lower case, without accents, spaces and punctuation, except in numbers: -1 is not 1."""
    if as_number(name) is not None:
        return name
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in letters if c.isalnum()) or name


def _likeness(one: str, other: str, many: int, few: int) -> str:
    if one == other:
        return "the same except for case, spaces or punctuation"
    if re.search(r"\d", one + other):
        return ""
    if min(len(one), len(other)) >= 3 and (one in _singulars(other) or other in _singulars(one)):
        return "singular and plural"
    rare = min(many, few) <= _RARE * max(many, few)
    if rare and min(len(one), len(other)) >= _LETTERS and _one_letter(one, other):
        return "one letter apart, and one of them is rare"
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
