"""A manifest of a data set without the samples that should not be trained on."""

from __future__ import annotations

import csv
import os
from io import StringIO
from pathlib import Path

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.audit.data_check import DataCheck
from striate.data.audit.sample_finding import SampleFinding, some
from striate.data.listing import Listing
from striate.data.sources.named import find_in_data_folder, info
from striate.errors import DataError, UsageError, pasted
from striate.wording import several

_OPTION = "--quarantine"


def manifest_root(listing: Listing) -> Path | None:
    """The folder that the paths of a listing are relative to; None where a manifest cannot name its samples."""
    if listing.read is None or listing.annotation in ("mask", "box") or info(listing.source) is not None:
        return None
    path = Path(os.path.abspath(find_in_data_folder(listing.source) or listing.source))  # noqa: PTH100
    root = path if path.is_dir() else path.parent if path.suffix.lower() == ".csv" else None
    # A folder may hold samples in other files, for example in shards.
    return root if root is not None and (root / listing.paths[0]).is_file() else None


def usual_quarantine(listing: Listing) -> Path | None:
    """A new file in the data's folder for the manifest; None where it cannot be written there."""
    root = manifest_root(listing)
    if root is None or not os.access(root, os.W_OK):
        return None
    folders = {(root / path).parent for path in listing.paths}
    if not all(folder.resolve().is_relative_to(root.resolve()) for folder in folders):
        return None  # linked from elsewhere, as _refuse_unnamed will say
    names = ("checked.csv", *(f"checked-{k}.csv" for k in range(2, 100)))
    return next((root / name for name in names if not (root / name).exists()), None)


def refuse_quarantine(listing: Listing, file: Path) -> None:
    """Raise UsageError or DataError where no manifest of these data can be written to `file`."""
    root = manifest_root(listing)
    if root is None:
        what = "images with masks or boxes" if listing.annotation in ("mask", "box") else "an archive or arrays"
        raise DataError(
            f"{_OPTION} {file}",
            f"{what}, whose samples cannot be listed in a manifest",
            "a folder with one subfolder per class, or a manifest",
            "unpack an archive and give the folder; otherwise leave out --quarantine: --json names every sample",
        )
    place = f"{_OPTION} {pasted(usual_quarantine(listing) or root / 'checked.csv')}"
    if file.suffix.lower() != ".csv":
        raise UsageError(_OPTION, f"{file}, a file that ends in {file.suffix or 'nothing'}", "a .csv file", place)
    if os.path.lexists(file):
        raise UsageError(str(file), "it exists already", "a new file: nothing is overwritten", place)
    parent = Path(os.path.realpath(file.absolute().parent))
    if not parent.is_dir() or not Path(os.path.realpath(root)).is_relative_to(parent):
        raise UsageError(
            _OPTION, str(file), f"a file in {root} or a folder above: a manifest names files beside and below it", place
        )


def manifest_text(check: DataCheck, file: Path) -> str:
    """The text of the manifest `path,label,split` that is written to `file`.

    Other annotations have their own columns in place of `label`. There is a column `group` where samples must stay
    together. Raises DataError where no sample is left, or a manifest cannot name a file.
    """
    listing = check.evidence.listing
    root = manifest_root(listing)
    assert root is not None
    parent = Path(os.path.realpath(file.absolute().parent))
    prefix = Path(os.path.realpath(root)).relative_to(parent)
    left_out = check.left_out
    kept = [number for number in check.evidence.readable if number not in left_out]
    if not kept:
        raise DataError(f"{_OPTION} {file}", "no sample is left", "some samples without a defect", "fix the data first")
    _refuse_unnamed(file, root, parent, [listing.paths[number] for number in kept])
    groups = _groups(listing, check.sample_findings)
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    kind = annotation_kind(listing.annotation)
    writer.writerow(["path", *kind.manifest_columns(listing), "split", *(["group"] if groups else [])])
    for number in kept:
        path, fields = (prefix / listing.paths[number]).as_posix(), kind.manifest_fields(listing, number)
        row = [path, *fields, listing.given[number] or ""]
        writer.writerow([*row, groups.get(number, "")] if groups else row)
    return out.getvalue()


def _refuse_unnamed(file: Path, root: Path, parent: Path, paths: list[str]) -> None:
    """Raise DataError for paths that a manifest cannot name: links out of its folder, or spaces around a name."""

    def can_be_named(path: str) -> bool:
        real = Path(os.path.realpath(root / path))
        return path == path.strip() and real.is_relative_to(parent) and real.is_file()

    if unnamed := [path for path in paths if not can_be_named(path)]:
        raise DataError(
            f"{_OPTION} {file}",
            f"{several(len(unnamed), 'file')} that a manifest cannot name (a link to another folder, or spaces around"
            f" the name): {some(unnamed)}",
            "files below the manifest, whose names do not begin or end with spaces",
            "copy such a file instead of linking it, or rename it; or write the manifest to a folder above both",
        )


def _groups(listing: Listing, marked: tuple[SampleFinding, ...]) -> dict[int, str]:
    """The group of each sample that has one: groups of the source, merged where samples must stay together."""
    groups = {number: group for number, group in enumerate(listing.groups) if group}
    members: dict[str, set[int]] = {}
    for number, group in groups.items():
        members.setdefault(group, set()).add(number)
    taken = set(members)
    for place, linked in enumerate(group for mark in marked for group in mark.together):
        joined = sorted({groups[number] for number in linked if number in groups})
        name = joined[0] if joined else _new_name(f"alike {place + 1}", taken)
        everyone = set(linked).union(*(members.pop(group, set()) for group in joined))
        members[name] = everyone
        groups.update(dict.fromkeys(everyone, name))
    return groups


def _new_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name
