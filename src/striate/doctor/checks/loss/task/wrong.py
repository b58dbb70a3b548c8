"""What a rule of `loss.wrong-for-task` reports."""

from __future__ import annotations

from typing import Any, NamedTuple

BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


class Wrong(NamedTuple):
    """A loss that does not fit its task; the fields are those of a finding."""

    severity: Any
    measured: str
    why: str
    remedy: str
    limit: str
    """From which measure on the rule reports it."""
