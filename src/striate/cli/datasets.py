"""`striate datasets`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def datasets(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the data sets that have a name, and where they are.

    The table has size, license, and whether the set is on this machine.

    Parameters
    ----------
    json
        Print one JSON document on stdout.
    """
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from striate.cli.output import print_json, print_text, stdout
    from striate.data.sources.named import catalogue, place
    from striate.errors import one_line
    from striate.wording import show_shape

    if json:
        print_json([asdict(info) | {"size_bytes": info.size_bytes, "where": place(info.name)} for info in catalogue()])
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "samples", "classes", "shape", "license", "where"):
        table.add_column(column, justify="right" if column in ("samples", "classes") else "left", overflow="fold")
    for info in catalogue():
        shape = show_shape(info.shape)
        where = place(info.name) or f"not here ({info.size_bytes / 1e6:,.0f} MB)"
        # A path is no markup, whatever brackets and control characters it has.
        place_text = Text(one_line(where))
        samples, classes = f"{sum(info.samples):,}", f"{len(info.classes) or '–'}"
        table.add_row(info.name, samples, classes, shape, info.license, place_text)
    stdout().print(table)
    print_text("\nA set that is not here is downloaded when it is first used; or put it under STRIATE_DATA.")
    return 0
