"""An error as a page shows it."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

from striate.errors import InputMisfit, LayerStringError, StriateError
from striate.lab.page_words import in_page_words

TRACEBACK = "STRIATE_TRACEBACK"


def problem_record(error: StriateError) -> dict[str, Any]:
    """The error's object, in a page's words; with the character of a layer string, or an input that would fit.

    Where a mistake is a usual answer, as while somebody types, an endpoint returns `{"error": problem_record(error)}`
    with status 200: browsers write any other status on their console.
    """
    record = error.to_json()
    if isinstance(error, LayerStringError):
        record |= {"text": error.text, "position": error.position}
    if isinstance(error, InputMisfit):
        record |= {"fitting": error.fitting, "instead": error.instead}
    return in_page_words(record)


def fault_record(error: Exception) -> dict[str, Any]:
    """An exception that nobody foresaw, as a page shows it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return {
        "where": f"a fault in striate or in code that it ran ({Path(place.filename).name}, line {place.lineno})",
        "got": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        "expected": "an answer, or an error that explains itself",
        "remedy": f"report it with the output of: striate env; {TRACEBACK}=1 in the environment shows where it was",
    }


def shows_faults() -> bool:
    """Whether the environment asks for the traces of faults."""
    return bool(os.environ.get(TRACEBACK))
