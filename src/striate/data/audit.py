"""What is noticed about a data set while it is read, and what it cannot be trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.errors import DataError
from striate.records import Finding
from striate.wording import several


def find_all(listing: Listing, scan: Scan, unreadable: Mapping[int, str]) -> tuple[Finding, ...]:
    """Unreadable files, leaks and torn groups in given splits, contradicting labels, ignored files; grave first."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, content in scan.contents.items():
        if number not in unreadable:
            alike[content].append(number)
    groups = [group for group in alike.values() if len(group) > 1]
    found = (
        _unreadable(listing, unreadable, len(scan.contents) + len(scan.unreadable)),
        _leaks(listing, groups),
        _torn_groups(listing, unreadable),
        _label_noise(listing, scan, groups),
        _ignored(listing),
    )
    return tuple(finding for finding in found if finding is not None)


def find_seen(listing: Listing, contents: Sequence[str], seen: Collection[str]) -> tuple[Finding, ...]:
    """A finding where samples, by the digests of their contents, are among those that a network was trained on."""
    count = sum(content in seen for content in contents)
    if not count:
        return ()
    return (
        Finding(
            "data.leak",
            "warning",
            listing.source,
            f"{count:,} of {len(contents):,} samples were in the training split of the network",
            "0 samples",
            "What was trained on is recognized, not understood: such data measure too well.",
            "Evaluate it on data that it was not trained on.",
        ),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _unreadable(listing: Listing, unreadable: Mapping[int, str], total: int) -> Finding | None:
    if not unreadable:
        return None
    named = [f"{listing.paths[number]} ({why})" for number, why in sorted(unreadable.items())]
    return Finding(
        "data.unreadable",
        "error",
        listing.source,
        f"{len(named):,} of {total:,} files cannot be read: {_some(named)}",
        "0 files",
        "They are in no split; split.csv lists them as unreadable.",
        "Replace or remove them.",
    )


def _leaks(listing: Listing, groups: list[list[int]]) -> Finding | None:
    leaks = []
    for group in groups:
        first = {listing.given[number]: listing.paths[number] for number in reversed(group)}
        first.pop(None, None)
        if len(first) > 1:
            leaks.append(" = ".join(first[split] for split in sorted(first, key=str)))
    if not leaks:
        return None
    return Finding(
        "data.leak",
        "warning",
        listing.source,
        f"{len(leaks):,} images with identical content lie in two of the given splits: {_some(leaks)}",
        "0 images",
        "What was trained on is recognized, not understood: such a split measures too well.",
        "Remove each of them from all splits but one.",
    )


def _torn_groups(listing: Listing, unreadable: Mapping[int, str]) -> Finding | None:
    homes: dict[str, set[str]] = defaultdict(set)
    for number, (group, split) in enumerate(zip(listing.groups, listing.given, strict=bool(listing.groups))):
        if group and split is not None and number not in unreadable:
            homes[group].add(split)
    torn = [f"{group} ({', '.join(sorted(splits))})" for group, splits in sorted(homes.items()) if len(splits) > 1]
    if not torn:
        return None
    return Finding(
        "data.group-leak",
        "warning",
        listing.source,
        f"{len(torn):,} of {len(homes):,} groups lie in two of the given splits: {_some(torn)}",
        "0 groups",
        "What belongs to one group is alike: such a split measures too well.",
        "Give all samples of a group the same split, or none.",
    )


def _label_noise(listing: Listing, scan: Scan, groups: list[list[int]]) -> Finding | None:
    torn = [group for group in groups if len({scan.answers[number] for number in group}) > 1]
    if not torn:
        return None
    named = []
    for group in torn:
        first = {scan.answers[number]: number for number in reversed(group)}
        named.append(" = ".join(sorted(f"{listing.paths[n]} ({listing.labels[n]})" for n in first.values())))
    return Finding(
        "data.label-noise",
        "warning",
        listing.source,
        f"{len(torn):,} images occur with two labels: {_some(named)}",
        "0 images",
        "At most one of the labels is right.",
        "Look at them, and keep the right one.",
    )


def _ignored(listing: Listing) -> Finding | None:
    if not listing.ignored:
        return None
    return Finding(
        "data.ignored",
        "note",
        listing.source,
        f"{several(len(listing.ignored), 'file or array is', 'files or arrays are')} not used: "
        f"{_some(listing.ignored)}",
        "0",
        "They are hidden, no pictures, or lie where none are looked for.",
        "Remove them, or move pictures into the folder of their class.",
    )


def refuse_unusable(listing: Listing, scan: Scan, unreadable: Mapping[int, str], split: Mapping[int, str]) -> None:
    """Raise DataError where nothing is readable, a class has no image, there is one class, or nothing to train on.

    `split` names the split of each readable sample by id.
    """
    where = f"data {listing.source}"
    if not split:
        number, why = next(iter(unreadable.items()), (0, "no samples"))
        raise DataError(
            where,
            f"none of {len(unreadable)} files can be read; {listing.paths[number]}: {why}",
            "at least one readable picture",
            "check that these files are pictures",
        )
    splits = set(split.values())
    if "train" not in splits or "test" not in splits or "val" not in splits:
        lacking = " and ".join(name for name in ("train", "val", "test") if name not in splits)
        raise DataError(
            where,
            f"{len(split)} readable samples with {len(set(scan.contents.values()))} different contents,"
            f" and none of them in {lacking}",
            "enough samples for train, val and test",
            "add samples: three different ones for each class at least",
        )
    if listing.annotation == "class":
        _refuse_classes(listing, where, split)


def _refuse_classes(listing: Listing, where: str, split: Mapping[int, str]) -> None:
    readable = {listing.labels[number] for number in split}
    empty = [name for name in listing.classes if name not in readable]
    if empty:
        raise DataError(
            where,
            f"no image of the class {empty[0]!r} can be read"
            + (f", nor of {len(empty) - 1} more" if empty[1:] else ""),
            "at least one readable image for every class",
            "replace the images, or remove the class",
        )
    if len(listing.classes) < 2:
        raise DataError(
            where,
            f"one class only, {listing.classes[0]!r}",
            "two classes or more: with one there is nothing to tell apart",
            "give the folder above, or add a subfolder with pictures of something else",
        )
    trained = {listing.labels[number] for number, name in split.items() if name == "train"}
    foreign = [name for name in listing.classes if name not in trained]
    if foreign:
        raise DataError(
            where,
            f"the classes {_some(foreign)} occur only in val or test",
            "every class in train too: what was never shown cannot be learned",
            "move some of their images to train, or remove the classes",
        )
