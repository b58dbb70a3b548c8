"""End-of-sentence tokens that have the same number as padding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import target_rows
from striate.doctor.evidence.token_targets import SAME, token_inputs

_NAMES = re.compile(r"(?i:(^|_)(eos|eot)(_|$))|^(END|STOP)(_|$)")
_WORDS = re.compile(r"</s>|\W*(eos|eot|end|stop|endoftext|end_of_text)\W*", re.IGNORECASE)
"""Names of variables and attributes, and words in a vocabulary, for the end of a sentence. A variable `end` is left
out, since it may be any number."""


def name_of_end(evidence: Evidence, target: torch.Tensor, filler: int) -> str:
    """The script's name for the end of a sentence, where its number is the filler of rows of next tokens.

    Each row, the longest too, has to end with the filler. Empty where it does not, or where another number is the end.
    """
    rows = target_rows(evidence, target)
    if evidence.setup.source is None or rows is None:
        return ""
    for placed in (rows, rows.T):
        filled = placed == filler
        lengths = (~filled).sum(1)
        if not bool(filled[:, -1].all()) or len(lengths.unique()) < 2 or not int(lengths.min()):
            continue
        last = placed.gather(1, lengths[:, None] - 1)
        if len(last.unique()) > 1 and _are_next(evidence, placed, ~filled):
            return next(_called(evidence.source.names, filler), "")
    return ""


def _are_next(evidence: Evidence, rows: torch.Tensor, counted: torch.Tensor) -> bool:
    """Whether targets are the next tokens of a network's input; tags of words may have the number by chance."""
    for tokens in chain((tokens for _, _, tokens in token_inputs(evidence)), evidence.calls.looked_up):
        for known in (tokens, tokens.T):
            length = min(known.shape[1] - 1, rows.shape[1])
            if len(known) == len(rows) and length >= rows.shape[1] - 1 > 0:
                same = (known[:, 1 : length + 1] == rows[:, :length])[counted[:, :length]]
                if float(same.float().mean()) >= SAME:
                    return True
    return False


def _called(names: Mapping[str, Any], number: int) -> Iterator[str]:
    """Names for the end of a sentence with this number: variables, attributes, and words in a vocabulary."""
    for name, value in names.items():
        if type(value) is int and value == number and _NAMES.search(name):
            yield name
        elif isinstance(value, dict):
            for word in (word for word, known in value.items() if type(known) is int and known == number):
                if isinstance(word, str) and _WORDS.fullmatch(word):
                    yield f"{name}[{word!r}]"
        else:
            held = getattr(value, "__dict__", None)
            for attribute, known in held.items() if isinstance(held, dict) and not isinstance(value, type) else ():
                if type(known) is int and known == number and _NAMES.search(attribute):
                    yield f"{name}.{attribute}"
