"""From the text of a layer string to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from striate.models.layer_strings.fault import Edit, Fault
from striate.models.layer_strings.words import MAX_NUMBER, Value

TOO_LARGE = MAX_NUMBER + 1
"""What every number beyond MAX_NUMBER is read as; what it stands for decides what is suggested instead."""

# Possessive quantifiers: no text makes this backtrack.
_TOKEN = re.compile(
    r"""(?P<space>\s++)
      | (?P<size>[0-9]++(?:x[0-9]++)++)
      | (?P<float>[+-]?+(?:[0-9]++\.[0-9]*+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+|[+-]?+[0-9]++[eE][+-]?+[0-9]++)
      | (?P<int>[+-]?+[0-9]++)
      | (?P<target>self(?:\.[A-Za-z_][A-Za-z0-9_]*+)++(?=\s*+=))
      | (?P<word>(?:(?:torch\.)?+nn\.)?+[A-Za-z_][A-Za-z0-9_]*+(?:-[A-Za-z0-9_]++)*+)
      | (?P<text>"[^"]*+"|'[^']*+')
      | (?P<mark>[][(),=*])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """`kind` is `int float size word text`, a punctuation mark itself, or `end`; `self.conv1 =` begins with a word."""

    kind: str
    value: Value
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """All tokens of the text, the last one of kind `end`, no number beyond ±TOO_LARGE.

    Raises Fault at a character that begins no token.
    """
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            character = text[position]
            unclosed = character in "\"'"
            between = text[position - 1 : position].isdecimal() and text[position + 1 : position + 2].isdecimal()
            sizes = [Edit(position, position + 1, "x")] if character == "×" and between else []
            raise Fault(
                position,
                f"a quotation mark that is not closed: {character}" if unclosed else f"the character {character!r}",
                "layer names, numbers, ( ) [ ] , = and *",
                *sizes,
                Edit(position, position + 1, " "),
            )
        kind, found = str(match.lastgroup), match.group()
        if kind != "space":
            name = found if kind == "mark" else "word" if kind == "target" else kind
            tokens.append(Token(name, _value(kind, found), position, match.end()))
        position = match.end()
    return [*tokens, Token("end", None, len(text), len(text))]


def _value(kind: str, found: str) -> Value:
    if kind == "size":
        return tuple(_whole(part) for part in found.split("x"))
    if kind == "int":
        return _whole(found)
    if kind == "float":
        return max(-TOO_LARGE, min(float(found), TOO_LARGE))
    return found[1:-1] if kind == "text" else found


def _whole(found: str) -> int:
    digits = found.lstrip("+-").lstrip("0")
    # By length first: int() of thousands of digits is slow, and refused by Python itself.
    number = TOO_LARGE if len(digits) > len(str(MAX_NUMBER)) else min(int(digits or 0), TOO_LARGE)
    return -number if found.startswith("-") else number
