"""Leaks between splits: copies of a sample, samples of one group (a patient, a day), and frames of one recording (files
with consecutive names whose pictures hardly change) in several splits.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.alike import NEAR
from striate.data.audit.evidence import DataEvidence, keep_together, leaving_out
from striate.data.audit.sample_finding import GRAVE, SampleFinding, some
from striate.data.listing import Listing
from striate.data.sources.objects import is_given_data
from striate.records import Finding, Severity, option_remedy
from striate.wording import percent, several, several_of

ORDER = ("train", "val", "test")


def find_leaks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.leak`: samples of val and test with a copy in an earlier split."""
    divided = [group for group in evidence.related if len({evidence.splits[number] for number in group}) > 1]
    if not divided:
        return None
    counts: Counter[str] = Counter()
    for group in divided:
        first = min(ORDER.index(evidence.splits[number]) for number in group)
        counts.update(evidence.splits[n] for n in group if ORDER.index(evidence.splits[n]) > first)
    totals = Counter(evidence.splits.values())
    severity: Severity = "error" if any(counts[name] >= GRAVE * totals[name] for name in counts) else "warning"
    affected = " and ".join(f"{counts[name]:,} of {totals[name]:,} in {name}" for name in ORDER if counts[name])
    affected += " is in another split too" if counts.total() == 1 else " are in another split too"
    parts = not {number for group in divided for number in group} <= {n for group in evidence.alike for n in group}
    whole = f", some as {evidence.listing.medium.related}" if parts else ""
    also = _chosen_on_test({evidence.splits[number] for number in group} for group in divided)
    finding = Finding(
        code="data.leak",
        severity=severity,
        where=evidence.listing.source,
        measured=f"{affected}{whole}: {some([_pair(evidence, group) for group in divided])}",
        threshold=f"0; an error from {percent(GRAVE, 0)} of a split",
        why=f"The network was trained on some of these samples, so metrics of the other split are too good.{also}",
        remedy=leaving_out(evidence, "Keep each of them in one split only, or put the copies into one group."),
    )
    words = {number: evidence.splits[number] for group in divided for number in group}
    return SampleFinding(
        finding, tuple(divided), words, _fixed(evidence, divided), keep_together(evidence, evidence.related)
    )


def _chosen_on_test(splits: Iterable[Collection[str | None]]) -> str:
    """A sentence for the finding if any sample is in both val and test; else empty. `splits`: those of each sample."""
    divided = any("val" in names and "test" in names for names in splits)
    return (
        " Validation samples that are also in test choose the epoch and the thresholds on test data." if divided else ""
    )


def _fixed(evidence: DataEvidence, divided: list[tuple[int, ...]]) -> frozenset[int]:
    """Copies to leave out: those in given splits, except in the last split that has one."""
    given = evidence.listing.given
    left: set[int] = set()
    for group in divided:
        named = {split for number in group if (split := given[number]) is not None}
        if len(named) > 1:
            last = max(named, key=ORDER.index)
            left.update(number for number in group if given[number] != last)
    return frozenset(left)


def _pair(evidence: DataEvidence, group: tuple[int, ...]) -> str:
    """One sample of each split, joined by = if they are identical, else by ≈."""
    first = {evidence.splits[number]: number for number in reversed(group)}
    shown = [(name, first[name]) for name in reversed(ORDER) if name in first]
    equal = len({evidence.scan.contents[number] for _, number in shown}) == 1
    paths = [(name, evidence.named(number)) for name, number in shown]
    return (" = " if equal else " ≈ ").join(
        path if path.startswith(f"{name}/") else f"{path} ({name})" for name, path in paths
    )


def find_given_leaks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.leak`: groups of identical samples that lie in two of the given splits."""
    listing, leaks = evidence.listing, []
    for group in evidence.equal:
        first = {listing.given[number]: listing.paths[number] for number in reversed(group)}
        first.pop(None, None)
        if len(first) > 1:
            leaks.append(" = ".join(first[split] for split in sorted(first, key=str)))
    if not leaks:
        return None
    medium = listing.medium
    finding = Finding(
        code="data.leak",
        severity="warning",
        where=listing.source,
        measured=f"{several(len(leaks), f'{medium.one} is', f'{medium.many} are')} in two of the given splits with"
        f" identical content: {some(leaks)}",
        threshold=f"0 {medium.many}",
        why="The network was trained on some of these samples, so metrics of the other split are too good."
        + _chosen_on_test([listing.given[number] for number in group] for group in evidence.equal),
        remedy="Keep each of them in one split only"
        + ("." if is_given_data(listing.source) else ": striate data check writes such a manifest."),
    )
    return SampleFinding(finding)


def find_training_samples(listing: Listing, contents: Sequence[str], seen: Mapping[str, str]) -> tuple[Finding, ...]:
    """`data.leak` where samples were in the training or validation split of a network.

    `contents`: digests of the samples. `seen`: the split, `train` or `val`, of each digest that the network has
    seen."""
    found = Counter(seen[content] for content in contents if content in seen)
    if not found:
        return ()
    parts = [
        f"{several_of(found[split], len(contents), 'sample', 'were')} in the {name} split of the network"
        for split, name in (("train", "training"), ("val", "validation"))
        if found[split]
    ]
    return (
        Finding(
            code="data.leak",
            severity="warning",
            where=listing.source,
            measured="; ".join(parts),
            threshold="0 samples",
            why="The network was trained on these samples, so metrics on these data are too good."
            if found["train"]
            else "The epoch of the network was chosen on these samples, so metrics on them are somewhat too good.",
            remedy="Evaluate it on data that were used neither to train it nor to choose its epoch.",
        ),
    )


def find_divided_groups(evidence: DataEvidence) -> SampleFinding | None:
    """`data.group-leak`: groups that lie in two of the given splits."""
    listing, homes = evidence.listing, defaultdict[str, set[str]](set)
    for number, (group, split) in enumerate(zip(listing.groups, listing.given, strict=bool(listing.groups))):
        if group and split is not None and number not in evidence.unreadable:
            homes[group].add(split)
    divided = [f"{group} ({', '.join(sorted(splits))})" for group, splits in sorted(homes.items()) if len(splits) > 1]
    if not divided:
        return None
    finding = Finding(
        code="data.group-leak",
        severity=_severity_of_divided(listing.groups, listing.given),
        where=listing.source,
        measured=f"{several_of(len(divided), len(homes), 'group', 'are')} in two of the given splits: {some(divided)}",
        threshold=f"0 groups; an error from {percent(GRAVE, 0)} of val and test",
        why="Samples of one group are alike, so metrics of the other split are too good.",
        remedy="Give all samples of a group the same split, or none.",
    )
    return SampleFinding(finding)


def _severity_of_divided(groups: Sequence[str | None], splits: Sequence[str | None]) -> Severity:
    """`error` where at least 1 % of the samples of val and test are of a group that is also in train; else
    `warning`."""
    trained = {group for group, split in zip(groups, splits, strict=True) if split == "train" and group}
    held = [group for group, split in zip(groups, splits, strict=True) if split in ("val", "test")]
    return "error" if sum(group in trained for group in held) >= GRAVE * max(1, len(held)) else "warning"


_OF_ONE = re.compile(
    r"(speaker|patient|subject|person|participant|individual|user|writer|donor|animal|specimen|slide|case|session"
    r"|recording|video|scene|family|household)([ _-]?(id|no|nr|name|number))?"
)
"""Names of columns that name the person, animal or recording of a sample."""


def find_group_columns(evidence: DataEvidence) -> SampleFinding | None:
    """`data.group-column`: a manifest without groups has a column that looks like a group, and samples with one of its
    values lie in two splits."""
    listing, splits = evidence.listing, evidence.splits
    for name, values in listing.columns.items() if not any(listing.groups) else ():
        homes: dict[str, set[str]] = defaultdict(set)
        for number, split in splits.items():
            if values[number]:
                homes[values[number]].add(split)
        divided = [f"{value} ({', '.join(sorted(found))})" for value, found in sorted(homes.items()) if len(found) > 1]
        if not divided or len(homes) < 2 or not _OF_ONE.fullmatch(name.lower()):
            continue
        given, ids = evidence.given, list(splits)
        remedy = option_remedy("data.group", name, "", " keeps each group in one split.")
        finding = Finding(
            code="data.group-column",
            severity=_severity_of_divided([values[i] for i in ids], [splits[i] for i in ids]) if given else "warning",
            where=listing.source,
            measured=f"the column {name} looks like a group, and {len(divided):,} of its "
            f"{several(len(homes), 'value is', 'values are')} in two splits: {some(divided)}",
            threshold="0 values",
            why="Samples of one group are alike, so metrics of the other split are too good.",
            remedy=f"Give all samples of a {name} the same split, or none; then --data.group {name}."
            if given
            else remedy,
        )
        return SampleFinding(finding)
    return None


_LOOSE, _FEW_PAIRS = 0.4, 0.3
"""Largest distance of neighbors in a series: in any data, and where there are too few other pairs to compare with."""
_QUANTILE, _DRAWN, _PAIRS, _APART = 0.005, 4000, 100, 10
_LEAST = 5


def find_divided_series(evidence: DataEvidence) -> SampleFinding | None:
    """`data.frame-leak`: a series of five or more images with consecutive names that are nearly alike lies in two
    splits.

    Nearly alike: their descriptions are nearer than in 99.5 % of the pairs with the same label that are at least ten
    places apart, and at most 0.4 apart (a correlation of 0.92).
    """
    if evidence.listing.read is None or evidence.image_statistics is None:
        return None
    order = sorted((i for i in evidence.readable), key=lambda i: _place(evidence, i))
    if len(order) < _LEAST:
        return None
    points = evidence.image_statistics.descriptions[order]
    labels = np.unique([_label(evidence, i) for i in order], return_inverse=True)[1]
    near = np.linalg.norm(points[1:] - points[:-1], axis=1) <= _limits(points, labels)[labels[1:]]
    near &= (labels[1:] == labels[:-1]) & (points[1:].any(axis=1) & points[:-1].any(axis=1))
    runs = [tuple(order[start:stop]) for start, stop in _stretches(near) if stop - start >= _LEAST]
    divided = [run for run in runs if len({evidence.splits[number] for number in run}) > 1]
    if not divided:
        return None
    named = [f"{evidence.named(run[0])} to {evidence.named(run[-1])} ({several(len(run), 'image')})" for run in divided]
    which = "the given splits" if evidence.given else "the splits that striate makes"
    count = sum(map(len, divided))
    finding = Finding(
        code="data.frame-leak",
        severity="error" if count >= 0.1 * len(order) else "warning",
        where=evidence.listing.source,
        measured=f"{several(len(divided), 'series', 'series')} of nearly identical images with consecutive names in "
        f"two of {which}: {some(named)}",
        threshold="0 series; an error from 10 % of the images",
        why="Frames of one recording are nearly copies, so metrics of the other split are too good.",
        remedy=_remedy(evidence),
    )
    words = {number: evidence.splits[number] for run in divided for number in run}
    return SampleFinding(finding, tuple(divided), words, together=keep_together(evidence, runs))


def _label(evidence: DataEvidence, number: int) -> str:
    # Folders show what belongs together; masks and numbers do not.
    if evidence.listing.annotation == "class":
        return evidence.listing.labels[number]
    return ""


def _place(evidence: DataEvidence, number: int) -> tuple[str, list[tuple[int, int | str]]]:
    """Key that sorts by label, then by file name with numbers in numerical order; the folder of a split is ignored."""
    parts = re.split(r"(\d+)", PurePosixPath(evidence.named(number)).stem)
    return _label(evidence, number), [(1, int(part)) if part.isdecimal() else (0, part) for part in parts if part]


def _limits(points: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest distance of neighbors in a series, by label: some classes vary less than others."""
    limits = np.full(int(labels.max()) + 1, _FEW_PAIRS)
    for label in range(len(limits)):
        rows = points[labels == label]
        ends = np.random.default_rng(label).integers(0, len(rows), (_DRAWN, 2))
        ends = np.unique(np.sort(ends[np.abs(ends[:, 0] - ends[:, 1]) >= _APART], axis=1), axis=0)
        distances = np.linalg.norm(rows[ends[:, 0]] - rows[ends[:, 1]], axis=1)
        distances = distances[distances > NEAR]  # a copy elsewhere does not make neighbors less alike
        if len(distances) >= _PAIRS:
            limits[label] = min(_LOOSE, float(np.quantile(distances, _QUANTILE)))
    return limits


def _stretches(near: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open intervals of the series, from `near[i]`: whether i and i + 1 are alike."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]]).astype(np.int8)))
    return [(int(start), int(stop) + 1) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _remedy(evidence: DataEvidence) -> str:
    if evidence.given:
        return "Put whole recordings into one split."
    return leaving_out(evidence, "Write a manifest with a group for each recording.")
