"""An error as a page shows it.
Errors of the program in the words of a page: fields and choices in the place of options and commands.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from striate.errors import InputMisfit, LayerStringError, StriateError

_NUMBERS = r"\((?:\d+, )*\d+,?\)"
_WORDS = (
    (rf"give it: input_shape={_NUMBERS} in Python, --input (\S+) on the command line", r"write an input shape: \1"),
    (rf"{_NUMBERS} in Python, --input (\S+) on the command line", r"\1"),
    (
        r"a name of `striate models`, a layer string, path/to/file\.py:function.*",
        "a layer string, or a name of the zoo",
    ),
    (r"^striate models$", "choose one of the networks with a name"),
    (r"--kernel ", "write "),
    (r"--(?:input|model) ", ""),
    (r"--padding-mode ", "border "),
    (r"--lr ", "learning rate "),
    (r"--(region|channel|epochs|minutes|recipe)\b", r"\1"),
    (r"padding=\((\d+), \d+\)", r"padding \1"),
    (r"padding_mode=[\"'](\w+)[\"']", r"border \1"),
)
_OPTION = re.compile(r"--[a-z][\w.-]*(?:[ =](?!or\b|and\b)[^\s,;]+)?")


def in_page_words(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of an error, told for who has a page before him; what came stays as it is."""
    parts = {name: record[name] for name in ("where", "expected", "remedy") if isinstance(record.get(name), str)}
    return dict(record) | {name: _for_page(text, record.get("fitting")) for name, text in parts.items()}


def _for_page(text: str, fitting: Any) -> str:
    if text.startswith(('write "', "striate ")) and text != "striate models":  # what a page can write; a command
        return text
    if fitting:
        text = re.sub(r"--size \S+?(?=[,;]|$)", f"the input shape {'x'.join(map(str, fitting))}", text)
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    # What no page has a field for, and is no command already.
    return text if "striate " in text else _OPTION.sub(lambda found: f"{found[0]} on the command line", text)


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
