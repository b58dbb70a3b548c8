"""The finding of all checks of augmentation."""

from __future__ import annotations

from striate.records import Finding, Severity


def augmentation_finding(
    place: str, measured: str, *, why: str, remedy: str, threshold: str, severity: Severity = "error"
) -> Finding:
    """A finding of `data.augmentation`. `place`: "loader", or "step" if the training step augments."""
    return Finding(
        code="data.augmentation",
        severity=severity,
        where="the augmentation of training inputs" + (", in the training step" if place == "step" else ""),
        measured=measured,
        threshold=threshold,
        why=why,
        remedy=remedy,
    )
