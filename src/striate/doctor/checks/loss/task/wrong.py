"""What a rule of loss.wrong-for-task says where it is broken."""

from __future__ import annotations

from typing import Any, NamedTuple

ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


class Wrong(NamedTuple):
    """Severity, what was measured, why it matters, the line to change, and from which measure on the rule speaks."""

    severity: Any
    measured: str
    why: str
    remedy: str
    limit: str
