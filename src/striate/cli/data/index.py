"""`striate data index`."""

from __future__ import annotations

from pathlib import Path

from striate.cli.fields import Flag
from striate.errors import one_line, pasted
from striate.wording import several


def index(shards: Path, /, *, json: Flag = False) -> int:
    """Read all WebDataset shards of a folder, and write the index that training needs.

    `striate data pack --shards` writes shards.json itself, last, so that a folder without it may be incomplete. Run
    this command once for shards that other programs or old versions of striate wrote, when all of them are there. An
    incomplete folder that striate wrote is refused.

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
    words = f"{several(written.samples, 'sample')} in {several(written.shards, 'shard')}. Check that"
    words = one_line(f"{words} this is the number you expect. Used by: striate train {pasted(written.path)}")
    print_result(vars(written) | {"path": str(written.path)}, words, json=json)
    return 0
