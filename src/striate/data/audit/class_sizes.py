"""How many samples each class has, in each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from striate.data.audit.evidence import Evidence
from striate.data.audit.leaks import ORDER
from striate.data.audit.marked import Marked, some
from striate.records import Finding, Severity
from striate.wording import several

_NOTE, _WARN = 3, 10
_FEW = 5


def _counts(evidence: Evidence) -> dict[str, Counter[str]]:
    """By split the samples of each class."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ORDER if name in evidence.splits.values()}
    for number, split in evidence.splits.items():
        counts[split][evidence.listing.labels[number]] += 1
    return counts


def find_imbalance(evidence: Evidence) -> Marked | None:
    """`data.imbalance`: the commonest class has three times as many training samples as the rarest, or more."""
    if evidence.listing.annotation != "class":
        return None
    train = _counts(evidence).get("train", Counter())
    if len(train) < 2:
        return None
    (most, many), (least, few) = train.most_common()[0], train.most_common()[-1]
    if many < _NOTE * few:
        return None
    return Marked(
        Finding(
            "data.imbalance",
            "warning" if many >= _WARN * few else "note",
            evidence.listing.source,
            f"{many / few:.1f} times as many samples of {most} ({many:,}) as of {least} ({few:,}) in train",
            f"{_NOTE} times; a warning from {_WARN}",
            "Accuracy then says little about the rare classes: macro F1 and the confusion matrix do.",
            "Add samples of the rare classes.",
        )
    )


def find_missing_classes(evidence: Evidence) -> Marked | None:
    """`data.missing-class`: classes without a readable sample in some split, or at all."""
    if evidence.listing.annotation != "class":
        return None
    counts = _counts(evidence)
    lacking = {name: [c for c in evidence.listing.classes if not counts[name][c]] for name in counts}
    known = f"{len(evidence.listing.classes)} classes"
    return missing_class(evidence, known, lacking, "Add samples of these classes, or move some from another split.")


def missing_class(evidence: Evidence, known: str, lacking: Mapping[str, Sequence[str]], remedy: str) -> Marked | None:
    """`data.missing-class` where any split is `lacking` some of what is `known`."""
    lacking = {name: classes for name, classes in lacking.items() if classes}
    if not lacking:
        return None
    said = "; ".join(f"{name} has no {some(classes)}" for name, classes in lacking.items())
    return Marked(
        Finding(
            "data.missing-class",
            "error" if "train" in lacking else "warning",
            evidence.listing.source,
            f"of {known}, {said}",
            "every class in every split",
            "What was never shown cannot be learned, and of what is not in test nothing can be said.",
            remedy,
        )
    )


def find_small_classes(evidence: Evidence) -> Marked | None:
    """`data.too-few`: classes with fewer than five different training samples, or only one class."""
    if evidence.listing.annotation != "class" or not evidence.splits:
        return None
    severity: Severity = "warning"
    if len(evidence.listing.classes) < 2:
        got, severity = f"one class only, {evidence.listing.classes[0]}", "error"
    else:
        contents: dict[str, set[bytes]] = {name: set() for name in evidence.listing.classes}
        for number, split in evidence.splits.items():
            if split == "train":
                contents[evidence.listing.labels[number]].add(evidence.scan.contents[number])
        few = [f"{name} ({len(found)})" for name, found in contents.items() if 0 < len(found) < _FEW]
        if not few:
            return None
        count = several(len(few), "class has", "classes have")
        got = f"{count} fewer than {_FEW} different training samples: {some(few)}"
    return Marked(
        Finding(
            "data.too-few",
            severity,
            evidence.listing.source,
            got,
            f"two classes, {_FEW} different samples each in train",
            "So few are learned by heart.",
            "Add samples; a few dozen of each class are a beginning.",
        )
    )
