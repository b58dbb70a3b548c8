"""What is said of augmentation, whatever it does."""

from __future__ import annotations

from striate.records import Finding, Severity


def augmentation_finding(
    place: str, measured: str, *, why: str, remedy: str, threshold: str, severity: Severity = "error"
) -> Finding:
    """`place`: "loader", or "step" where the training step changes what the loader yields."""
    return Finding(
        code="data.augmentation",
        severity=severity,
        where="the augmentation of training inputs" + (", in the training step" if place == "step" else ""),
        measured=measured,
        threshold=threshold,
        why=why,
        remedy=remedy,
    )
