"""`striate data crop`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from striate.cli.fields import Flag
from striate.errors import one_line, pasted
from striate.wording import several

_NAMED = 10


def crop(
    data: str,
    /,
    *,
    run: Annotated[Path, Parameter(name="--with")],
    out: Path,
    every: Annotated[bool, Parameter(name="--all", negative=())] = False,
    margin: float = 0.1,
    size: str | None = None,
    threshold: float | None = None,
    json: Flag = False,
) -> int:
    """Cut out what a run detects in the pictures of a data set, upright, to train another network on.

    With a run that predicts boxes, the boxes are cut out, and rotated boxes turned upright. With a run that predicts
    points, the region around them is cut out, turned and scaled so that the points lie at their usual places.
    Each crop has the label, the split and the group of its picture. Pictures in which nothing is found are named; the
    data stay as they are. Exit code 1 if some could not be read.

    Parameters
    ----------
    data
        Pictures with a class or a number each: a folder a class, an archive, or a manifest.
    run
        A run that predicts boxes or points.
    out
        A new folder, or an empty one. `striate train DIR/crops.csv` learns from it; found.csv says where each crop
        comes from, and which pictures have none.
    every
        Cut out everything that is found in a picture, not only the most probable. All crops of a picture stay in one
        split.
    margin
        Margin around the box on every side, as a share of that side.
    size
        Height and width of all crops in pixels: 96, or 96x128. The region is made wider or higher to fit, and
        scaled, not stretched. Default: each crop has its own size.
    threshold
        Smallest score of a detection. Default: the threshold of the run.
    json
        Print one JSON document on stdout.
    """
    from striate.api import crop_data
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        written = crop_data(
            data, run, out, every=every, margin=margin, size=size, threshold=threshold, announce=print_note
        )
    if json:
        lists = {"nothing": list(written.nothing), "unreadable": list(written.unreadable)}
        print_json(vars(written) | {"path": str(written.path), "data": str(written.data)} | lists)
    else:
        what = f"{several(written.crops, 'crop')} of {several(written.files, 'picture')}"
        print_text(one_line(f"{written.path}: {what}. To train on: striate train {pasted(written.data)}"))
        if written.further:
            print_text(f"{written.further:,} more with lower scores were found: --all cuts them out, too")
        if written.nothing:
            named = ", ".join(written.nothing[:_NAMED])
            rest = ", …" if len(written.nothing) > _NAMED else ""
            found = several(len(written.nothing), "picture")
            print_text(one_line(f"nothing found in {found}: {named}{rest} (all are in found.csv)"))
    for name in written.unreadable:
        print_note(f"unreadable, left out: {name}")
    return 1 if written.unreadable else 0
