"""Sizes as a user types them: `3x224x224`, `13`, `1x2`."""

from __future__ import annotations

import re

from striate.errors import UsageError


def read_sizes(option: str, text: str, example: str) -> tuple[int, ...]:
    """Whole numbers with x or × between them. Raises UsageError with `example` as the remedy: what follows the option,
    or, for an argument that is none, the whole command."""
    parts = re.split("[x×]", text.strip().lower())
    # Nine digits are more than any limit behind this.
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        remedy = f"{option} {example}" if option.startswith("-") else example
        raise UsageError(option, repr(text[:60]), "whole numbers with x between them", remedy)
    return tuple(map(int, parts))
