"""`striate datasets`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def datasets(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the data sets that have a name, with size, license, and whether they are on this machine.

    Parameters
    ----------
    json
        Print one JSON document on stdout.
    """
    from dataclasses import asdict

    from rich.table import Table

    from striate.cli.output import print_json, stdout
    from striate.data.named import catalogue, place

    if json:
        print_json([asdict(info) | {"where": place(info.name)} for info in catalogue()])
        return 0
    table = Table(
        "name", "samples", "classes", "shape", "license", "where", box=None, pad_edge=False, header_style="bold"
    )
    for info in catalogue():
        table.add_row(info.name, "", "", "", info.license, place(info.name) or "not here")
    stdout().print(table)
    return 0
