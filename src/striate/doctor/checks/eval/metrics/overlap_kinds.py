"""Overlaps that turn out to be recalls or the like, for predictions of which a known part is wrong."""

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

_KINDS = ("IoU", "Dice", "recall", "precision")
_NAMES = {"IoU": frozenset(("iou", "miou", "iu", "jaccard")), "Dice": frozenset(("dice",))}
_NO_SHARES = frozenset(("loss", "soft", "smooth", "std", "min", "max"))
_SURE, _SAME, _NEAR = 20.0, 1e-4, 1e-3
PATTERNS = (3, 4)
"""Of how many labels of the first class one is wrong: an overlap by a definition of its own may be a recall by chance
once."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Predicted classes and true ones, of all that is counted."""


def mislabeled_overlaps(evidence: Evidence) -> Iterator[Finding]:
    """Of functions of the script's that are given the network and the loader of validation."""
    written = words_of(" ".join(map(ast.unparse, evidence.source.trees.values())))
    if not evidence.val.whole or not any(written & names for names in _NAMES.values()):
        return
    ignored = torch.tensor([IGNORED, *(call.ignored for call in class_losses(evidence))])
    for site, function, given in evaluation_calls(evidence):
        found = list[dict[str, tuple[float, str, str]]]()
        for each in PATTERNS:
            evidence.clock.need(MOST_STEPS * len(evidence.val.raw) * evidence.step_seconds)
            shown = _Shown(ignored, each)
            told = scores_with(evidence, site, function, given, shown.put)
            known = shares_of(shown.batches, shown.classes) if told else {}
            others = {name: (value, *other) for name, value in told if (other := actual_kind(name, value, known))}
            found.append(others)
        for name, (value, meant, kind) in found[0].items():
            if all(others.get(name, ("",))[-1] == kind for others in found):
                said = f"`{ast.unparse(site)}` gives `{name}` {value:.4g}"
                yield mislabeled_overlap(site.lineno, said, meant, kind)


class _Shown:
    """What a network is made to predict, batch by batch, where outputs have the form of classes."""

    def __init__(self, ignored: torch.Tensor, each: int) -> None:
        self.ignored, self.each, self.classes = ignored, each, 2
        self.batches: list[Pair] = []

    def put(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        """Outputs that stand for partly wrong labels."""
        wanted = labels.cpu()
        counted = (wanted >= 0) & ~torch.isin(wanted, self.ignored)
        wanted = wanted.where(counted, 0)
        self.classes = 2 if outputs.numel() == labels.numel() else outputs.shape[1]
        if not bool(counted.any()) or not torch.equal(wanted, wanted.long().clamp(max=self.classes - 1).to(wanted)):
            return None  # numbers
        predicted = partly_wrong(wanted.long(), self.classes, self.each)
        self.batches.append((predicted.where(counted, -1), wanted.long()))
        return _scores(outputs, predicted.to(outputs.device))


def partly_wrong(labels: torch.Tensor, classes: int, each: int) -> torch.Tensor:
    """Labels of which one in so many is the next class, of some classes fewer than of others: recalls, precisions and
    overlaps all differ then."""
    places = torch.arange(labels.numel(), device=labels.device).reshape(labels.shape)
    return torch.where(places % (each + labels % 3) == 0, (labels + 1) % classes, labels)


def _scores(outputs: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor | None:
    """Outputs of a network that predicts these classes; None where outputs have another form."""
    shares = bool(((outputs >= 0) & (outputs <= 1)).all())
    if outputs.numel() == predicted.numel():
        known = predicted.reshape(outputs.shape)
    elif outputs.ndim == predicted.ndim + 1 and outputs.shape[:1] + outputs.shape[2:] == predicted.shape:
        known = torch.nn.functional.one_hot(predicted, outputs.shape[1]).movedim(-1, 1)
    else:
        return None
    return (known if shares else _SURE * (2 * known - 1)).to(outputs.dtype)


def shares_of(batches: Sequence[Pair], classes: int) -> dict[str, list[float]]:
    """By name what shares can be of these predictions: of all, and in the mean of batches or samples, over all classes
    or over all but the first. A predicted class of -1 does not count."""
    maps = [pair for pair in batches if pair[1].ndim > 1]
    samples = [pair for predicted, wanted in maps for pair in zip(predicted, wanted, strict=True)]
    whole = [(torch.cat([p.flatten() for p, _ in batches]), torch.cat([w.flatten() for _, w in batches]))]
    known: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for parts in filter(None, (whole, batches, samples)):
        tables = torch.stack([_ratios(predicted, wanted, classes) for predicted, wanted in parts])
        for first in (0, 1):
            for kind, value in zip(_KINDS, tables[:, :, first:].nanmean(2).nanmean(0).tolist(), strict=True):
                known[kind].append(value)
    predicted, wanted = whole[0]
    right = float((predicted == wanted)[predicted >= 0].double().mean())
    known["IoU"].append(right / (2 - right))  # over all classes at once
    known["Dice"].append(right)
    return known


def _ratios(predicted: torch.Tensor, wanted: torch.Tensor, classes: int) -> torch.Tensor:
    counted = predicted >= 0
    table = torch.bincount((wanted * classes + predicted)[counted], minlength=classes**2).reshape(classes, -1).double()
    both, rows, columns = table.diag(), table.sum(1), table.sum(0)
    return torch.stack([both / (rows + columns - both), 2 * both / (rows + columns), both / rows, both / columns])


def actual_kind(name: str, value: float, known: dict[str, list[float]]) -> tuple[str, str] | None:
    """What a name says that a number is, and what it is; None where it is that, or none of what is known."""
    for meant in _named_kinds(name) if not is_as_named(name, value, known) else ():
        for kind in _KINDS:
            if kind != meant and any(abs(as_share(value) - other) < _SAME for other in known.get(kind, ())):
                return meant, kind
    return None


def is_as_named(name: str, value: float, known: dict[str, list[float]]) -> bool:
    """Whether a number is what its name says, by one of its definitions."""
    return any(abs(as_share(value) - right) < _NEAR for meant in _named_kinds(name) for right in known.get(meant, ()))


def _named_kinds(name: str) -> list[str]:
    words = words_of(name)
    return [kind for kind, names in _NAMES.items() if words & names and not words & _NO_SHARES]


def mislabeled_overlap(line: int, told: str, meant: str, kind: str) -> Finding:
    """The finding of a number by the name of one share that is another."""
    return Finding(
        code="eval.wrong-count",
        severity="error",
        where=f"line {line}",
        measured=f"{told} for predictions of which a known part is wrong: their {kind}, and not their {meant}",
        threshold="a score by the name of an IoU or a Dice that equals the other one, the recall or the precision of "
        "two sets of known predictions, and none of its own definitions",
        why="The number is not what its name says, and cannot be compared with that of others: Dice, recall and "
        "precision are above the IoU of the same predictions.",
        remedy="with rows for true classes, `both = matrix.diag()`: IoU is "
        "`both / (matrix.sum(0) + matrix.sum(1) - both)`, Dice `2 * both / (matrix.sum(0) + matrix.sum(1))`",
    )
