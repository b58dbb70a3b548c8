"""Fields of the configuration as a user types them: named options, and `--set FIELD=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from striate.errors import UsageError
from striate.tasks.every import TASKS
from striate.training.asked_fields import asked_fields

TaskName = Annotated[
    str | None,
    Parameter(
        help=f"{', '.join(TASKS)}, one that an installed package registers, or file.py:name, which RUNS that file."
        " Default: what the labels are."
    ),
]
"""`--task` of every verb that reads data as a task does."""


def chosen_fields(given: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The dotted fields that were chosen: those of `given` that are not None, and `assignments`, which are
    `FIELD=VALUE`. Raises UsageError where the two contradict each other, or an assignment has no `=`."""
    return asked_fields(given, _parse(assignments), "leave out --{}")


def _parse(assignments: Sequence[str]) -> dict[str, str | None]:
    fields: dict[str, str | None] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError("--set", repr(assignment), "FIELD=VALUE", "--set optim.lr=0.01")
        fields[name] = None if value in ("null", "None") else value
    return fields
