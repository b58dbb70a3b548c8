"""`striate env`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def env(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Print what a bug report needs: machine and versions.

    Parameters
    ----------
    json
        Print one JSON document on stdout.
    """
    from striate.cli.output import print_json, print_text
    from striate.runs.environment import describe_environment

    environment = describe_environment()
    if json:
        print_json(environment)
        return 0
    packages = environment.pop("packages")
    for name, value in (environment | packages).items():
        print_text(f"{name:<16}{value if value not in (None, []) else '-'}")
    return 0
