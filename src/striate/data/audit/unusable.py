"""Data sets that training refuses."""

from __future__ import annotations

from collections.abc import Mapping

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.annotations.identities import more_classes
from striate.data.audit.classes import two_classes
from striate.data.audit.files import larger_limit, own_remedy
from striate.data.audit.masks import refuse_unnamed_colors
from striate.data.audit.readings import find_quantity
from striate.data.audit.sample_finding import some
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.errors import DataError
from striate.wording import listed, several


def refuse_unusable(
    listing: Listing,
    scan: Scan,
    unreadable: Mapping[int, str],
    split: Mapping[int, str],
    config: DataConfig | None = None,
) -> None:
    """Raise DataError where masks have colors without names, no sample is readable, a split is empty, a class has no
    readable sample or none in train, or there is only one class.

    `split` names the split of each readable sample by id; `config` is not needed where it is empty.
    """
    where = f"data {listing.source}"
    if unreadable:
        refuse_unnamed_colors(listing)
    if not split:
        many, (number, why) = listing.medium.many, next(iter(unreadable.items()), (0, "no samples"))
        limit = larger_limit(unreadable)
        raise DataError(
            where,
            f"none of {several(len(unreadable), 'file')} can be read; {listing.paths[number]}: {why}",
            f"at least one readable {listing.medium.one}",
            f"--data.max_pixels {limit}"
            if limit
            else own_remedy(listing, number) or f"check that these files are {many}",
        )
    assert config is not None, "something is readable"
    needed = ("train", "val", "test") if config.test_fraction > 0 else ("train", "val")
    lacking = " and ".join(name for name in needed if name not in split.values())
    if "train" in lacking and all(listing.given[number] for number in split):
        raise DataError(
            where,
            f"all of {several(len(split), 'readable sample')} in the splits that the data give:"
            f" {listed(sorted(set(split.values())))}",
            "samples to train on",
            "give some of them to train, or leave these splits out (the column split, or the folder of that name), so"
            " that striate makes them; striate eval RUN DATA measures a trained network on them",
        )
    if lacking:
        quantity = find_quantity(listing)
        groups = {listing.groups[number] for number in split} - {None, ""} if listing.groups else set()
        contents = len(set(scan.contents.values()))
        each = " for each class" if listing.annotation == "class" else ""
        if groups and len(groups) < contents and not annotation_kind(listing.annotation).open_classes:
            raise DataError(
                where,
                f"{several(len(split), 'readable sample')} in {several(len(groups), 'group')} that are never divided,"
                f" none of them in {lacking}",
                f"enough groups for {listed(needed)}",
                f"add samples of other groups: at least three groups{each}",
            )
        held_out = {scan.contents[number] for number in split if listing.given[number] not in (None, "train")}
        trained = {scan.contents[number] for number in split if split[number] == "train"}
        if trained and trained <= held_out:
            raise DataError(
                where,
                f"every sample of train has a copy in {listed(sorted({*split.values()} - {'train'}))}, so none can be"
                f" moved to {lacking}",
                "samples of train that occur in no other split",
                "remove the copies from train, or from the other split and let striate make it; striate data check"
                " lists them",
            )
        raise DataError(
            where,
            f"{several(len(split), 'readable sample')} with {contents} different contents, none of them in {lacking}",
            f"enough samples for {listed(needed)}",
            more_classes(listing, "add classes: two for each split, six in total")
            if annotation_kind(listing.annotation).open_classes
            else f"add samples: at least three different ones{each}"
            + ("" if quantity is None else f". {quantity.remedy}"),
        )
    if listing.annotation == "class":
        _refuse_classes(listing, where, split, config.labels)


def _refuse_classes(listing: Listing, where: str, split: Mapping[int, str], labels: str | None) -> None:
    readable = {listing.labels[number] for number in split}
    empty = [name for name in listing.classes if name not in readable]
    if empty:
        raise DataError(
            where,
            f"no {listing.medium.one} of the class {empty[0]!r} can be read"
            + (f", nor of {len(empty) - 1} more" if empty[1:] else ""),
            f"at least one readable {listing.medium.one} for every class",
            f"replace the {listing.medium.many}, or list the {listing.medium.many} of the other classes in a manifest"
            " .csv (path,label)",
        )
    if len(listing.classes) < 2:
        raise DataError(
            where,
            f"only one class, {listing.classes[0]!r}",
            "at least two classes",
            two_classes(listing),
        )
    trained = {listing.labels[number] for number, name in split.items() if name == "train"}
    foreign = [name for name in listing.classes if name not in trained]
    if foreign:
        many = listing.medium.many
        copied = f"copy some of their {many} to train, or list all in a manifest .csv (path,label,split)"
        corrected = f"give these labels to some {many} of train too in {labels}, or leave their rows out"
        raise DataError(
            where,
            f"the classes {some(foreign)} occur only in val or test",
            "every class in train too: the network learns only classes that it is trained on",
            copied if labels is None else corrected,
        )
