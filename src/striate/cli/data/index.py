"""`striate data index`."""

from __future__ import annotations

from pathlib import Path

from striate.cli.fields import Flag
from striate.errors import one_line, pasted
from striate.wording import several


def index(shards: Path, /, *, json: Flag = False) -> int:
    """Read WebDataset shards to their end, and write the index without which their folder is not read.

    `striate data pack --shards` writes shards.json itself, last, so that a folder without it may hold a part of the
    data. Shards of other programs, and of versions of striate that wrote none, need it once, when all of them are
    there. A part of what striate wrote is refused.

    Parameters
    ----------
    shards
        A folder with shards.
    json
        Print one JSON document on stdout.
    """
    from striate.api import index_data
    from striate.cli.output import print_note, print_result, results_only

    with results_only(json):
        written = index_data(shards, announce=print_note)
    words = f"{several(written.samples, 'sample')} in {several(written.shards, 'shard')}: if you know how many"
    words = one_line(f"{words} there should be, compare. Used by: striate train {pasted(written.path)}")
    print_result(vars(written) | {"path": str(written.path)}, words, json=json)
    return 0
