"""`eval.wrong-count`: is a metric of all samples divided by their number?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from striate.data.annotations.masks import IGNORED
from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.all_right import RIGHT, untrue_of_right
from striate.doctor.checks.eval.begun_once import begun_once
from striate.doctor.checks.eval.evaluated import asked_directly, evaluated, is_accuracy, logged
from striate.doctor.checks.eval.evaluation_loops import (
    added_in,
    after_loop,
    batch_size_of,
    evaluation_loops,
    names_in,
    size_of,
)
from striate.doctor.checks.eval.exchanged_answers import FEWEST as _EXCHANGED
from striate.doctor.checks.eval.exchanged_answers import scores_of_exchanged_answers
from striate.doctor.checks.eval.means_of_differences import means_of_differences
from striate.doctor.checks.eval.metrics.metric_functions import untrue_metrics
from striate.doctor.checks.eval.metrics.other_shares import other_shares
from striate.doctor.checks.eval.of_a_perfect_network import untrue_of_a_perfect_network
from striate.doctor.checks.eval.padding_in_count import padding_counted
from striate.doctor.checks.eval.parts_counted import share_of_all
from striate.doctor.checks.eval.ranked_decisions import decisions_ranked
from striate.doctor.checks.eval.scaled_back import by_variance
from striate.doctor.checks.eval.signal_to_noise import doubled, peaks_of_bytes
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import leaf, leaves
from striate.doctor.setup.script_source import ScriptSource, called, receiver_of
from striate.records import Finding
from striate.wording import listed, several

_LOGGED = 0.05


def _wrong_count(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    read = chain(
        _of_all_epochs(evidence),
        _mean_losses_divided(source),
        _count_divided(source),
        _by_whole_batches(source),
        _divided_by_batches(source),
        _with_padding(source),
        untrue_metrics(evidence),
        _other_peak(evidence),
        _doubled(source),
        _by_variance(source),
        _cancelled(source),
        _of_decisions(source),
    )
    found = next(read, None)
    if found is not None:
        yield found
    elif source.library is not None:
        yield from islice(chain(untrue_of_right(evidence), _logged_otherwise(evidence)), 1)
    else:
        for ask in (_part_of_all, _wrong_result, _of_a_perfect_network, _of_exchanged_answers, other_shares):
            try:
                found = next(ask(evidence), None)
            except OutOfTime:
                raise
            except NoEvidence:  # its code was read
                continue
            if found is not None:
                yield found
                return


def _of_a_perfect_network(evidence: Evidence) -> Iterator[Finding]:
    for untrue in untrue_of_a_perfect_network(evidence):
        yield _finding(
            untrue.where,
            f"`{untrue.text}` gives `{untrue.name}` {untrue.value:.4g} for a network whose predictions are all right",
            "A perfect network would not get a perfect score: the printed number is not the metric that its name says.",
            "test it with predictions that equal the labels: accuracies, F1, IoU, Dice and hit rates have to be 1, "
            "errors 0",
            f"a score below {RIGHT}, or an error above 0, for a network whose outputs are replaced by the right ones",
        )


def _of_exchanged_answers(evidence: Evidence) -> Iterator[Finding]:
    for pooled in scores_of_exchanged_answers(evidence):
        yield _finding(
            pooled.where,
            f"`{pooled.text}` gives `{pooled.name}` 1 even for a network that gives {several(pooled.count, 'sample')} "
            "the right answers of other samples",
            "What is found in different samples is collected in one set: what is equal counts once, and an answer "
            "that is wrong for its sample counts as right if it is right for another one.",
            "collect it with the number of its sample: `found |= {(number, *span) for span in spans}`",
            f"a score of 1 although {_EXCHANGED} samples or more get the labels of others as outputs",
        )


def _of_all_epochs(evidence: Evidence) -> Iterator[Finding]:
    for count in begun_once(evidence):
        yield _finding(f"line {count.line}", count.measured, count.why, count.remedy, _BEGUN_ONCE)


def _other_peak(evidence: Evidence) -> Iterator[Finding]:
    for node in peaks_of_bytes(evidence):
        yield _finding(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` uses the peak of bytes, 255, for images whose largest value is 1",
            "All values in decibels are 48 too high.",
            "use the peak of the images: `10 * torch.log10(1.0 / error)`",
            "decibels with a peak of 255 for images up to 1",
        )


def _doubled(source: ScriptSource) -> Iterator[Finding]:
    for node in doubled(source):
        yield _finding(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` gets squared errors, and rises by 20 decibels when the error falls to a tenth",
            "All values in decibels are twice as high as they should be.",
            "take 10 times the logarithm of squared errors, `10 * torch.log10(1.0 / mse)`; a factor of 20 is for "
            "their root",
            "decibels that rise by 20 when a squared error falls to a tenth",
        )


def _by_variance(source: ScriptSource) -> Iterator[Finding]:
    for node, variance in by_variance(source):
        yield _finding(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` multiplies by the variance `{variance}`, though standardizing divides by its root",
            "What is scaled back is not in the units of the data, nor are errors that are computed from it.",
            "multiply by the standard deviation, `scaler.scale_`, or use `scaler.inverse_transform(...)`",
            "a sum of a scaler's mean and its variance times a number",
        )


def _cancelled(source: ScriptSource) -> Iterator[Finding]:
    for name, value, squared in means_of_differences(source):
        what = "square" if squared else "absolute value"
        yield _finding(
            f"line {value.lineno}",
            f"`{name}` is `{ast.unparse(value)}`: the {what} of the mean difference, not the mean of the {what}s",
            "Errors that are too high and too low cancel: it is near zero for any predictions with the right mean.",
            "take the mean last: " + ("`((a - b) ** 2).mean()`" if squared else "`(a - b).abs().mean()`"),
            "the absolute value of a mean of differences that is named a mean absolute error, or the square of one "
            "that is named a mean squared error",
        )


def _of_decisions(source: ScriptSource) -> Iterator[Finding]:
    for node, given in decisions_ranked(source):
        yield _finding(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` ranks samples by `{ast.unparse(given)}`, which are decisions: one of two "
            "numbers, or that of a class",
            "It depends on how samples are ordered by their scores. Decisions leave two groups, so the result is that "
            "of one threshold.",
            "pass the probabilities or scores, before any threshold or argmax: `roc_auc_score(labels, probabilities)`",
            "an area under a curve or an average precision of values that are compared, rounded or an argmax",
        )


def _counted_loops(source: ScriptSource) -> Iterator[tuple[ast.For, DataLoader, dict[str, Any], int, int]]:
    """Loops over loaders that yield each sample once at most, with the loader's samples and batches."""
    for loop, loader, known in evaluation_loops(source):
        counted = size_of(loader)
        if counted is not None and type(loader.sampler).__name__ in ("SequentialSampler", "RandomSampler"):
            yield loop, loader, known, *counted


def _mean_losses_divided(source: ScriptSource) -> Iterator[Finding]:
    """A sum of the batches' mean losses, divided by the samples, also as the loop counts them."""
    for loop, _, known, samples, batches in _counted_loops(source):
        added = added_in(loop)
        counts = {name for name, (kind, value) in added.items() if kind == "sum" and _is_size_at_hand(value, loop)}
        for name, (kind, value) in added.items():
            if kind != "sum" or not _is_mean_loss(source, value) or samples <= 4 * batches:
                continue
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                counted = isinstance(below, ast.Name) and below.id in counts
                if name in names_in(above) and (counted or source.is_number(below, samples, **known)):
                    yield _of_mean_losses(node, value, batches, samples)


def _count_divided(source: ScriptSource) -> Iterator[Finding]:
    """A count over a loader's samples, divided by a number that is another than theirs."""
    for loop, loader, known, samples, batches in _counted_loops(source):
        whole = batches * (batch_size_of(loader) or 0)
        seen = whole if loader.drop_last else samples
        added = {name: value for name, (kind, value) in added_in(loop).items() if kind == "sum"}
        at_hand = {n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        full = {
            name
            for name, value in added.items()
            if not names_in(value) & at_hand and _is_batch_size(source, value, loader, known)
        }
        for name in (name for name, value in added.items() if _counts(value, loop)):
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                if isinstance(below, ast.Name) and below.id not in added:  # `count = len(loader)`
                    below = source.last_value(node, below.id) or below
                number, what = source.value(below, **known), "the size of other data"
                by_full = isinstance(below, ast.Name) and below.id in full
                if isinstance(below, ast.Name) and below.id in _ones(loop):
                    number = batches
                elif by_full:
                    number = whole
                elif isinstance(below, ast.Name | ast.Constant):
                    continue
                if name not in names_in(above) or type(number) is not int or number in (0, 1, seen):
                    continue
                if number == samples:
                    what = f"of which `drop_last` leaves out {samples - seen:,}"
                elif by_full:
                    what = f"{batch_size_of(loader)} for each batch, of which the last is smaller"
                elif number == batches:
                    what = "the number of batches"
                elif number == whole:
                    what = "the number of batches times their size, of which the last is smaller"
                measured = f"`{ast.unparse(node)}` divides a count over {several(seen, 'sample')} by {number}, {what}"
                yield _no_share(node, measured)


def _by_whole_batches(source: ScriptSource) -> Iterator[Finding]:
    """What a loop over a loader collects, each of several by itself perhaps, divided by the number of batches times
    their size, though the last one is smaller."""
    for loop, loader, known, samples, batches in _counted_loops(source):
        whole = batches * (batch_size_of(loader) or 0)
        if loader.drop_last or whole in (0, samples):
            continue
        added = added_in(loop)
        collected = {n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for name in sorted(collected):
            parts = ast.walk(added[name][1]) if name in added else ()
            if any(isinstance(n, ast.expr) and _is_batch_size(source, n, loader, known) for n in parts):
                continue  # means, each of which counts as a whole batch
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                counted = any(called(part) == "len" for part in ast.walk(below))
                if counted and name in _names_of(source, above) and source.is_number(below, whole, **known):
                    yield _no_share(
                        node,
                        f"`{ast.unparse(node)}` divides a sum over {several(samples, 'sample')} by {whole}, the "
                        "number of batches times their size, of which the last is smaller",
                    )


def _names_of(source: ScriptSource, node: ast.expr) -> set[str]:
    """The names of variables, of `[s / n for s in sums]` also that of what is gone through."""
    around = [part for part in source.around(node) if isinstance(part, ast.ListComp | ast.GeneratorExp | ast.DictComp)]
    each = [one for part in around for one in part.generators if names_in(one.target) & names_in(node)]
    return names_in(node).union(*(names_in(one.iter) for one in each))


def _finding(where: str, measured: str, why: str, remedy: str, limit: str) -> Finding:
    return WRONG_COUNT.finding(
        severity="error",
        where=where,
        measured=measured,
        limit=limit,
        why=why,
        remedy=remedy,
    )


_BEGUN_ONCE = "a count that is created before the epochs and never reset"
_OTHER_NUMBER = "a count over a loader's samples, divided by a number other than theirs"
_COUNT_SAMPLES = "count the samples as well, `total += len(targets)`, and divide by `total`"


def _no_share(node: ast.AST, measured: str, remedy: str = _COUNT_SAMPLES, limit: str = _OTHER_NUMBER) -> Finding:
    where = f"line {getattr(node, 'lineno', 0)}"
    return _finding(where, measured, "The number printed as an accuracy is not the accuracy.", remedy, limit)


def _divided_by_batches(source: ScriptSource) -> Iterator[Finding]:
    """`hits / n` behind `for n, (x, y) in enumerate(batches, 1)`, or `for i in range(0, len(x), 32): n += 1`, that adds
    up right predictions: n counts batches."""
    for loop in source.nodes(ast.For):
        counts = _counting_batches(source, loop)
        if not counts or not any(source.runs_network(part) for part in ast.walk(loop)):
            continue
        for name, (kind, value) in added_in(loop).items():
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                inside = [part.id for part in ast.walk(below) if isinstance(part, ast.Name)]
                divides = name in names_in(above) and len(inside) == 1 and inside[0] in counts
                if kind == "sum" and _counts(value, loop) and divides:
                    yield _no_share(
                        node,
                        f"`{ast.unparse(node)}` divides a count of right predictions by `{inside[0]}`, which "
                        f"counts the batches of the loop in line {loop.lineno}",
                    )


def _with_padding(source: ScriptSource) -> Iterator[Finding]:
    for node in padding_counted(source):
        yield _no_share(
            node,
            f"`{ast.unparse(node)}` divides the right predictions where a mask is set by the number of all "
            "positions, including padding",
            "divide by the number of positions where the mask is set: `total += int(mask.sum())`",
            "a count where a mask is set, divided by the number of all positions",
        )


def _counting_batches(source: ScriptSource, loop: ast.For) -> set[str]:
    """Names that count the passes of a loop over batches."""
    given = loop.iter.args if isinstance(loop.iter, ast.Call) else []
    if called(loop.iter) == "range" and len(given) == 3 and not source.is_number(given[2], 1):
        return _ones(loop)
    target = loop.target.elts[0] if isinstance(loop.target, ast.Tuple) else None
    if called(loop.iter) != "enumerate" or not given or not isinstance(target, ast.Name):
        return set()
    known = source.value(given[0])
    batched = (
        batch_size_of(known) != 1 if isinstance(known, DataLoader) else _BATCHES.search(ast.unparse(given[0]).lower())
    )
    return {target.id} if batched else set()


_BATCHES = re.compile("batch|loader")


def _quotient(node: ast.AST) -> tuple[ast.AST, ast.expr, ast.expr] | None:
    """What is divided by what in `a / b`, `a / float(b)` or `a /= b`, behind the node itself."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        above, below = node.left, node.right
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
        above, below = node.target, node.value
    else:
        return None
    converted = isinstance(below, ast.Call) and called(below) in ("float", "int") and len(below.args) == 1
    return node, above, below.args[0] if isinstance(below, ast.Call) and converted else below


def _is_mean_loss(source: ScriptSource, value: ast.expr) -> bool:
    """Whether it is what a loss of torch gives for a batch, their mean, or another mean, and not times their number."""
    inside, bare = list(ast.walk(value)), value
    if any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) for node in inside):
        return False
    while isinstance(bare, ast.Call) and called(bare) in ("item", "float", "detach", "cpu"):
        owner = receiver_of(bare)
        bare = owner if owner is not None else bare.args[0] if bare.args else ast.Constant(0)
    if isinstance(bare, ast.Call) and called(bare) == "mean" and not bare.args and not bare.keywords:
        return receiver_of(bare) is not None
    for node in inside:
        function = source.value(node.func) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and getattr(function, "__module__", "") == "torch.nn.functional":
            given = {word.arg for word in node.keywords}
            return called(node) in _LOSSES and not given & {"reduction", "size_average", "reduce"}
        if isinstance(function, torch.nn.modules.loss._Loss):
            return function.reduction == "mean"
    return False


_LOSSES = (
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy"),
    "binary_cross_entropy_with_logits",
)


def _of_mean_losses(node: ast.AST, value: ast.expr, batches: int, samples: int) -> Finding:
    return _finding(
        f"line {getattr(node, 'lineno', 0)}",
        f"`{ast.unparse(node)}` divides a sum of {several(batches, 'mean')}, `{ast.unparse(value)}` of each batch, "
        f"by {several(samples, 'sample')}: the result is {samples / batches:.0f} times too small",
        "The number printed as the mean is not the mean, and cannot be compared with that of training.",
        "add up sums, with `reduction='sum'` or the mean times `len(targets)`, and divide by the number of samples",
        "a sum of the mean losses of batches, divided by the number of samples",
    )


def _logged_otherwise(evidence: Evidence) -> Iterator[Finding]:
    """What a library logs as an accuracy, where it is another than the share of predictions that are right."""
    numbers, predicted, targets = logged(evidence)
    named = {name: value for name, value in numbers.items() if is_accuracy(name)}
    if _is_right(evidence, [(value,) for value in named.values()], predicted, targets):
        return
    name, value = next(iter(named.items()))
    yield _no_accuracy("validation", f"`{name}` is {value:.4g}", predicted == targets)


def _is_right(
    evidence: Evidence, named: Iterable[tuple[float, ...]], predicted: torch.Tensor, targets: torch.Tensor
) -> bool:
    """Whether one number of those that are to be an accuracy is one, as a share, in percent or as a count, of all
    samples, of those that the loss does not ignore, or in the mean of the classes; also where there is none, or hardly
    a prediction is right."""
    right, true = predicted == targets, list[float]()
    ignored = torch.tensor([IGNORED, *(call.ignored for call in class_losses(evidence))])
    counted = (targets >= 0) & ~torch.isin(targets, ignored)
    for part in (torch.ones_like(counted), counted):
        recalls = [float(right[part & (targets == label)].float().mean()) for label in targets[part].unique()]
        true += [float(right[part].float().mean()), sum(recalls) / max(len(recalls), 1)]
    scales = (1.0, 100.0, float(len(targets)))
    # Of `430/450 (95.6%)` the 450 is what the count is of.
    said = [number for numbers in named for number in numbers if len(numbers) == 1 or number != len(targets)]
    told = [number / scale for number in said for scale in scales]
    few = int(right.sum()) < max(2, 0.1 * len(targets))
    return few or not told or any(abs(number - other) < _LOGGED for number in told for other in true)


def _no_accuracy(where: str, told: str, right: torch.Tensor) -> Finding:
    return _finding(
        where,
        f"{told} for a network with {int(right.sum())} of {several(len(right), 'validation sample')} right, "
        f"{float(right.float().mean()):.1%}",
        "The reported accuracy is not that of the predictions.",
        "compare classes and labels of the same shape, `(logits.argmax(-1) == labels).sum()`, and divide by "
        "the number of labels",
        f"the reported accuracy differs from the true one by {_LOGGED:.0%} or more",
    )


def _part_of_all(evidence: Evidence) -> Iterator[Finding]:
    for line, measured in share_of_all(evidence):
        yield _finding(
            f"line {line}",
            measured,
            "A perfect network would not get a perfect score.",
            "divide by the number of samples that are counted: `(predicted[mask] == y[mask]).float().mean()`",
            "an accuracy that divides the right predictions in a part of the samples by the number of all samples",
        )


def _wrong_result(evidence: Evidence) -> Iterator[Finding]:
    """What the script's own evaluation gives, where it is a count of right predictions divided by something else."""
    found = evaluated(evidence)
    samples, batches = sum(found.sizes), len(found.sizes)
    loader = evidence.setup.train
    trained = size_of(loader) if isinstance(loader, DataLoader) else None
    others = {batches: "the number of batches", max(found.sizes): "the size of a batch"}
    others |= {batches * max(found.sizes): "the number of batches times their size, and the last is smaller"}
    for path, _ in leaves(evidence.val.raw[0]):
        rows = sum(len(part) for batch in evidence.val.raw if (part := leaf(batch, path)) is not None and part.ndim)
        if rows > samples:
            others.setdefault(rows, "the number of nodes, or of other rows in a batch")
    if trained is not None:
        others |= {trained[0]: "the number of training samples", trained[1]: "the number of training batches"}
    right = sum(found.right)
    wrong = 1 - found.share
    # A loss near zero is no share of none.
    if found.gives(found.share) or (wrong > 0 and found.gives(wrong)) or right < max(2, 0.1 * samples):
        return
    for number, what in others.items():
        if number not in (0, samples) and found.gives(right / number):
            yield _finding(
                found.where,
                f"for a network with {right} of {several(samples, 'validation sample')} right "
                f"`{found.text}` gives {right / number:.4g}: the count divided by {number}, {what}",
                "The number printed as an accuracy is not the accuracy.",
                _COUNT_SAMPLES,
                _OTHER_NUMBER,
            )
            return
    known = asked_directly(evidence) if found.accuracies else None
    if known is not None and found.in_training:
        training = asked_directly(evidence, evaluating=False)
        known = known if training is not None and torch.equal(known[0], training[0]) else None  # dropout, batch norm
    if known is not None and not _is_right(evidence, found.accuracies, *known):
        numbers = listed([f"{number:.4g}" for number in found.accuracies[0]])
        yield _no_accuracy(found.where, f"`{found.text}` gives {numbers} as an accuracy", known[0] == known[1])


def _ones(loop: ast.For) -> set[str]:
    """Names to which each pass of a loop adds 1: they count batches."""
    return {
        node.target.id
        for node in loop.body
        if isinstance(node, ast.AugAssign)
        and isinstance(node.op, ast.Add)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
        and node.value.value == 1
    }


def _is_size_at_hand(value: ast.expr, loop: ast.For) -> bool:
    """Whether it is the number of samples of the batch that a loop goes over, as `len(y)`."""
    sized = _SIZE.fullmatch(ast.unparse(value))
    return sized is not None and next(filter(None, sized.groups())) in names_in(loop.target)


_SIZE = re.compile(r"len\((\w+)\)|(\w+)\.size\((?:dim=)?0\)|(\w+)\.shape\[0\]")


def _is_batch_size(source: ScriptSource, value: ast.expr, loader: DataLoader, known: dict[str, Any]) -> bool:
    """Whether it is the number of samples of a whole batch, whatever the batch at hand has."""
    size = batch_size_of(loader)
    return size is not None and source.is_number(value, size, **known)


def _counts(value: ast.expr, loop: ast.For) -> bool:
    """Whether it adds up samples that are right: a sum over a comparison, made there or in another line of the loop. A
    quotient is a share of its batch, as an overlap is."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div):
        return False
    inside = list(ast.walk(value))
    sums = [node for node in inside if isinstance(node, ast.Call) and called(node) == "sum"]
    names = {_of_parts(owner) for node in sums if (owner := receiver_of(node)) is not None}
    for node in ast.walk(loop):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in names:
            inside.extend(ast.walk(node.value))
    return bool(sums) and any(isinstance(node, ast.Compare) or called(node) in ("eq", "equal") for node in inside)


def _of_parts(node: ast.expr) -> str:
    """What is counted where all parts of a sample have to be right, or one: `right` of `right.all(dim=1)`."""
    owner = receiver_of(node) if isinstance(node, ast.Call) and called(node) in ("all", "any") else None
    return ast.unparse(node if owner is None else owner)


WRONG_COUNT = Check(
    codes=("eval.wrong-count",),
    question="Is a count of right predictions divided by the number of samples?",
    run=_wrong_count,
    of_source=True,
)
