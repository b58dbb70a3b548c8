"""`striate datasets`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

_SIDES: Final[dict[str, Literal["left", "right"]]] = {"samples": "right", "classes": "right"}


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
    console = stdout()
    places = {info.name: place(info.name) for info in catalogue()}
    paths = {name: one_line(where) for name, where in places.items() if where and where != "embedded"}

    def made(shown: dict[str, str]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("name", "samples", "classes", "shape", "license", "where"):
            unbroken = column == "name"  # names are copied
            table.add_column(column, justify=_SIDES.get(column, "left"), overflow="fold", no_wrap=unbroken)
        for info in catalogue():
            where = shown.get(info.name) or places[info.name] or f"not here ({info.size_bytes / 1e6:,.0f} MB)"
            samples, classes = f"{sum(info.samples):,}", f"{len(info.classes) or '–'}"
            # Brackets and control characters of a path are not markup.
            table.add_row(info.name, samples, classes, show_shape(info.shape), info.license, Text(one_line(where)))
        return table

    table, unbounded = made(paths), console.options.update(max_width=10_000)
    whole = console.measure(table, options=unbounded).maximum <= console.width
    console.print(table if whole else made(dict.fromkeys(paths, "here")))
    if not whole and paths:  # a path that is broken cannot be copied
        print_text("\n" + "\n".join(f"{name:<15} {path}" for name, path in paths.items()))
    print_text("\nA set that is not here is downloaded when it is first used; or put it under STRIATE_DATA.")
    return 0
