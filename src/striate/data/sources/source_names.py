"""`data.names`: the names of columns or arrays in a source, where they differ from striate's."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from striate.errors import ConfigError, pasted
from striate.records import Remedy
from striate.wording import listed


def parse_names(text: str | None) -> dict[str, str]:
    """`path=filename,label=species` as a mapping from striate's name to the name in the source. Raises ConfigError."""
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, sign, given = (word.strip() for word in part.partition("="))
        if not (name and sign and given) or name in found:
            raise ConfigError(
                "data.names",
                repr(text),
                "NAME=NAME IN THE FILE, separated by commas",
                "--data.names path=file,label=kind",
            )
        found[name] = given
    return found


def check_names(names: Mapping[str, str], there: Collection[str], known: Collection[str]) -> None:
    """Raise ConfigError if `data.names` has a name that striate does not read, or one that the source lacks.

    `there`: names in the source. `known`: names that striate reads."""
    for name, given in names.items():
        if name not in known or given not in there:
            got = f"{name}={given}"
            wrong = (
                f"one of {listed(sorted(known), 12)} before ="
                if name not in known
                else f"one of {listed(list(there), 20)} after ="
            )
            near = difflib.get_close_matches(given, list(there), 1)
            right = near[0] if near else name if name in there else min(there)
            key = next((one for one in (name, right) if one in known), min(known))
            raise ConfigError("data.names", got, wrong, f"--data.names {pasted(f'{key}={right}')}")


def names_remedy(names: Mapping[str, str], words: str = "") -> Remedy:
    """The remedy that sets `data.names` to these."""
    text = ",".join(f"{name}={given}" for name, given in names.items())
    return Remedy(f"{words}--data.names {pasted(text)}", settings={"data.names": text})
