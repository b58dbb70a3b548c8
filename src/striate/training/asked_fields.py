"""Named arguments and dotted fields as one request, in which nothing is said twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from striate.errors import UsageError


def asked_fields(
    given: Mapping[str, Any], fields: Mapping[str, Any], remedy: str = 'leave out set["{}"]'
) -> dict[str, Any]:
    """The dotted fields that were asked for: those of `given`, named arguments, that are not None, and `fields`.

    `remedy` has {} where the field's name belongs. Raises UsageError where the two contradict each other.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    for name in fields.keys() & asked.keys():
        if str(fields[name]).lower() != str(asked[name]).lower():
            raise UsageError(name, f"both {asked[name]} and {fields[name]}", "one value", remedy.format(name))
    return asked | dict(fields)
