"""Exceptions that the loss raises in the first step, with the reason and the remedy."""

from __future__ import annotations

import re

from striate.doctor.evidence.evidence import Evidence

_MESSAGES: tuple[tuple[str, str, str], ...] = (
    (
        r"Expected floating point type for target with class probabilities",
        "The loss takes targets with an axis of classes as probabilities, but these are integers.",
        "pass class numbers, `targets.argmax(1)`; if several classes may be right, use `nn.BCEWithLogitsLoss()` with "
        "`targets.float()`",
    ),
    (
        r"only batches of spatial targets supported",
        "Cross entropy of maps expects class numbers (N, H, W), without a channel axis.",
        "pass `targets.squeeze(1)`",
    ),
    (
        r"multi-target not supported|0D or 1D target tensor expected",
        "Cross entropy expects one class number per sample, in the shape (N,).",
        "pass `targets.squeeze(1)`, or `targets.argmax(1)` if they are one-hot",
    ),
    (
        r"all elements of (input|target) should be between 0 and 1",
        "nn.BCELoss expects probabilities, but scores may have any value.",
        "use `nn.BCEWithLogitsLoss()` on the scores",
    ),
    (
        r"grad can be implicitly created only for scalar outputs",
        "Backward starts at a single number, but this loss has one for each sample.",
        "take its mean: `loss.mean().backward()`, or leave `reduction` at 'mean'",
    ),
    (
        r"Found dtype Long but expected|can't be cast to the desired output type Long",
        "This loss compares quantities, but the targets are integers.",
        "pass `targets.float()`; for classes, use `nn.CrossEntropyLoss()`",
    ),
    (
        r"expected scalar type Long|expected.*Long|not implemented for '(Int|Float|Double|Char|Short|Byte|Bool)'",
        "This loss expects class numbers of type int64.",
        "pass `targets.long()`",
    ),
    (
        r"[Tt]arget size .*input size|size of tensor a|[Ee]xpected target size|batch_size .* to match target",
        "The loss cannot compare outputs and targets of these shapes.",
        "for classes: `nn.CrossEntropyLoss()` with outputs (N, K) and targets (N,); for quantities: outputs and "
        "targets of the same shape",
    ),
)


def raised_by_loss(evidence: Evidence) -> tuple[str, str, str] | None:
    """What was measured, why it matters, and the remedy, where the loss or backward raised an exception in the first
    step; None where it did not, or where another check reports the exception."""
    trial = evidence.trial
    if trial.error is None or trial.rows or trial.phase not in ("loss", "backward"):
        return None
    text = " ".join(str(trial.error).split())
    measured = f"the first step raises {type(trial.error).__name__}: {text[:160]}"
    if "out of bounds" in text:
        outputs = trial.first.loss_outputs if trial.first.loss_outputs is not None else trial.first.outputs
        if outputs is not None and outputs.ndim > 1 and outputs.shape[1] == 1:
            why = "Cross entropy needs an output for each class, but there is only one."
            return measured, why, "give the last layer an output for each class, or use `nn.BCEWithLogitsLoss()`"
        return None
    for pattern, why, remedy in _MESSAGES:
        if re.search(pattern, text):
            return measured, why, remedy
    return None
