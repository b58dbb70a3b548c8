"""`striate data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def check(
    data: str | None = None,
    /,
    *,
    size: str | None = None,
    labels: Annotated[bool, Parameter(negative=())] = False,
    quarantine: Path | None = None,
    sheet: Path | None = None,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Look for what would make a training wrong: damaged files, copies, leaks, doubtful labels.

    Every sample is read and decoded. Nothing is changed or deleted. Exit code 1 if there is an error, 0 otherwise, also
    with warnings; 2 if the data cannot be listed at all.

    Parameters
    ----------
    data
        Data in any form that `striate train` takes. Default: mnist5k.
    size
        Height and width that will be trained with, in pixels: 96, or 96x128.
    labels
        Look for labels that are likely wrong too: each sample is classified by what was learned from the others. Takes
        minutes for tens of thousands of images.
    quarantine
        Write a manifest (.csv: path,label,split) that `striate train` takes: without unreadable files, blank images,
        what has two labels, and what is in val or test too; without given splits, copies get a group that stays
        together. It lies in the folder of the data or above. Never overwrites a file.
    sheet
        Draw the worst of what was found: a PNG. Never overwrites a file.
    config
        A config.yaml, for example of a run: its data.
    set
        A field of the configuration that changes what is read or how it is split, also as --data.layout NCHW: data.*,
        task.name.
    json
        Print one JSON document on stdout, with every sample that a finding is about.
    """
    from striate.api import check_data
    from striate.cli.check_text import check_text
    from striate.cli.fields import chosen_fields
    from striate.cli.output import print_json, print_note, print_text, results_only, stdout

    fields = chosen_fields({}, set or [])
    with results_only(json):
        checked = check_data(
            data,
            size=size,
            labels=labels,
            quarantine=quarantine,
            sheet=sheet,
            config=config,
            set=fields,
            announce=print_note,
        )
    if json:
        print_json(checked.to_json())
    else:
        print_text(check_text(checked, stdout().width))
    return 1 if any(finding.severity == "error" for finding in checked.findings) else 0
