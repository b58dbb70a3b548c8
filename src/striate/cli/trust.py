"""`striate trust`."""

from __future__ import annotations


def trust(code: str, /) -> int:
    """Allow the code of a file to run where a run or a configuration names it.

    A task, loss, optimizer, transform or network that you type as an option needs no `trust`. This command runs
    nothing; read the file first.

    Parameters
    ----------
    code
        path/to/file.py:name
    """
    from striate.cli.output import print_text
    from striate.errors import UsageError
    from striate.models.from_file import names_file, refuse_missing_name, resolve_name, source_digest
    from striate.models.trusted_code import trust_named

    if not names_file(code):
        raise UsageError("striate trust", repr(code), "path/to/file.py:name", "striate trust my_task.py:MyTask")
    digest = source_digest(code)  # refuses what is not there
    refuse_missing_name(code)
    trust_named(code)
    print_text(f"may be run from now on: {resolve_name(code)}\nSHA-256 of the file:    {digest}")
    return 0
