"""`striate data check`, and its result as text for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.api.fields_of_data import CHECKED
from striate.cli.fields import Flag, takes_fields
from striate.errors import pasted
from striate.wording import filled, finding_text, listed, several

if TYPE_CHECKING:
    from striate.data.audit.data_check import DataCheck


@takes_fields(*CHECKED)
def check(
    data: str | None = None,
    /,
    *,
    fields: dict[str, Any],
    labels: Flag = False,
    quarantine: Path | None = None,
    sheet: Path | None = None,
    against: Path | None = None,
    config: Path | None = None,
    json: Flag = False,
) -> int:
    """Find problems in a data set: damaged files, duplicates, leaks between splits, doubtful labels.

    Every sample is read and decoded. Nothing is changed or deleted. Exit code 1 if there is an error, 0 otherwise, also
    with warnings; 2 if the data cannot be listed at all.

    Parameters
    ----------
    data
        Data in any form that `striate train` takes. Default: mnist5k.
    labels
        Also look for labels that are likely wrong: each sample is classified by a classifier that is fitted to the
        others. Takes minutes for tens of thousands of images.
    quarantine
        Write a manifest (.csv: path,label,split) that `striate train` takes. It leaves out unreadable files, blank
        images, images with two labels, and training images that are in val or test too. Where the data have no splits,
        copies of an image get the same group. The manifest lies in the folder of the data or above. Never overwrites a
        file.
    sheet
        Draw the worst of what was found: a PNG. Never overwrites a file.
    against
        A run: compare the data with its held-out samples instead, by the features of its network and by brightness,
        contrast and sharpness, and name those that are least like them (drift). The data may then be a folder of
        pictures without labels.
    config
        A config.yaml, for example of a run: its data.
    json
        Print one JSON document on stdout, with every sample that a finding is about.
    """
    from striate.api import check_data
    from striate.cli.output import exit_code, print_note, print_result, results_only, stdout

    if against is not None:
        others: dict[str, object] = {
            "--labels": labels,
            "--quarantine": quarantine,
            "--sheet": sheet,
            "--config": config,
        }
        others |= {f"--{name}": value for name, value in fields.items()}
        return _print_drift(against, data, [name for name, value in others.items() if value], json=json)
    with results_only(json):
        checked = check_data(
            data,
            labels=labels,
            quarantine=quarantine,
            sheet=sheet,
            config=config,
            set=fields,
            announce=print_note,
        )
    print_result(checked, check_text(checked, stdout().width), json=json)
    return exit_code(checked.findings)


def _print_drift(run: Path, data: str | None, others: list[str], *, json: bool) -> int:
    from striate.api import data_drift
    from striate.cli.output import exit_code, print_note, print_result, results_only, stdout
    from striate.errors import UsageError, one_line

    if data is None or others:
        got = "no data to compare with the run" if data is None else f"--against with {others[0]}"
        remedy = f"striate data check {'NEW' if data is None else pasted(data)} --against {pasted(run)}"
        raise UsageError("striate data check", got, "only new data and a run", remedy)
    with results_only(json):
        found = data_drift(run, data, announce=print_note)
    texts = (finding_text(finding, max(40, stdout().width)) for finding in found.findings)
    print_result(found, "\n".join(map(one_line, found.lines())) + "\n" + "\n\n".join(["", *texts]), json=json)
    return exit_code(found.findings)


def check_text(check: DataCheck, width: int) -> str:
    """The checked data, the findings, and the written files, in lines of at most `width` letters."""
    width = max(40, width)
    parts = [_what(check, width), *(finding_text(finding, width) for finding in check.findings)]
    counts = check.counts()
    found = listed([several(number, severity) for severity, number in counts.items() if number])
    parts.append(found or "Nothing was found.")
    if check.quarantine is not None:
        rows = check.quarantine.read_text(encoding="utf-8").count("\n") - 1
        task = " --task regress" if check.evidence.listing.has_numbers else ""
        parts.append(
            f"{check.quarantine}: {several(rows, 'sample')}. To train on:\n"
            f"  striate train {pasted(check.quarantine)}{task}"
        )
    if check.remedy:
        left = len(check.left_out)
        what = f"leave out {several(left, 'sample')}" if left else "keep similar samples together"
        parts.append(f"A manifest to {what}:\n  {check.remedy}")
    if check.label_command:
        parts.append(f"To look for labels that are likely wrong:\n  {check.label_command}")
    if check.sheet is not None:
        parts.append(f"{check.sheet}")
    return "\n\n".join(parts)


def _what(check: DataCheck, width: int) -> str:
    listing = check.evidence.listing
    many = listing.medium.many
    sizes = ", ".join(f"{count:,} {name}" for name, count in check.sizes.items()) or "0 readable"
    made = [name for name in check.sizes if name not in listing.given]
    splits = "given splits"
    if made:
        splits = f"{listed(made)} as striate train cuts {'it' if len(made) == 1 else 'them'}"
    if len(made) == len(check.sizes):
        splits = "splits as striate train makes them"
    from striate.data.annotations.annotation_kinds import annotation_kind

    classes = annotation_kind(listing.annotation).counted(listing, check.evidence.readable)
    count = several(len(listing), many.removesuffix("s"), many)
    head = f"{listing.name}: {count}; {sizes} ({splits}); {check.inputs}"
    return "\n".join(filled(line, width) for line in (head, classes, *listing.notes) if line)
