"""An error as a page shows it."""

from __future__ import annotations

from typing import Any

from striate.errors import InputMisfit, LayerStringError, StriateError


def problem_record(error: StriateError) -> dict[str, Any]:
    """The error's object; with the character of a layer string, or an input that would fit.

    Where a mistake is a usual answer, as while somebody types, an endpoint returns `{"error": problem_record(error)}`
    with status 200: browsers write any other status on their console.
    """
    record = error.to_json()
    if isinstance(error, LayerStringError):
        record |= {"text": error.text, "position": error.position}
    if isinstance(error, InputMisfit):
        record |= {"fitting": error.fitting, "instead": error.instead}
    return record
