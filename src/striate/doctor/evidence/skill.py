"""The skill of predictions, from 0 for guesses to 1 for right ones, independent of the loss."""

from __future__ import annotations

from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.quality import classes_of
from striate.wording import percent


def skill(predictions: Predictions, *, as_they_are: bool = False) -> float | None:
    """The skill of predictions: 0 for guesses, 1 for right predictions. For classes, each class has the same weight.
    For numeric targets, the share of their variance that a linear function of the predictions explains, or the
    predictions themselves (`as_they_are`). None where outputs are no predictions of the targets."""
    found = predictions.quality
    if found is None or (found.kind != "numbers" and found.accuracy is None):
        return None
    if found.kind == "numbers":
        return 1 - found.loss / max(found.constant, 1e-12) if as_they_are else found.explained
    recall, classes = _recall(predictions)
    return (recall - 1 / classes) / (1 - 1 / classes) if classes > 1 else None


def skill_in_words(predictions: Predictions, *, as_they_are: bool = False) -> str:
    """The skill in words."""
    found = predictions.quality
    if found is not None and found.kind == "numbers" and as_they_are:
        return f"R² is {skill(predictions, as_they_are=True):.2f}"
    if found is not None and found.kind == "numbers":
        return f"predictions explain {percent(found.explained, 0)} of the targets' variance"
    recall, classes = _recall(predictions)
    guess = percent(1 / max(classes, 1), 0)
    return f"{percent(recall, 0)} of the predictions are right, each class counted alike (a guess: {guess})"


def _recall(predictions: Predictions) -> tuple[float, int]:
    """The mean recall of the classes, and the number of classes."""
    known = predictions.targets
    predicted = classes_of(predictions.outputs, known)
    if known is None or predicted is None:
        return 0.0, 0
    labels = known.reshape(predicted.shape).long()
    classes = labels[labels >= 0].unique()
    recalls = [float((predicted[labels == label] == label).double().mean()) for label in classes]
    return sum(recalls) / max(len(recalls), 1), len(recalls)
