"""Remarks on parts that do nothing, are not what they seem, or were not counted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from striate.account.ledger import Ledger, Row
from striate.records import Finding
from striate.wording import listed, several

_NAMED = 3  # of more, the modules that they are in
_BATCH_NORMS = ("bn", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")


def part_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Softmax at the end, what never ran, biases that a normalization takes away, frozen parameters, the
    uncounted, a pass with numbers."""
    executed = [row for row in ledger.rows if row.executed]
    yield from _final_softmax(executed)
    yield from _never_executed([row for row in ledger.rows if not row.executed])
    yield from _superfluous_biases(executed)
    yield from _frozen(ledger)
    yield from _uncounted(ledger)
    yield from _real_pass(ledger)


def _final_softmax(rows: list[Row]) -> Iterator[Finding]:
    if rows and rows[-1].kind.lower() == "softmax":
        yield Finding(
            "account.final-softmax",
            "warning",
            rows[-1].name,
            "the network ends with softmax",
            "outputs without softmax (logits)",
            "Cross-entropy applies softmax itself; twice, its gradient nearly vanishes for confident answers.",
            "Leave it out; predictions get their probabilities without it.",
        )


def _never_executed(rows: list[Row]) -> Iterator[Finding]:
    if not rows:
        return
    params = sum(row.params for row in rows)
    names = list(dict.fromkeys(row.name for row in rows))
    if len(names) > _NAMED:
        names = list(dict.fromkeys(name.split(".")[0] for name in names))
    # Heads for training alone are meant to rest in eval mode, in which is counted.
    auxiliary = all("aux" in name.lower() for name in names)
    yield Finding(
        "account.never-executed",
        "warning" if params and not auxiliary else "note",
        listed(names),
        f"{several(len(rows), 'module')} never ran, with {several(params, 'parameter')}",
        "every module runs",
        "Counted in eval mode: auxiliary heads run in training only."
        if auxiliary
        else "What never runs gets no gradient, costs memory, and stays as it began.",
        "Leave them out where the network is only to answer."
        if auxiliary
        else "Call them in forward, or take them out; what runs in training only is right as it is.",
    )


def _superfluous_biases(rows: list[Row]) -> Iterator[Finding]:
    found = [
        row
        for row, following in pairwise(rows)
        if row.settings.get("bias")
        and following.kind in _BATCH_NORMS
        and following.in_shape == row.out_shape
        # A normalization elsewhere may be fed through a sum or a concatenation, which is no row.
        and _parent(following.name) == _parent(row.name)
    ]
    if found:
        count = sum(row.out_shape[0] for row in found)
        yield Finding(
            "account.bias-before-norm",
            "note",
            listed([row.name for row in found]),
            f"{several(count, 'bias', 'biases')} right before a batch normalization",
            "no bias there",
            "The normalization subtracts the mean, and with it any constant: these parameters change nothing.",
            "bias=False in these layers.",
        )


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _frozen(ledger: Ledger) -> Iterator[Finding]:
    frozen = [row for row in ledger.rows if row.trainable < row.params]
    if frozen:
        count = ledger.params - ledger.trainable
        yield Finding(
            "account.frozen",
            "note",
            listed([row.name for row in frozen]),
            f"{count:,} of {ledger.params:,} parameters are frozen",
            "all trainable",
            "Training leaves them as they are; they cost memory and time, but no gradient and no optimizer state.",
            "parameter.requires_grad_(True) thaws one.",
        )


def _uncounted(ledger: Ledger) -> Iterator[Finding]:
    if ledger.uncounted:
        yield Finding(
            "account.uncounted",
            "warning",
            "the totals",
            f"not counted: {listed(ledger.uncounted, 5)}",
            "everything counted",
            "These have no formula here, so the true cost is above the totals.",
            "Add what you know of them by hand.",
        )


def _real_pass(ledger: Ledger) -> Iterator[Finding]:
    if ledger.real_pass:
        yield Finding(
            "account.real-pass",
            "note",
            "the figures",
            f"found in a pass with numbers, on zeros, as the network looks at them ({ledger.real_pass})",
            "shapes alone decide",
            "Nothing is missing, but another input may take another branch.",
            "Where its branches differ in cost, count each by hand.",
        )
