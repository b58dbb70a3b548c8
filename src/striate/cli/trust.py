"""`striate trust`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def trust(code: str, /, *, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Allow the code of a file to run where a run or a configuration names it.

    A task, loss, optimizer, transform or network that you type as an option needs no `trust`. This command runs
    nothing; read the file first.

    Parameters
    ----------
    code
        path/to/file.py:name
    json
        Print one JSON document on stdout.
    """
    from striate.cli.output import print_result
    from striate.errors import UsageError
    from striate.models.from_file import names_file, refuse_missing_name, resolve_name, source_digest
    from striate.models.trusted_code import trust_named

    if not names_file(code):
        raise UsageError("striate trust", repr(code), "path/to/file.py:name", "striate trust my_task.py:MyTask")
    digest = source_digest(code)  # raises for missing code
    refuse_missing_name(code)
    trust_named(code)
    named = resolve_name(code)
    text = f"may be run from now on: {named}\nSHA-256 of the file:    {digest}"
    print_result({"code": named, "sha256": digest}, text, json=json)
    return 0
