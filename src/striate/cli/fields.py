"""Fields of the configuration as a user types them: named options, and `--set FIELD=VALUE`.
Sizes as a user types them: `3x224x224`, `13`, `1x2`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from striate.errors import UsageError
from striate.tasks.every import TASKS
from striate.training.request import asked_fields

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


def read_sizes(option: str, text: str, example: str) -> tuple[int, ...]:
    """Whole numbers with x or × between them. Raises UsageError with `example` as the remedy: what follows the option,
    or, for an argument that is none, the whole command."""
    parts = re.split("[x×]", text.strip().lower())
    # Nine digits are more than any limit behind this.
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        remedy = f"{option} {example}" if option.startswith("-") else example
        raise UsageError(option, repr(text[:60]), "whole numbers with x between them", remedy)
    return tuple(map(int, parts))
