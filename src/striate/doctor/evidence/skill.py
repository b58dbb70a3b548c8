"""How much of the way from a guess to right predictions a network has gone, whatever its loss says."""

from __future__ import annotations

from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.quality import classes_of, quality


def skill(predictions: Predictions, *, as_they_are: bool = False) -> float | None:
    """0 of guesses, 1 of right predictions: of classes each counts alike, as weights of classes ask for; of quantities
    it is the share of their variance that a line through the predictions explains, or that predictions `as_they_are`
    explain. None where that cannot be told."""
    found = quality(predictions.outputs, predictions.targets)
    if found is None or (found.kind != "numbers" and found.accuracy is None):
        return None
    if found.kind == "numbers":
        return 1 - found.loss / max(found.constant, 1e-12) if as_they_are else found.explained
    recall, classes = _recall(predictions)
    return (recall - 1 / classes) / (1 - 1 / classes) if classes > 1 else None


def skill_in_words(predictions: Predictions, *, as_they_are: bool = False) -> str:
    """The same in words."""
    found = quality(predictions.outputs, predictions.targets)
    if found is not None and found.kind == "numbers" and as_they_are:
        return f"R² is {skill(predictions, as_they_are=True):.2f}"
    if found is not None and found.kind == "numbers":
        return f"predictions explain {found.explained:.0%} of the targets' variance"
    recall, classes = _recall(predictions)
    return f"{recall:.0%} of the predictions are right, each class counted alike (a guess: {1 / max(classes, 1):.0%})"


def _recall(predictions: Predictions) -> tuple[float, int]:
    """The share of right predictions, each class counted alike, and how many classes there are."""
    known = predictions.targets
    predicted = classes_of(predictions.outputs, known)
    if known is None or predicted is None:
        return 0.0, 0
    labels = known.reshape(predicted.shape).long()
    kinds = labels[labels >= 0].unique()
    shares = [float((predicted[labels == kind] == kind).double().mean()) for kind in kinds]
    return sum(shares) / max(len(shares), 1), len(shares)
