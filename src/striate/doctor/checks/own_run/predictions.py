"""The predictions of a script's own evaluation: whether they are right, and whether the reported accuracy is theirs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from striate.doctor.checks.data.labels.label_map import LABEL_MAP_LIMIT, ModelPredictions, renumbered
from striate.doctor.checks.eval.batch_means import EXCESS
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import CalledNetwork, CorrectCounts, Key, OwnRun, PassPredictions
from striate.wording import percent, several

_FEW_OF_CLASS, _LEARNED, _LEARNED_WELL, _BY_CHANCE = 3, 0.5, 0.7, 10.0
_FEWEST, _DIFFER, _APART = 3, 1.2, 1.1
_WORSE, _SAME, _NEARLY = 0.2, 1e-9, 0.75
_ANY = "the network"
_EXACT = 0.01  # relative error of rounding
_NUMBER = re.compile(r"(?<![\d.])\d+\.\d+(?![\d.e])")


def _renumbered(run: OwnRun) -> Iterator[tuple[str, str]]:
    for name, trained, (_, evaluated) in _trained_and_evaluated(run):
        if trained[-1][1].correct.share < _LEARNED_WELL or evaluated.correct.share > trained[-1][1].correct.share / 2:
            continue
        found = renumbered(ModelPredictions(name, *_as_arrays(trained[-1][1]), *_as_arrays(evaluated)))
        if found is not None:
            yield found.where, found.measured


def _class_never_trained(run: OwnRun) -> Iterator[tuple[str, str]]:
    for _, trained, (steps, evaluated) in _trained_and_evaluated(run):
        if trained[-1][1].correct.share < _LEARNED:
            continue  # these may be embeddings, which are evaluated on other classes
        known = Counter(int(label) for _, one in trained for part in one.targets for label in part)
        counts = Counter(int(label) for part in evaluated.targets for label in part)
        often = _BY_CHANCE * evaluated.samples / known.total()
        missing = [label for label in sorted(counts) if not known[label] and counts[label] >= max(_FEW_OF_CLASS, often)]
        if missing:
            some = sum(counts[label] for label in missing)
            yield (
                "the training data",
                f"of the {several(known.total(), 'sample')} in the script's first {several(steps, 'step')} none is "
                f"of class {', '.join(map(str, missing))}; of the {several(evaluated.samples, 'sample')} that are "
                f"evaluated, {some} are",
            )


def _trained_and_evaluated(
    run: OwnRun,
) -> Iterator[tuple[str, list[tuple[int, PassPredictions]], tuple[int, PassPredictions]]]:
    """Networks that are evaluated: their predictions in training, or those of the network that they are copies of, and
    their predictions in the last evaluation."""
    kinds = {network.name: network.kind for network in run.networks.values()}
    trained, evaluated = (_predictions(run, learns=learns) for learns in (True, False))
    for (name, *places), in_evaluation in evaluated.items():
        for (other, *others), in_training in trained.items():
            if others == places and kinds[other] == kinds[name]:
                yield name, in_training, in_evaluation[-1]


def _as_arrays(predictions: PassPredictions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All predicted classes, and the true ones."""
    predicted, targets = (torch.cat(parts).numpy() for parts in (predictions.predicted, predictions.targets))
    return predicted.astype(np.int64), targets.astype(np.int64)


def _predictions(run: OwnRun, *, learns: bool) -> dict[Key, list[tuple[int, PassPredictions]]]:
    """The predictions of each pass over data, in order, each with the optimizer steps at its end. `learns`: of passes
    with steps; otherwise of complete passes without any."""
    found = dict[Key, list[tuple[int, PassPredictions]]]()
    for one in run.passes:
        fits = one.ended > one.began if learns else one.whole and one.ended == one.began
        for key, predictions in one.predictions.items() if fits else ():
            if predictions.samples and (learns or len(predictions.targets) == one.batches):
                found.setdefault(key, []).append((one.ended, predictions))
    return found


@dataclass(frozen=True)
class _Reported:
    """A number with decimals that the script printed or logged."""

    number: float
    rounded: float
    """Largest error of rounding to the printed decimals."""

    def is_share(self, share: float) -> bool:
        """Whether the number is this share, as a fraction or in percent."""
        return any(abs(self.number - scale * share) <= self.rounded for scale in (1.0, 100.0))


def _evaluations(run: OwnRun) -> Iterator[tuple[str, list[tuple[CorrectCounts, list[_Reported]]]]]:
    """The evaluations of each network, one for each step (the last), with the numbers that the script reported at that
    step. Under the name "the network": the comparisons of predictions with targets in one line of the script."""
    texts = dict[int, str]()
    for steps, text in run.printed:
        texts[steps] = texts.get(steps, "") + text
    reported = {
        steps: [
            _Reported(float(number), 0.51 * 10.0 ** -len(number.partition(".")[2])) for number in _NUMBER.findall(text)
        ]
        for steps, text in texts.items()
    }
    for name, rights in _rights(run):
        pairs = [(one, reported[steps]) for steps, one in rights.items() if reported.get(steps)]
        if len(pairs) >= _FEWEST:
            yield name, pairs


def _rights(run: OwnRun) -> Iterator[tuple[str, dict[int, CorrectCounts]]]:
    """For each network, the right predictions of its evaluations by step; under the name "the network", those of
    comparisons in the script. Only those on the samples of the last evaluation: a script may train on other data
    first."""
    for key, found in _predictions(run, learns=False).items():
        yield key[0], {steps: one.correct for steps, one in found if _same_targets(one, found[-1][1], ordered=False)}
    for rights in run.compared.values():
        last = sum(next(reversed(rights.values())).sizes) if rights else 0
        yield _ANY, {steps: one for steps, one in rights.items() if sum(one.sizes) == last}


def _divided_by_wrong_number(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Reported accuracies that differ from the true ones by a constant factor: counts divided by a wrong number."""
    for name, pairs in _evaluations(run):
        if any(number.is_share(one.share) for one, reported in pairs for number in reported):
            continue
        places = min(len(reported) for _, reported in pairs)
        for place in (*range(places), *range(-places, 0)):  # from the end, too: the last report may be longer
            factor = _constant_factor([(one.share, reported[place]) for one, reported in pairs])
            if factor is not None:
                one, reported = pairs[-1]
                yield (
                    "the evaluation",
                    f"{_right_text(name, one)}, but the script reports {reported[place].number:g}; in all of "
                    f"{several(len(pairs), 'evaluation')} its number is {factor:.3g} times the true accuracy",
                )


def _never_reset(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Reported accuracies over all evaluations so far: counts that are not reset between evaluations."""
    for name, pairs in _evaluations(run):
        so_far = list(
            accumulate((one for one, _ in pairs), lambda a, b: CorrectCounts(a.right + b.right, a.sizes + b.sizes))
        )
        others = [one for one, reported in pairs if not any(number.is_share(one.share) for number in reported)]
        places = min(len(reported) for _, reported in pairs)
        for place in (*range(places), *range(-places, 0)) if len(others) >= 2 else ():
            if all(reported[place].is_share(both.share) for (_, reported), both in zip(pairs, so_far, strict=True)):
                one, reported = pairs[-1]
                yield (
                    "the evaluation",
                    f"{_right_text(name, one)}, but the script reports {reported[place].number:g}, the accuracy over "
                    f"all {several(len(pairs), 'evaluation')} so far",
                )


def _right_text(name: str, one: CorrectCounts) -> str:
    return f"{name} predicts {sum(one.right)} of {several(sum(one.sizes), 'sample')} right, {one.share:.4g}"


def _constant_factor(pairs: list[tuple[float, _Reported]]) -> float | None:
    """The factor between reported and true accuracies; None unless it is constant and far from 1, and the true
    accuracies differ."""
    true = [share for share, _ in pairs]
    exact = all(reported.rounded <= _EXACT * reported.number for _, reported in pairs)
    if not exact or min(true) <= 0 or max(true) < _DIFFER * min(true):
        return None
    scale = 100.0 if any(reported.number > 1 for _, reported in pairs) else 1.0
    least = max((reported.number - reported.rounded) / (scale * share) for share, reported in pairs)
    most = min((reported.number + reported.rounded) / (scale * share) for share, reported in pairs)
    return least if least <= most and abs(math.log(least)) >= math.log(_APART) else None


def _means_of_batches(run: OwnRun) -> Iterator[tuple[str, str]]:
    for name, pairs in _evaluations(run):
        sizes = pairs[-1][0].sizes
        if 1 / len(sizes) - sizes[-1] / sum(sizes) < EXCESS:
            continue
        for place in range(min(len(reported) for _, reported in pairs)):
            others = [(one, reported[place]) for one, reported in pairs if not reported[place].is_share(one.share)]
            if len(others) >= 2 and all(reported[place].is_share(one.mean_of_batches) for one, reported in pairs):
                one, number = others[0]
                yield (
                    "the evaluation",
                    f"{_right_text(name, one)}, but the script reports {number.number:g}, the mean over "
                    f"{several(len(sizes), 'batch', 'batches')}, the last of which has {several(sizes[-1], 'sample')}",
                )


def _average_behind(run: OwnRun) -> Iterator[tuple[str, str]]:
    if run.cut if run.ended else not run.steps >= _NEARLY * run.planned > 0:
        return
    learns = {one.name for one in run.networks.values() if any(call.learns for call in one.calls)}
    kinds = {network.name: network.kind for network in run.networks.values()}
    moved = {network.name for network in run.networks.values() if len(set(network.weights)) > 1}
    evaluated = _predictions(run, learns=False)
    for (name, *places), found in evaluated.items():
        for (other, *others), predictions in evaluated.items():
            if others != places or kinds[other] != kinds[name] or name not in learns or other not in moved - learns:
                continue
            together = [(one, two) for steps, one in found for at, two in predictions if steps == at == found[-1][0]]
            if not together or not _same_targets(*together[-1]):
                continue
            own, average = (one.correct.share for one in together[-1])
            if own >= _LEARNED and own - average >= _WORSE:
                yield (
                    f"the evaluation of {other}",
                    f"after {several(found[-1][0], 'step')} of the script, {name} predicts {percent(own)} of "
                    f"{several(together[-1][0].samples, 'sample')} right, and {other}, which follows it, "
                    f"{percent(average)}",
                )


def _same_targets(one: PassPredictions, other: PassPredictions, *, ordered: bool = True) -> bool:
    first, second = (torch.cat(each.targets).flatten() for each in (one, other))
    if not ordered:
        first, second = first.sort().values, second.sort().values
    return one.samples == other.samples and torch.equal(first, second)


def _worst_kept(run: OwnRun) -> Iterator[tuple[str, str]]:
    if not run.ended:
        return
    several_compared = len(run.compared) > 1  # the weights may be the best by another comparison
    for name, rights in _rights(run):
        for network in run.networks.values():
            weights = {call.steps: call.weights for call in reversed(network.calls) if not call.learns}
            shares = {steps: one.share for steps, one in rights.items() if steps in weights}
            if (several_compared if name == _ANY else network.name != name) or len(shares) < _FEWEST:
                continue
            worst, best = min(shares, key=shares.__getitem__), max(shares.values())
            if best - shares[worst] < _WORSE or worst == max(shares):
                continue
            if any(weights[steps] == weights[worst] and share != shares[worst] for steps, share in shares.items()):
                continue  # the same weights do not predict so differently: another network was compared
            at_end = [other for other in run.networks.values() if other is network or _evaluated_last(run, other)]
            if any(abs(other.after - weights[worst]) <= _SAME * abs(weights[worst]) for other in at_end):
                yield (
                    "the checkpoint",
                    f"at its end the script has the weights of {network.name} after {several(worst, 'step')}, which "
                    f"predict {percent(shares[worst])} right, the lowest accuracy in "
                    f"{several(len(shares), 'evaluation')}; the highest is {percent(best)}",
                )


def _evaluated_last(run: OwnRun, network: CalledNetwork) -> bool:
    return bool(network.calls) and not network.calls[-1].learns and network.calls[-1].steps == run.steps


PREDICTION_CHECKS = (
    OwnRunCheck(
        "data.missing-class",
        "error",
        f"a class has at least {_FEW_OF_CLASS} evaluated samples, but none in the script's own steps, where "
        f"{_BY_CHANCE:g} are to be expected, and {percent(_LEARNED, 0)} of all samples are predicted right",
        "A class that is never trained is never predicted.",
        "split and sample so that training gets each class: `train_test_split(x, y, stratify=y)`",
        _class_never_trained,
    ),
    OwnRunCheck(
        "data.label-map",
        "error",
        f"{percent(_LEARNED_WELL, 0)} of the samples are right in the last pass of training, and half of that in the "
        f"last evaluation; {LABEL_MAP_LIMIT}",
        "The network may be good, but its validation metrics do not show it.",
        "number the classes once, for both: `index = {name: i for i, name in enumerate(sorted(set(train_names)))}`",
        _renumbered,
    ),
    OwnRunCheck(
        "eval.wrong-count",
        "error",
        f"in at least {_FEWEST} evaluations, of which one is {_DIFFER:g} times as accurate as another, the script "
        f"never reports the true accuracy, but a number that always differs from it by the same factor of {_APART:g} "
        "or more",
        "The reported accuracy is not that of the network.",
        "divide by the number of evaluated samples: `right / len(loader.dataset)`, and reset the count before each "
        "evaluation",
        _divided_by_wrong_number,
    ),
    OwnRunCheck(
        "eval.wrong-count",
        "error",
        f"in at least {_FEWEST} evaluations the script reports the accuracy over all evaluations so far, and in "
        "two of them not the true one",
        "The number reported for an epoch is the mean over this and all earlier epochs.",
        "reset the counts before each evaluation: `self.right, self.seen = 0, 0`",
        _never_reset,
    ),
    OwnRunCheck(
        "model.evaluates-untrained",
        "warning",
        f"near the end of training ({percent(_NEARLY, 0)} of its steps, or its end) the trained network is "
        f"{percent(_WORSE, 0)} more often right than another of its shapes, which changes without gradients, for the "
        "same samples",
        "Its decay suits a training of many more steps: it contains hardly anything of the last ones.",
        "use a decay that forgets the initial weights within a tenth of the training, `0.01 ** (10 / steps)`; or "
        "evaluate the trained network",
        _average_behind,
    ),
    OwnRunCheck(
        "eval.worst-kept",
        "error",
        f"the script ran to its end and made {_FEWEST} evaluations or more, with accuracies that are {_WORSE:g} apart",
        "The worst of the trained weights are saved and used.",
        "save the weights if an accuracy is higher, or if a loss is lower: `if accuracy > best:`",
        _worst_kept,
    ),
    OwnRunCheck(
        "eval.batch-means",
        "warning",
        f"in at least {_FEWEST} evaluations the script reports the mean over batches, in two of them that is not "
        f"the true accuracy, and the weight of the last batch exceeds its share of the samples by {percent(EXCESS, 0)} "
        "of all",
        "Samples of a short last batch count more than the others.",
        "count right predictions, and divide by all samples: `right += (predicted == y).sum().item()`",
        _means_of_batches,
    ),
)
