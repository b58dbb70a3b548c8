"""Metrics named IoU or Dice that are another one (recall, precision, or each other) for known predictions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

import torch

from striate.data.annotations.masks import IGNORED
from striate.doctor.checks.eval.library_metrics import as_share, words_of
from striate.doctor.checks.eval.perfect_network import scores_with
from striate.doctor.checks.eval.script_evaluation import MOST_STEPS, evaluation_calls
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses
from striate.records import Finding

KINDS = ("IoU", "Dice", "recall", "precision")
_NAMES = {"IoU": frozenset(("iou", "miou", "iu", "jaccard")), "Dice": frozenset(("dice",))}
_NO_SHARES = frozenset(("loss", "soft", "smooth", "std", "min", "max"))
_SURE, _SAME, _NEAR = 20.0, 1e-4, 1e-3
PATTERNS = (3, 4)
"""One in so many labels of the first class is predicted wrong. There are two patterns, since an overlap by another
definition may equal a recall once by chance."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Predicted classes and true ones; a predicted class of -1 does not count."""


def mislabeled_overlaps(evidence: Evidence) -> Iterator[Finding]:
    """Findings for overlaps that the script's evaluation functions return or print."""
    written = words_of(" ".join(map(ast.unparse, evidence.source.trees.values())))
    if not evidence.val.whole or not any(written & names for names in _NAMES.values()):
        return
    ignored = torch.tensor([IGNORED, *(call.ignored for call in class_losses(evidence))])
    for site, function, arguments in evaluation_calls(evidence):
        found = list[dict[str, tuple[float, str, str]]]()
        for each in PATTERNS:
            evidence.clock.need(MOST_STEPS * len(evidence.val.raw) * evidence.step_seconds)
            wrong = _PartlyWrong(ignored, each)
            scores = scores_with(evidence, site, function, arguments, wrong.put)
            known = shares_of(wrong.batches, wrong.classes) if scores else {}
            others = {name: (value, *other) for name, value in scores if (other := actual_kind(name, value, known))}
            found.append(others)
        for name, (value, meant, kind) in found[0].items():
            if all(others.get(name, ("",))[-1] == kind for others in found):
                text = f"`{ast.unparse(site)}` gives `{name}` {value:.4g}"
                yield mislabeled_overlap(site.lineno, text, meant, kind)


class _PartlyWrong:
    """Replaces the outputs of a network that predicts classes, batch by batch, so that a known part is wrong."""

    def __init__(self, ignored: torch.Tensor, each: int) -> None:
        self.ignored, self.each, self.classes = ignored, each, 2
        self.batches: list[Pair] = []

    def put(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        """Outputs that predict partly wrong labels; None where labels are not classes."""
        known = labels.cpu()
        counted = (known >= 0) & ~torch.isin(known, self.ignored)
        known = known.where(counted, 0)
        self.classes = 2 if outputs.numel() == labels.numel() else outputs.shape[1]
        if not bool(counted.any()) or not torch.equal(known, known.long().clamp(max=self.classes - 1).to(known)):
            return None
        predicted = partly_wrong(known.long(), self.classes, self.each)
        self.batches.append((predicted.where(counted, -1), known.long()))
        return _scores(outputs, predicted.to(outputs.device))


def partly_wrong(labels: torch.Tensor, classes: int, each: int) -> torch.Tensor:
    """The labels, with one in `each` replaced by the next class (in `each + 1` or `each + 2` for other classes), so
    that recalls, precisions and overlaps all differ."""
    places = torch.arange(labels.numel(), device=labels.device).reshape(labels.shape)
    return torch.where(places % (each + labels % 3) == 0, (labels + 1) % classes, labels)


def _scores(outputs: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor | None:
    """Outputs that predict these classes, in the form of the network's; None where that has another form."""
    shares = bool(((outputs >= 0) & (outputs <= 1)).all())
    if outputs.numel() == predicted.numel():
        known = predicted.reshape(outputs.shape)
    elif outputs.ndim == predicted.ndim + 1 and outputs.shape[:1] + outputs.shape[2:] == predicted.shape:
        known = torch.nn.functional.one_hot(predicted, outputs.shape[1]).movedim(-1, 1)
    else:
        return None
    return (known if shares else _SURE * (2 * known - 1)).to(outputs.dtype)


def shares_of(batches: Sequence[Pair], classes: int) -> dict[str, list[float]]:
    """The values that IoU, Dice, recall and precision of these predictions can have, by name: of all samples, or as the
    mean over batches or samples; over all classes, or over all but the first."""
    maps = [pair for pair in batches if pair[1].ndim > 1]
    samples = [pair for predicted, labels in maps for pair in zip(predicted, labels, strict=True)]
    overall = [(torch.cat([p.flatten() for p, _ in batches]), torch.cat([w.flatten() for _, w in batches]))]
    known: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for parts in filter(None, (overall, batches, samples)):
        tables = torch.stack([ratios(predicted, labels, classes) for predicted, labels in parts])
        for first in (0, 1):
            for kind, value in zip(KINDS, tables[:, :, first:].nanmean(2).nanmean(0).tolist(), strict=True):
                known[kind].append(value)
    predicted, labels = overall[0]
    right = float((predicted == labels)[predicted >= 0].double().mean())
    known["IoU"].append(right / (2 - right))  # over all classes at once
    known["Dice"].append(right)
    return known


def ratios(predicted: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """IoU, Dice, recall and precision of each class, 4 x classes."""
    counted = predicted >= 0
    table = torch.bincount((labels * classes + predicted)[counted], minlength=classes**2).reshape(classes, -1).double()
    both, rows, columns = table.diag(), table.sum(1), table.sum(0)
    return torch.stack([both / (rows + columns - both), 2 * both / (rows + columns), both / rows, both / columns])


def actual_kind(name: str, value: float, known: dict[str, list[float]]) -> tuple[str, str] | None:
    """The metric that a number is by its name, and the one that it equals; None where these agree, or it equals none of
    the `known` values."""
    for meant in named_kinds(name) if not is_as_named(name, value, known) else ():
        for kind in KINDS:
            if kind != meant and any(abs(as_share(value) - other) < _SAME for other in known.get(kind, ())):
                return meant, kind
    return None


def is_as_named(name: str, value: float, known: dict[str, list[float]]) -> bool:
    """Whether a number equals the metric of its name, by one of its definitions."""
    return any(abs(as_share(value) - right) < _NEAR for meant in named_kinds(name) for right in known.get(meant, ()))


def named_kinds(name: str) -> list[str]:
    """The overlaps that a name names."""
    words = words_of(name)
    return [kind for kind, names in _NAMES.items() if words & names and not words & _NO_SHARES]


def mislabeled_overlap(line: int, text: str, meant: str, kind: str) -> Finding:
    """The finding for a number that is named `meant` and equals `kind`."""
    return Finding(
        code="eval.wrong-count",
        severity="error",
        where=f"line {line}",
        measured=f"{text} for predictions of which a known part is wrong: their {kind}, and not their {meant}",
        threshold="a score named IoU or Dice that equals the other one, the recall or the precision of two sets of "
        "known predictions, and matches none of its own definitions",
        why="The number is not what its name says, and cannot be compared with that of others: Dice, recall and "
        "precision are above the IoU of the same predictions.",
        remedy="with rows for true classes, `both = matrix.diag()`: IoU is "
        "`both / (matrix.sum(0) + matrix.sum(1) - both)`, Dice `2 * both / (matrix.sum(0) + matrix.sum(1))`",
    )
