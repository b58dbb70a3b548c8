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
    """Cut out what a run finds in the pictures of a data set, upright, for another network to learn from.

    Of a run of boxes it cuts out the boxes, rotated ones turned upright; of a run of points what lies around them,
    turned and scaled so that they lie where they usually do. Each crop has the label, the split and the group of its
    picture. Pictures in which nothing is found are named; the data stay as they are. Exit code 1 if some could not be
    read.

    Parameters
    ----------
    data
        Pictures with a class or a number each: a folder a class, an archive, or a manifest.
    run
        The run that finds: of boxes, or points.
    out
        A new folder, or an empty one. `striate train DIR/crops.csv` learns from it; found.csv says where each crop
        comes from, and which pictures have none.
    every
        All that is found in a picture, not the most probable alone. What comes from one picture stays in one split.
    margin
        How much more is cut out on every side, as a share of that side.
    size
        Height and width of all crops in pixels: 96, or 96x128. What is cut out is made wider or higher for it, and
        scaled, not stretched. Default: each has its own size.
    threshold
        The score from which on something is found. Default: that of the run.
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
            print_text(f"{written.further:,} more found, with lower scores: --all cuts them out, too")
        if written.nothing:
            named = ", ".join(written.nothing[:_NAMED])
            rest = ", …" if len(written.nothing) > _NAMED else ""
            found = several(len(written.nothing), "picture")
            print_text(one_line(f"nothing found in {found}: {named}{rest} (all are in found.csv)"))
    for name in written.unreadable:
        print_note(f"unreadable, left out: {name}")
    return 1 if written.unreadable else 0
