"""What a script's own evaluation answers: right or not, and as many as it says."""

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

from striate.doctor.checks.data.labels.label_map import LABEL_MAP_LIMIT, Told, renumbered
from striate.doctor.checks.eval.batch_means import EXCESS
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import CalledNetwork, CorrectCounts, Key, OwnRun, PassPredictions
from striate.wording import several

_FEW_OF_CLASS, _LEARNED, _LEARNED_WELL, _BY_CHANCE = 3, 0.5, 0.7, 10.0
_FEW_TOLD, _DIFFER, _APART = 3, 1.2, 1.1
_WORSE, _SAME, _NEARLY = 0.2, 1e-9, 0.75
_ANY = "the network"
_EXACT = 0.01  # of a number, that rounding may take
_NUMBER = re.compile(r"(?<![\d.])\d+\.\d+(?![\d.e])")


def _renumbered(run: OwnRun) -> Iterator[tuple[str, str]]:
    for name, trained, (_, asked) in _trained_and_asked(run):
        if trained[-1][1].correct.share < _LEARNED_WELL or asked.correct.share > trained[-1][1].correct.share / 2:
            continue
        told = Told(name, *_as_arrays(trained[-1][1]), *_as_arrays(asked))
        if (found := renumbered(told)) is not None:
            yield found.where, found.measured


def _class_never_trained(run: OwnRun) -> Iterator[tuple[str, str]]:
    for _, trained, (steps, asked) in _trained_and_asked(run):
        if trained[-1][1].correct.share < _LEARNED:
            continue  # embeddings, perhaps, that are tried with other classes
        known = Counter(int(label) for _, one in trained for part in one.targets for label in part)
        counts = Counter(int(label) for part in asked.targets for label in part)
        often = _BY_CHANCE * asked.samples / known.total()
        missing = [label for label in sorted(counts) if not known[label] and counts[label] >= max(_FEW_OF_CLASS, often)]
        if missing:
            some = sum(counts[label] for label in missing)
            yield (
                "the training data",
                f"of the {several(known.total(), 'sample')} in the script's first {several(steps, 'step')} none is "
                f"of class {', '.join(map(str, missing))}; of the {several(asked.samples, 'sample')} that are "
                f"evaluated, {some} are",
            )


def _trained_and_asked(
    run: OwnRun,
) -> Iterator[tuple[str, list[tuple[int, PassPredictions]], tuple[int, PassPredictions]]]:
    """Networks that are evaluated: what they, or those that they are copies of, answered in training, and in the last
    evaluation."""
    kinds = {network.name: network.kind for network in run.networks.values()}
    trained, asked = (_answers(run, learns=learns) for learns in (True, False))
    for (name, *places), answers in asked.items():
        for (other, *others), found in trained.items():
            if others == places and kinds[other] == kinds[name]:
                yield name, found, answers[-1]


def _as_arrays(answers: PassPredictions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All predictions, and the true classes."""
    predicted, targets = (torch.cat(parts).numpy() for parts in (answers.predicted, answers.targets))
    return predicted.astype(np.int64), targets.astype(np.int64)


def _answers(run: OwnRun, *, learns: bool) -> dict[Key, list[tuple[int, PassPredictions]]]:
    """What was answered in passes in which steps were made, or in whole ones in which none was, in order, with the
    steps that were made at the end."""
    found = dict[Key, list[tuple[int, PassPredictions]]]()
    for one in run.passes:
        fits = one.ended > one.began if learns else one.whole and one.ended == one.began
        for key, answers in one.predictions.items() if fits else ():
            if answers.samples and (learns or len(answers.targets) == one.batches):
                found.setdefault(key, []).append((one.ended, answers))
    return found


@dataclass(frozen=True)
class _Said:
    """A number with a fraction that the script printed or logged, and what rounding may have taken from it."""

    number: float
    rounded: float

    def is_share(self, share: float) -> bool:
        """Whether it is a share, as it is or in percent."""
        return any(abs(self.number - scale * share) <= self.rounded for scale in (1.0, 100.0))


def _evaluations(run: OwnRun) -> Iterator[tuple[str, list[tuple[CorrectCounts, list[_Said]]]]]:
    """By network its evaluations, the last of those at the same step, or what was compared at each step, each with what
    the script said then."""
    texts = dict[int, str]()
    for steps, text in run.printed:
        texts[steps] = texts.get(steps, "") + text
    said = {
        steps: [_Said(float(number), 0.51 * 10.0 ** -len(number.partition(".")[2])) for number in _NUMBER.findall(text)]
        for steps, text in texts.items()
    }
    for name, rights in _rights(run):
        pairs = [(one, said[steps]) for steps, one in rights.items() if said.get(steps)]
        if len(pairs) >= _FEW_TOLD:
            yield name, pairs


def _rights(run: OwnRun) -> Iterator[tuple[str, dict[int, CorrectCounts]]]:
    """By network, how many of its answers are right after how many steps; of what was compared, by the network."""
    for key, found in _answers(run, learns=False).items():
        yield key[0], {steps: one.correct for steps, one in found}
    yield from ((_ANY, rights) for rights in run.compared.values())


def _said_otherwise(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Accuracies that are always in one proportion to the true ones: counts divided by another number."""
    for name, pairs in _evaluations(run):
        if any(number.is_share(one.share) for one, said in pairs for number in said):
            continue
        places = min(len(said) for _, said in pairs)
        for place in (*range(places), *range(-places, 0)):  # the last steps may say something before it
            found = _proportion([(one.share, said[place]) for one, said in pairs])
            if found is not None:
                one, said = pairs[-1]
                yield (
                    "the evaluation",
                    f"{_told_right(name, one)}, but the script reports {said[place].number:g}; in all of "
                    f"{several(len(pairs), 'evaluation')} its number is {found:.3g} times the true accuracy",
                )


def _of_all_so_far(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Accuracies that are those of all evaluations up to then: counts that are not set to zero between them."""
    for name, pairs in _evaluations(run):
        so_far = list(
            accumulate((one for one, _ in pairs), lambda a, b: CorrectCounts(a.right + b.right, a.sizes + b.sizes))
        )
        others = [one for one, said in pairs if not any(number.is_share(one.share) for number in said)]
        places = min(len(said) for _, said in pairs)
        for place in (*range(places), *range(-places, 0)) if len(others) >= 2 else ():
            if all(said[place].is_share(both.share) for (_, said), both in zip(pairs, so_far, strict=True)):
                one, said = pairs[-1]
                yield (
                    "the evaluation",
                    f"{_told_right(name, one)}, but the script reports {said[place].number:g}, the accuracy over all "
                    f"{several(len(pairs), 'evaluation')} so far",
                )


def _told_right(name: str, one: CorrectCounts) -> str:
    return f"{name} predicts {sum(one.right)} of {several(sum(one.sizes), 'sample')} right, {one.share:.4g}"


def _proportion(pairs: list[tuple[float, _Said]]) -> float | None:
    """How many times the true accuracy what is said is, where that is always the same and far from 1, and true
    accuracies differ; None elsewhere."""
    true = [share for share, _ in pairs]
    exact = all(said.rounded <= _EXACT * said.number for _, said in pairs)
    if not exact or min(true) <= 0 or max(true) < _DIFFER * min(true):
        return None
    scale = 100.0 if any(said.number > 1 for _, said in pairs) else 1.0
    least = max((said.number - said.rounded) / (scale * share) for share, said in pairs)
    most = min((said.number + said.rounded) / (scale * share) for share, said in pairs)
    return least if least <= most and abs(math.log(least)) >= math.log(_APART) else None


def _means_of_batches(run: OwnRun) -> Iterator[tuple[str, str]]:
    for name, pairs in _evaluations(run):
        sizes = pairs[-1][0].sizes
        if 1 / len(sizes) - sizes[-1] / sum(sizes) < EXCESS:
            continue
        for place in range(min(len(said) for _, said in pairs)):
            others = [(one, said[place]) for one, said in pairs if not said[place].is_share(one.share)]
            if len(others) >= 2 and all(said[place].is_share(one.mean_of_batches) for one, said in pairs):
                one, number = others[0]
                yield (
                    "the evaluation",
                    f"{_told_right(name, one)}, but the script reports {number.number:g}, the mean over "
                    f"{several(len(sizes), 'batch', 'batches')}, the last of which has {several(sizes[-1], 'sample')}",
                )


def _average_behind(run: OwnRun) -> Iterator[tuple[str, str]]:
    if run.cut if run.ended else not run.steps >= _NEARLY * run.planned > 0:
        return
    learns = {one.name for one in run.networks.values() if any(call.learns for call in one.calls)}
    kinds = {network.name: network.kind for network in run.networks.values()}
    moved = {network.name for network in run.networks.values() if len(set(network.weights)) > 1}
    asked = _answers(run, learns=False)
    for (name, *places), found in asked.items():
        for (other, *others), answers in asked.items():
            if others != places or kinds[other] != kinds[name] or name not in learns or other not in moved - learns:
                continue
            together = [(one, two) for steps, one in found for at, two in answers if steps == at == found[-1][0]]
            if not together or not _same_targets(*together[-1]):
                continue
            own, average = (one.correct.share for one in together[-1])
            if own >= _LEARNED and own - average >= _WORSE:
                yield (
                    f"the evaluation of {other}",
                    f"after {several(found[-1][0], 'step')} of the script, {name} predicts {own:.1%} of "
                    f"{several(together[-1][0].samples, 'sample')} right, and {other}, which follows it, {average:.1%}",
                )


def _same_targets(one: PassPredictions, other: PassPredictions) -> bool:
    return one.samples == other.samples and torch.equal(torch.cat(one.targets), torch.cat(other.targets))


def _worst_kept(run: OwnRun) -> Iterator[tuple[str, str]]:
    if not run.ended:
        return
    several_compared = len(run.compared) > 1  # of which what is kept may be the best of another
    for name, rights in _rights(run):
        for network in run.networks.values():
            weights = {call.steps: call.weights for call in reversed(network.calls) if not call.learns}
            shares = {steps: one.share for steps, one in rights.items() if steps in weights}
            if (several_compared if name == _ANY else network.name != name) or len(shares) < _FEW_TOLD:
                continue
            worst, best = min(shares, key=shares.__getitem__), max(shares.values())
            if best - shares[worst] < _WORSE or worst == max(shares):
                continue
            if any(weights[steps] == weights[worst] and share != shares[worst] for steps, share in shares.items()):
                continue  # the same weights do not predict so differently: another network was compared
            at_end = [other for other in run.networks.values() if other is network or _asked_last(run, other)]
            if any(abs(other.after - weights[worst]) <= _SAME * abs(weights[worst]) for other in at_end):
                yield (
                    "the checkpoint",
                    f"at its end the script has the weights of {network.name} after {several(worst, 'step')}, which "
                    f"predict {shares[worst]:.1%} right, the lowest accuracy in "
                    f"{several(len(shares), 'evaluation')}; the highest is {best:.1%}",
                )


def _asked_last(run: OwnRun, network: CalledNetwork) -> bool:
    return bool(network.calls) and not network.calls[-1].learns and network.calls[-1].steps == run.steps


OF_ANSWERS = (
    OwnRunCheck(
        "data.missing-class",
        "error",
        f"a class has at least {_FEW_OF_CLASS} evaluated samples, but none in the script's own steps, where "
        f"{_BY_CHANCE:g} are to be expected, and {_LEARNED:.0%} of all samples are predicted right",
        "A class that is never trained is never predicted.",
        "split and sample so that training gets each class: `train_test_split(x, y, stratify=y)`",
        _class_never_trained,
    ),
    OwnRunCheck(
        "data.label-map",
        "error",
        f"{_LEARNED_WELL:.0%} of the samples are right in the last pass of training, and half of that in the last "
        f"evaluation; {LABEL_MAP_LIMIT}",
        "The network may be good, but its validation metrics do not show it.",
        "number the classes once, for both: `index = {name: i for i, name in enumerate(sorted(set(train_names)))}`",
        _renumbered,
    ),
    OwnRunCheck(
        "eval.wrong-count",
        "error",
        f"in at least {_FEW_TOLD} evaluations, of which one is {_DIFFER:g} times as accurate as another, the script "
        f"never reports the true accuracy, but a number that always differs from it by the same factor of {_APART:g} "
        "or more",
        "The reported accuracy is not that of the network.",
        "divide by the number of evaluated samples: `right / len(loader.dataset)`, and reset the count before each "
        "evaluation",
        _said_otherwise,
    ),
    OwnRunCheck(
        "eval.wrong-count",
        "error",
        f"in at least {_FEW_TOLD} evaluations the script reports the accuracy over all evaluations so far, and in "
        "two of them not the true one",
        "The number reported for an epoch is the mean over this and all earlier epochs.",
        "reset the counts before each evaluation: `self.right, self.seen = 0, 0`",
        _of_all_so_far,
    ),
    OwnRunCheck(
        "model.evaluates-untrained",
        "warning",
        f"near the end of training ({_NEARLY:.0%} of its steps, or its end) the trained network is {_WORSE:.0%} more "
        "often right than another of its shapes, which changes without gradients, for the same samples",
        "Its decay suits a training of many more steps: it contains hardly anything of the last ones.",
        "use a decay that forgets the initial weights within a tenth of the training, `0.01 ** (10 / steps)`; or "
        "evaluate the trained network",
        _average_behind,
    ),
    OwnRunCheck(
        "eval.worst-kept",
        "error",
        f"the script ran to its end and made {_FEW_TOLD} evaluations or more, with accuracies that are {_WORSE:g} "
        "apart",
        "The worst of the trained weights are kept and used.",
        "keep the weights if an accuracy is higher, or if a loss is lower: `if accuracy > best:`",
        _worst_kept,
    ),
    OwnRunCheck(
        "eval.batch-means",
        "warning",
        f"in at least {_FEW_TOLD} evaluations the script reports the mean over batches, in two of them that is not "
        f"the true accuracy, and the weight of the last batch exceeds its share of the samples by {EXCESS:.0%} of all",
        "Samples of a short last batch count more than the others.",
        "count right predictions, and divide by all samples: `right += (predicted == y).sum().item()`",
        _means_of_batches,
    ),
)
