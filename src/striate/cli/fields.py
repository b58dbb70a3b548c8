"""Fields of the configuration as a user types them: named options, and `--set FIELD=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from striate.errors import UsageError


def chosen_fields(given: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The dotted fields that were chosen: those of `given` that are not None, and `assignments`, which are
    `FIELD=VALUE`. Raises UsageError where the two contradict each other, or an assignment has no `=`."""
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    fields = _parse(assignments)
    for name in fields.keys() & chosen.keys():
        if str(fields[name]).lower() != str(chosen[name]).lower():
            raise UsageError(name, f"both {chosen[name]} and {fields[name]}", "one value", f"leave out --{name}")
    return chosen | fields


def _parse(assignments: Sequence[str]) -> dict[str, str | None]:
    fields: dict[str, str | None] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError("--set", repr(assignment), "FIELD=VALUE", "--set optim.lr=0.01")
        fields[name] = None if value in ("null", "None") else value
    return fields
