"""Names of layers and parameters in a line of text."""

from __future__ import annotations

from collections.abc import Sequence


def some_names(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown
