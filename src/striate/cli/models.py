"""`striate models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from striate.models.model_info import ModelInfo


def models(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the networks that have a name.

    Parameters
    ----------
    json
        Print one JSON document on stdout.
    """
    from rich.table import Table

    from striate.cli.output import print_json, print_text, stdout
    from striate.models.registry import describe_model

    entries = describe_model()
    if json:
        print_json([_plain(info) for info in entries])
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "year", "parameters", "what it is"):
        table.add_column(column, justify="right" if column == "parameters" else "left", no_wrap=column == "name")
    for info in entries:
        table.add_row(info.name, str(info.year), f"{info.published_parameters:,}", info.description)
    stdout().print(table)
    print_text('\nAny layer string is a network too: --model "conv(16,5) relu pool(2) fc(10)"')
    return 0


def _plain(info: ModelInfo) -> dict[str, Any]:
    from striate.models.words import show_signature

    return {
        "name": info.name,
        "signature": show_signature(info.name, info.parameters),
        "year": info.year,
        "description": info.description,
        "source": info.source,
        "input_shape": list(info.input_shape),
        "outputs": info.outputs,
        "params": info.published_parameters,
    }
