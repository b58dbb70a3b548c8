"""`striate models`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def models(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the networks that have a name.

    Parameters
    ----------
    json
        Print one JSON document on stdout.
    """
    from dataclasses import asdict

    from rich.table import Table

    from striate.cli.output import print_json, stdout
    from striate.models.registry import MODELS

    if json:
        print_json([asdict(info) for info in MODELS.values()])
        return 0
    table = Table("name", "year", "parameters", "what it is", box=None, pad_edge=False, header_style="bold")
    table.columns[2].justify = "right"
    for info in MODELS.values():
        table.add_row(info.name, str(info.year), f"{info.published_parameters:,}", info.description)
    stdout().print(table)
    stdout().print(
        '\nAny layer string is a network too: striate train mnist5k --model "conv(16,5) relu pool(2) fc(10)"',
        highlight=False,
    )
    return 0
