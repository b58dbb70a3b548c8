"""The decision rule: the only code that chooses a class from probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import UsageError, one_line, pasted
from striate.records import Finding, Remedy
from striate.statistics.estimate import Estimate, share_of
from striate.statistics.paired import LEVEL, mcnemar
from striate.tasks.config import ByClass, Validation
from striate.wording import listed, percent, several

MOST_COST = 1e6
FEWEST = 20
"""Smallest number of validation samples of a rare class for which a cost is suggested."""
_RARE, _LOW = 0.1, 0.7
"""A class with less than this share of the samples is rare; a rare class with less than this recall gets a finding."""
_COSTS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0)
_FOLDS = 5
_BY_CHANCE = 0.01
_FEW = 10
_ENTRY = re.compile(r"(.+?)=([^=,]+)(?:,|$)")


@dataclass(frozen=True)
class DecisionRule:
    """The rule that chooses a class from probabilities; without costs and thresholds, the most probable class."""

    costs: tuple[tuple[int, float], ...] = ()
    """Pairs of a class number and the cost of missing that class, 1 for the others. The class with the largest cost ×
    probability is chosen: the Bayes decision where the cost of a mistake depends on the true class."""
    thresholds: tuple[tuple[int, float], ...] = ()
    """Pairs of a class number and the probability from which that class is chosen; of several, the one that exceeds its
    threshold by the largest factor. Where none is reached, one of the other classes is chosen."""
    chosen: str = ""
    """How a threshold was chosen, in words; may be empty."""

    def __bool__(self) -> bool:
        return bool(self.costs or self.thresholds)

    @property
    def named(self) -> tuple[int, ...]:
        """The numbers of the classes with a cost or a threshold, in their order."""
        return tuple(sorted(k for k, _ in (*self.costs, *self.thresholds)))

    def choose(self, probabilities: Any) -> NDArray[np.int64]:
        """(N,) class numbers from (N, K) probabilities, an array or a tensor on the CPU."""
        weighed = np.asarray(probabilities)
        if self.costs:
            factors = np.ones(weighed.shape[1])
            for k, cost in self.costs:
                factors[k] = cost
            weighed = weighed * factors
        if not self.thresholds:
            return np.asarray(weighed.argmax(1), np.int64)
        columns = np.array([k for k, _ in self.thresholds])
        least = np.array([threshold for _, threshold in self.thresholds], np.float32)
        reached = np.asarray(probabilities)[:, columns] / least
        weighed = weighed.copy()
        weighed[:, columns] = -1
        chosen = np.where(reached.max(1) >= 1, columns[reached.argmax(1)], weighed.argmax(1))
        return np.asarray(chosen, np.int64)

    def text(self, classes: Sequence[str]) -> str:
        """The rule in words: `ill where its probability is at least 0.2, else the most probable other class`."""
        parts = [
            f"{one_line(classes[k])} if its probability is at least {threshold:.4g}" for k, threshold in self.thresholds
        ]
        last = "the most probable class"
        if self.costs:
            factors = listed([f"{cost:g} for {one_line(classes[k])}" for k, cost in self.costs], len(self.costs))
            last = f"the class with the largest probability × cost ({factors}, 1 for the others)"
        if parts:
            other = "the most probable other class" if not self.costs else f"among the others {last}"
            last = f"{listed(parts, len(parts))}, else {other}"
        return last + (f"; {self.chosen}" if self.chosen else "")

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"costs": [list(c) for c in self.costs], "thresholds": [list(t) for t in self.thresholds]}


MOST_PROBABLE = DecisionRule()


def rule_of_state(state: Mapping[str, Any], classes: int) -> DecisionRule:
    """The rule from what `state()` returned. Raises TypeError for anything else."""
    return DecisionRule(_pairs(state["costs"], classes), _pairs(state["thresholds"], classes))


def _pairs(saved: Any, classes: int) -> tuple[tuple[int, float], ...]:
    try:
        pairs = tuple((k, float(number)) for k, number in saved)
    except ValueError as error:
        raise TypeError(str(error)) from None
    if not all(type(k) is int and 0 <= k < classes and 0 < number <= MOST_COST for k, number in pairs):
        raise TypeError("numbers of classes with costs or thresholds")
    return pairs


def make_rule(
    classes: Sequence[str],
    cost: ByClass,
    threshold: ByClass,
    validation: Validation | None = None,
    options: tuple[str, str] = ("--cost", "--threshold"),
) -> DecisionRule:
    """The rule of the user's costs and thresholds. A threshold without a number is chosen on `validation`: the one with
    the best F1 of that class. Raises UsageError for an unknown class, a number out of range, a class that has both,
    thresholds for every class, and a threshold without a number where there is no validation split."""
    costs = numbers_by_class(classes, cost, options[0], 10)
    thresholds = numbers_by_class(classes, threshold, options[1], 0.2)
    for k, number in costs.items():
        if number is None or not 0 < number <= MOST_COST:
            got = f"{classes[k]!r} without a number" if number is None else f"{number:g} for {classes[k]!r}"
            raise _refusal(options[0], got, f"a cost above 0, up to {MOST_COST:,.0f}", classes[k], 10)
        if k in thresholds:
            got = f"both for {classes[k]!r}"
            raise _refusal(" and ".join(options), got, "one of both for a class", classes[k], number, options[0])
    for k, number in thresholds.items():
        if number is not None and not 0 < number <= 1:
            got = f"{number:g} for {classes[k]!r}"
            raise _refusal(options[1], got, "a probability above 0, up to 1", classes[k], 0.2)
    if thresholds and len(thresholds) == len(classes):
        expected = "at least one class without a threshold, to predict when no threshold is reached"
        raise _refusal(options[1], "a threshold for every class", expected, classes[next(iter(thresholds))], 0.2)
    chosen = []
    known: dict[int, float] = {}
    for k, number in thresholds.items():
        known[k] = number if number is not None else 0.0
        if number is None:
            if validation is None:
                expected = "a number: only for a finished run can it be chosen on the validation split"
                raise _refusal(options[1], f"{classes[k]!r} without a number", expected, classes[k], 0.2)
            known[k], how = _choose_threshold(classes, k, *validation(), options[1])
            chosen.append(how)
    given = {k: number for k, number in costs.items() if number is not None}
    return DecisionRule(tuple(sorted(given.items())), tuple(sorted(known.items())), "; ".join(chosen))


def numbers_by_class(classes: Sequence[str], given: ByClass, option: str, example: float) -> dict[int, float | None]:
    """The numbers by class number; None where a class has none. Raises UsageError for an unknown class."""
    if given is None or given == "":
        return {}
    if isinstance(given, Mapping):
        entries = [(str(name), number) for name, number in given.items()]
    else:
        texts = [given] if isinstance(given, str) else list(given)
        entries = [entry for text in texts for entry in _entries(classes, text, option, example)]
    found: dict[int, float | None] = {}
    for name, number in entries:
        if name not in classes:
            near = get_close_matches(name, classes, 1, 0) or [classes[0]]
            expected = f"one of the classes: {listed(list(classes), 5)}"
            raise _refusal(option, f"the class {name!r}", expected, near[0], example if number is None else number)
        k = list(classes).index(name)
        if k in found:
            raise _refusal(option, f"{name!r} twice", "one number per class", name, found[k] or example)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float | np.number)):
            raise _refusal(option, f"{number!r} for {name!r}", "a number", name, example)
        found[k] = None if number is None else float(number)
    return found


def _entries(classes: Sequence[str], text: str, option: str, example: float) -> list[tuple[str, float | None]]:
    if text in classes:
        return [(text, None)]
    entries: list[tuple[str, float | None]] = []
    end = 0
    for found in _ENTRY.finditer(text):
        if found.start() != end:
            break
        end = found.end()
        try:
            entries.append((found[1].strip(), float(found[2])))
        except ValueError:
            break
    else:
        if end == len(text):
            return entries
    if "=" in text:
        raise _refusal(option, repr(text[:60]), "CLASS=NUMBER, several separated by commas", classes[0], example)
    return [(text, None)]


def _refusal(
    option: str, got: str, expected: str, name: str, number: float | None, with_option: str = ""
) -> UsageError:
    """The error, whose remedy is the option as it can be typed."""
    value = name if number is None or not math.isfinite(number) else f"{name}={number:g}"
    return UsageError(option, got, expected, f"{with_option or option} {pasted(value)}")


def _choose_threshold(
    classes: Sequence[str], k: int, probabilities: NDArray[np.float32], truth: NDArray[np.int64], option: str
) -> tuple[float, str]:
    """The threshold with the best F1 of class `k` (of equal ones, that with the highest recall), and a sentence on
    it."""
    own, n = truth == k, int((truth == k).sum())
    if not n:
        got = f"{classes[k]!r} without a number, and no validation sample of it"
        raise _refusal(option, got, "a number, or validation samples to choose it on", classes[k], 0.2)
    column = probabilities[:, k].astype(np.float64)
    order = np.argsort(-column, kind="stable")
    values, hits = column[order], own[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + n)
    ends = np.append(values[1:] < values[:-1], True)  # a threshold cannot separate equal probabilities
    f1[~ends] = -1
    last = int(len(f1) - 1 - f1[::-1].argmax())
    low = values[last + 1] if last + 1 < len(values) else 0.0
    value = float((values[last] + low) / 2)
    rounded = float(f"{value:.3g}")
    value = rounded if low < rounded <= values[last] else value
    before = f1_of(probabilities.argmax(1) == k, own)
    named = several(n, "sample")
    how = (
        f"the threshold of {one_line(classes[k])} has the best F1 on validation: {f1[last]:.2f} instead of "
        f"{before:.2f} (n = {len(truth):,}, {named} of {one_line(classes[k])}"
        f"{', too few for a reliable threshold' if n < _FEW else ''})"
    )
    return value, how


def f1_of(predicted: NDArray[np.bool_], own: NDArray[np.bool_]) -> float:
    """F1 of one class, from (N,) whether it is predicted and whether it is true; 0 where neither occurs."""
    both = int(predicted.sum() + own.sum())
    return 2 * int((predicted & own).sum()) / both if both else 0.0


@dataclass(frozen=True)
class ClassChange:
    """What a rule changes for one class; `_before` is what the most probable class gives."""

    name: str
    """Name of the class."""
    n: int
    """Number of its samples."""
    predicted_before: int
    """Number of samples that it is predicted for without the rule."""
    predicted: int
    """Number of samples that it is predicted for with the rule."""
    recall_before: Estimate
    """Its recall without the rule."""
    recall: Estimate
    """Its recall with the rule."""
    precision_before: Estimate
    """Its precision without the rule."""
    precision: Estimate
    """Its precision with the rule."""


@dataclass(frozen=True)
class DecisionEffect:
    """What a rule changes on a split, compared with the most probable class."""

    rule: str
    """The rule in words."""
    n: int
    """Number of samples."""
    differing: int
    """Number of predictions that the rule changes."""
    accuracy_before: Estimate
    """Accuracy without the rule."""
    accuracy: Estimate
    """Accuracy with the rule."""
    classes: tuple[ClassChange, ...]
    """A row for each class that the rule names."""

    def rows(self, whole: str = "accuracy") -> list[tuple[str, Estimate, int, Estimate, int]]:
        """For each metric: its name, then its value and number of samples for the most probable class, and for the
        rule. `whole`: the name of the accuracy."""
        rows = []
        for row in self.classes:
            name = one_line(row.name)
            rows.append((f"{name}, recall", row.recall_before, row.n, row.recall, row.n))
            before, after = (row.precision_before, row.predicted_before), (row.precision, row.predicted)
            rows.append((f"{name}, precision", *before, *after))
        return [*rows, (whole, self.accuracy_before, self.n, self.accuracy, self.n)]


def effect_of(
    rule: DecisionRule, classes: Sequence[str], probabilities: NDArray[np.float32], truth: NDArray[np.int64]
) -> DecisionEffect | None:
    """What the rule changes for these samples; None for the most probable class."""
    if not rule:
        return None
    before, after = probabilities.argmax(1), rule.choose(probabilities)
    rows = []
    for k in rule.named:
        own, was, now = truth == k, before == k, after == k
        n, hits_before, hits = int(own.sum()), int((own & was).sum()), int((own & now).sum())
        named_before, named = int(was.sum()), int(now.sum())
        rows.append(
            ClassChange(
                classes[k],
                n,
                named_before,
                named,
                share_of(hits_before, n),
                share_of(hits, n),
                share_of(hits_before, named_before),
                share_of(hits, named),
            )
        )
    was_right, is_right = (share_of(int((chosen == truth).sum()), len(truth)) for chosen in (before, after))
    differing = int((before != after).sum())
    return DecisionEffect(rule.text(classes), len(truth), differing, was_right, is_right, tuple(rows))


def rare_class_findings(
    classes: Sequence[str], probabilities: NDArray[np.float32], truth: NDArray[np.int64], run: str
) -> tuple[Finding, ...]:
    """`fit.rare-class`: rare classes that are often missed, and the effect of a cost.

    The cost is chosen on four fifths of these validation samples and measured on the other fifth, five times, so that
    no sample measures a cost that it helped to choose. There is no finding where the cost does not find significantly
    more samples of the class (McNemar's test), does not raise its F1, or where the added predictions are correct no
    more often than by chance (binomial test)."""
    predicted, findings = probabilities.argmax(1), []
    for k, name in enumerate(classes):
        own = truth == k
        n, found = int(own.sum()), int((own & (predicted == k)).sum())
        if n < FEWEST or n >= _RARE * len(truth) or found >= _LOW * n:
            continue
        cost, with_cost = _cross_chosen(k, probabilities, own)
        hits, named = int((own & with_cost).sum()), int(with_cost.sum())
        before = int((predicted == k).sum())
        if cost == 1 or f1_of(with_cost, own) <= f1_of(predicted == k, own) or mcnemar(hits - found, 0) >= LEVEL:
            continue
        from scipy.stats import binomtest  # takes a third of a second to load

        share = (n - found) / (len(truth) - before)
        if binomtest(hits - found, named - before, share, alternative="greater").pvalue >= _BY_CHANCE:
            continue
        typed = ("striate", "eval", run, "--cost", f"{name}={cost:g}")
        findings.append(
            Finding(
                code="fit.rare-class",
                severity="warning",
                where="val split",
                measured=f"recall of {one_line(name)} ({n:,} of {several(len(truth), 'sample')}): {found:,} of {n:,}",
                threshold=f"a recall of {percent(_LOW)} for a class with less than {percent(_RARE)} of the samples",
                why=f"With a cost of {cost:g} for missing it, {hits:,} of {n:,} are found: recall {percent(hits / n)} "
                f"instead of {percent(found / n)}, precision {percent(hits / named)} instead of "
                f"{percent(found / before if before else None)}, measured on validation samples that were not used to "
                "choose the cost.",
                remedy=Remedy(" ".join(map(pasted, typed)), command=typed[1:]),
            )
        )
    return tuple(findings)


def _cross_chosen(
    k: int, probabilities: NDArray[np.float32], own: NDArray[np.bool_]
) -> tuple[float, NDArray[np.bool_]]:
    """The cost with the best F1 of class `k` on all samples; and (N,) whether the class is predicted with the cost that
    was chosen on the other four fifths."""
    chosen_by_cost = [DecisionRule(((k, cost),)).choose(probabilities) == k for cost in _COSTS]

    def best(rows: NDArray[np.bool_]) -> int:
        return int(np.argmax([f1_of(chosen[rows], own[rows]) for chosen in chosen_by_cost]))

    fold = np.empty(len(own), np.int64)
    for part in (own, ~own):
        fold[part] = np.arange(part.sum()) % _FOLDS
    held_out = np.zeros(len(own), np.bool_)
    for number in range(_FOLDS):
        rows = fold == number
        held_out[rows] = chosen_by_cost[best(~rows)][rows]
    return _COSTS[best(np.ones(len(own), np.bool_))], held_out
