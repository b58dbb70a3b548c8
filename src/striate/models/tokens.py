"""Characters to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from striate.models.fault import Edit, Fault
from striate.models.words import MAX_NUMBER, Value

# Possessive quantifiers: no text makes this backtrack.
_TOKEN = re.compile(
    r"""(?P<space>\s++)
      | (?P<size>[0-9]++(?:x[0-9]++)++)
      | (?P<float>[+-]?+(?:[0-9]++\.[0-9]*+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+|[+-]?+[0-9]++[eE][+-]?+[0-9]++)
      | (?P<int>[+-]?+[0-9]++)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*+(?:-[A-Za-z0-9_]++)*+)
      | (?P<text>"[^"]*+"|'[^']*+')
      | (?P<mark>[][(),=*])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """`kind` is `int float size word text`, a punctuation mark itself, or `end`."""

    kind: str
    value: Value
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """All tokens of the text, the last one of kind `end`; Fault at a character that none begins with."""
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            character = text[position]
            unclosed = character in "\"'"
            raise Fault(
                position,
                f"a quotation mark that is not closed: {character}" if unclosed else f"the character {character!r}",
                "layer names, numbers, ( ) [ ] , = and *",
                Edit(position, position + 1, " "),
            )
        kind, found = str(match.lastgroup), match.group()
        if kind != "space":
            name = found if kind == "mark" else kind
            tokens.append(Token(name, _value(kind, found, position), position, match.end()))
        position = match.end()
    return [*tokens, Token("end", None, len(text), len(text))]


def _value(kind: str, found: str, position: int) -> Value:
    if kind == "size":
        return tuple(int(_limited(part, part, position, found)) for part in found.split("x"))
    if kind == "int":
        return int(_limited(found, found.lstrip("+-"), position, found))
    if kind == "float":
        value = float(found)
        if abs(value) > MAX_NUMBER:
            raise _too_large(position, found)
        return value
    return found[1:-1] if kind == "text" else found


def _limited(part: str, digits: str, position: int, found: str) -> str:
    # By length first: int() of thousands of digits is slow, and refused by Python itself.
    if len(digits.lstrip("0")) > len(str(MAX_NUMBER)) or int(digits.lstrip("0") or 0) > MAX_NUMBER:
        raise _too_large(position, found)
    return part


def _too_large(position: int, found: str) -> Fault:
    shown = found if len(found) <= 20 else f"{found[:17]}… ({len(found)} characters)"
    # A part is compared as a float, which reads any number of digits and an exponent; its sign is kept.
    new = "x".join(
        _sign(part) + str(MAX_NUMBER) if abs(float(part)) > MAX_NUMBER else part for part in found.split("x")
    )
    return Fault(
        position, f"the number {shown}", f"numbers up to {MAX_NUMBER}", Edit(position, position + len(found), new)
    )


def _sign(part: str) -> str:
    return "-" if part.startswith("-") else ""
