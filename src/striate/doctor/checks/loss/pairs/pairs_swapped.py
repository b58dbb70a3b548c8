"""`loss.pairs-swapped`: does the loss pull together what belongs together?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

import torch
from torch import nn
from torch.nn import functional

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.pairs.drawn_above import BELONGING, drawn_above
from striate.doctor.checks.loss.pairs.far_mates import RIGHT, WRONG, nearest_mates
from striate.doctor.evidence.calls import watch_calls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import neighbors
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.substituted_outputs import loss_depends_on, loss_of, loss_of_batch, step_outputs
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import altered, leaves, main_tensor, parts, size_of
from striate.records import Finding
from striate.wording import several

CODE = "loss.pairs-swapped"
_FEWEST = 60
"""Pairs of each kind."""
_BATCH = 8
_BATCHES, _STEPS, _CLEARLY = 4, 12, 0.1
_RANKED = 8
"""Steps in which a ranking loss has a gradient."""
_MOST_RIGHT = 0.6
_MOST_STEPS, _WORSE = 0.75, 0.1
_SOON, _BETTER = 0.01, 0.05
"""Of the steps; samples fewer whose nearest is of their class; of the first loss; and so many samples more."""
_MATES, _ROUNDED, _EVEN = 0.25, 0.01, 0.05
"""Share of rows in which the mate's score is the highest, but for so much of what it is above the middle: of right ones
nearly all."""
_TIMES = 2.0
"""What embeddings by class cost more than the same ones in another order."""
_ERRORS = 3.3
"""Standard errors below an even chance: of 2,000 healthy setups one, were inputs by chance."""

_OF_OTHERS = "The loss pulls views of different samples together, so nothing is learned about a single sample."
_BY_LABEL = (
    "pull samples with the same label together, `positive = labels[:, None] == labels[None]`, and push the others "
    "apart, `negative = ~positive`"
)
_ONE_ORDER = (
    "use the same order of views for concatenation and for the partner that the loss asks for: "
    "`x = torch.cat([first, second])` and `target = torch.arange(2 * n).roll(n)`"
)


def _run(evidence: Evidence) -> Iterator[Finding]:
    own = _asks_for_few(evidence)
    if own is not None:
        yield own
        return
    apart = (
        _other_views(evidence)
        or _other_mates(evidence)
        or _classes_driven_apart(evidence)
        or _content_with_mixed(evidence)
        or _drawn_above(evidence)
    )
    if apart is not None:
        yield apart
        return
    pulled, pushed = evidence.pairs
    if min(len(pulled), len(pushed)) < _FEWEST:
        raise NoEvidence("no loss pulls some pairs of embeddings together and pushes others apart")
    nearer, error = _nearer(pulled, pushed)
    if nearer > 0.5 - _ERRORS * error or _are_of_one_kind(evidence) or _classes_brought_together(evidence):
        return
    yield CHECK.finding(
        severity="error",
        where="the loss",
        measured=f"the gradient pulls {several(len(pulled), 'pair')} of embeddings together and pushes {len(pushed)} "
        f"apart, but the inputs of the pulled pairs are closer to each other in only {nearer:.0%} of comparisons",
        limit=f"inputs of pulled pairs that are farther apart than those of pushed pairs, by {_ERRORS:g} standard "
        f"errors, with at least {_FEWEST} pairs of each kind",
        why="Positive and negative, or equal and different, are exchanged: similar samples end far apart.",
        remedy="pass anchor, positive, negative in this order: `nn.TripletMarginLoss()(anchor, positive, negative)`; "
        "for pairs, use the label that makes the loss pull equal ones: "
        "`nn.CosineEmbeddingLoss()(a, b, 2 * same.float() - 1)`",
    )


def _are_of_one_kind(evidence: Evidence) -> bool:
    """Whether samples come in pairs and the loss asks for no number of a pair, as of views: those that are near are
    pulled little, and may be pushed."""
    batch = evidence.train.raw[0]
    if any(len(sets.outputs) != 2 for sets in evidence.embeddings):
        return False
    numbers = [path for path, tensor in leaves(batch) if tensor.ndim and tensor[:1].numel() == 1]
    own = loss_of_batch(evidence, None, batch)
    changed = (altered(batch, path, lambda values: values.roll(1, 0)) for path in numbers)
    return all(loss_of_batch(evidence, None, other) == own for other in changed)


def _asks_for_few(evidence: Evidence) -> Finding | None:
    """Scores of each sample with each, of which the loss asks for a few columns: not for each sample's own partner."""
    known = [tensor.detach().cpu() for _, tensor in leaves(evidence.train.raw[0])]
    for call in class_losses(evidence):
        size = len(call.target)
        if size < _BATCH or call.input.shape != (size, size) or size != size_of(evidence.train.raw[0]):
            continue
        given = any(t.shape == call.target.shape and torch.equal(t, call.target.cpu()) for t in known)
        asked = call.target.unique()
        if not given and len(asked) < size / 2:
            return CHECK.finding(
                severity="error",
                where="the loss",
                measured=f"the loss gets scores of {size} samples with each other, but asks for only "
                f"{several(len(asked), 'column')} of them ({', '.join(map(str, asked.tolist()[:5]))})",
                limit="scores of samples with each other, of which the loss asks for fewer columns than half of the "
                "samples",
                why="The partner of each sample is in its own column, but the loss pulls all samples to the same few "
                "others.",
                remedy="`F.cross_entropy(scores, torch.arange(len(scores)))`",
            )
    return None


def _other_views(evidence: Evidence) -> Finding | None:
    """Scores of each view with each: with both views of a batch made one, each row's highest score is that of its own
    image, and the loss has to ask for that."""
    batch = evidence.train.raw[0]
    views = [(path, tensor) for path, tensor in leaves(batch) if tensor.ndim >= 2 and tensor.is_floating_point()]
    if len(views) != 2 or views[0][1].shape != views[1][1].shape or len(views[0][1]) < _BATCH:
        return None
    if any(
        isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in evidence.fresh.model.modules()
    ):
        return None
    (_, one), (path, _) = views
    equal = altered(batch, path, lambda _: one.clone())
    for call in watch_calls(evidence.setup, equal, evidence.clock.until(0.1)).losses:
        scores, target = call.input.detach().float().cpu(), call.target.detach().cpu()
        if (
            scores.ndim != 2
            or target.ndim != 1
            or target.is_floating_point()
            or len(scores) not in (len(one), 2 * len(one))
        ):
            continue
        if scores.shape[1] not in (len(scores), len(scores) - 1) or int(target.min()) < 0:
            continue
        highest = scores.max(1).values
        above = highest - scores.median(1).values
        if float(highest.std()) > _EVEN * float(above.mean()):
            continue  # no row has the score of a view with itself: two networks, which are not alike at first
        mates = float((scores.gather(1, target[:, None])[:, 0] >= highest - _ROUNDED * above).float().mean())
        if mates > _MATES or len(target.unique()) < len(target) / 2:
            continue
        return CHECK.finding(
            severity="error",
            where="the loss",
            measured=f"with two identical views of each of {several(len(one), 'sample')}, the score that the loss asks "
            f"for is the highest in {mates:.0%} of {several(len(scores), 'row')}",
            limit="with two identical views of each sample, the loss asks for the highest score in at most "
            f"{_MATES:.0%} of the rows",
            why=_OF_OTHERS,
            remedy=_ONE_ORDER,
        )
    return None


def _other_mates(evidence: Evidence) -> Finding | None:
    """Views that the step makes by itself, put together in one order and looked for in another."""
    try:
        found = nearest_mates(evidence)
    except NoEvidence:
        return None
    if found is None or found.asked > WRONG or found.best < RIGHT:
        return None
    asked, best, size = found
    return CHECK.finding(
        severity="error",
        where="the loss",
        measured=f"among {size} views, inputs are closer to the view that the loss asks for than to others in "
        f"{asked:.0%} of comparisons, and in {best:.0%} if views are paired in another order",
        limit=f"inputs that are closer to the view that the loss asks for in at most {WRONG:.0%} of comparisons, and "
        f"in {RIGHT:.0%} if views are paired in another order",
        why=_OF_OTHERS,
        remedy=_ONE_ORDER,
    )


def _classes_driven_apart(evidence: Evidence) -> Finding | None:
    """Embeddings beside class numbers, of which the gradient drives those of one class apart, and together others."""
    not_classes = next(class_losses(evidence), None) is None
    if evidence.trial.maximizes:
        return None
    with suppress(NoEvidence):
        whole, ranking_gradients = evidence.pulled_by_class
        swapped = [pulled for pulled in ranking_gradients if len(pulled) >= _RANKED and _ranks_apart(pulled)]
        if not swapped and _predicts(evidence):
            return None
        swapped += [
            pulled
            for pulled in whole
            if len(pulled) >= _BATCHES
            and (
                all(same < 0 < different for same, different in pulled)
                or (
                    (_others_nearer(pulled) or _unlearned(evidence, pulled))
                    and (not_classes or _costs_more_by_class(evidence))
                )
            )
        ]
        if not swapped or not loss_depends_on(evidence, lambda numbers: numbers.roll(1, 0)):
            return None
        return CHECK.finding(
            severity="error",
            where="the loss",
            measured=f"in {sum(same < other for same, other in swapped[0])} of "
            f"{several(sum(map(any, swapped[0])), 'step')} with a gradient, the loss pulls embeddings with different "
            "labels together more than those with the same label",
            limit=f"a gradient that pushes embeddings of one class apart and pulls others together, in each of "
            f"{_BATCHES} steps or more, or of a ranking loss alone in {_RANKED}",
            why="Positive and negative are exchanged: similar samples end far apart.",
            remedy=_BY_LABEL,
        )
    return None


def _costs_more_by_class(evidence: Evidence) -> bool:
    """Whether the loss is larger with embeddings that are alike within a class than with these in another order, where
    scores that a cross entropy asks for beside them are all alike."""
    labels = main_tensor(parts(evidence.train.raw[0])[1])
    assert labels is not None, "the gradient was told apart by them"
    scores = {call.input.shape for call in class_losses(evidence)}
    generator = torch.Generator().manual_seed(0)
    first = (labels[:, None] == labels).long().argmax(1).cpu()
    others = first[torch.randperm(len(first), generator=generator)]

    def loss(rows: torch.Tensor) -> float:
        def answer(_: int, given: torch.Tensor) -> torch.Tensor:
            drawn = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(given)
            alike = functional.normalize(drawn.flatten(1))[rows] * given.flatten(1).norm(dim=1).mean()
            return torch.zeros_like(given) if given.shape in scores else alike.reshape(given.shape)

        return loss_of(evidence, answer)

    with suppress(NoEvidence):
        right, mixed = loss(first), loss(others)
        return right > mixed + _CLEARLY * abs(mixed)
    return False


def _content_with_mixed(evidence: Evidence) -> Finding | None:
    """Embeddings beside class numbers of which the loss asks nothing in most steps, though it is larger where all of
    one class are the same than where those of several classes are."""
    batch, losses = evidence.train.raw[0], evidence.trial.losses
    nothing = losses.count(0.0)
    labels = main_tensor(parts(batch)[1])
    if nothing <= len(losses) / 2 or next(class_losses(evidence), None) is not None:
        return None
    if labels is None or labels.ndim != 1 or labels.is_floating_point() or len(labels.unique()) == len(labels):
        return None
    first = (labels[:, None] == labels).long().argmax(1).cpu()
    others = first[torch.randperm(len(first), generator=torch.Generator().manual_seed(0))]
    with suppress(NoEvidence):
        if [tensor.shape[:-1] for tensor in step_outputs(evidence)] != [labels.shape]:
            return None
        right = loss_of(evidence, lambda _, tensor: tensor[first])
        mixed = loss_of(evidence, lambda _, tensor: tensor[others])
        if not right > _TIMES * max(mixed, *losses):
            return None
        return CHECK.finding(
            severity="error",
            where="the loss",
            measured=f"the loss is 0 in {nothing} of {several(len(losses), 'step')}; with the same embedding for all "
            f"samples of a class it is {right:.3g}, and with these embeddings in another order {mixed:.3g}",
            limit=f"a loss of 0 in most steps that is {_TIMES:g} times larger with the same embedding for all samples "
            "of a class than with these embeddings in another order",
            why="Positive and negative are exchanged: similar samples end far apart.",
            remedy=_BY_LABEL,
        )
    return None


def _classes_brought_together(evidence: Evidence) -> bool:
    """Whether those of one class are pulled together more than others in each step: what looks alike and is pushed
    apart is of another class, and hard to tell."""
    with suppress(NoEvidence):
        whole, _ = evidence.pulled_by_class
        return any(len(one) >= _BATCHES and all(same > different for same, different in one) for one in whole)
    return False


def _drawn_above(evidence: Evidence) -> Finding | None:
    """Scores of users with two items each, of which those of items drawn by chance are raised."""
    found = None if evidence.trial.maximizes else drawn_above(evidence)
    if found is None:
        return None
    lowered, raised, count = found
    return CHECK.finding(
        severity="error",
        where="the loss",
        measured=f"in {several(count, 'pair')} of scores the gradient lowers the score of the user's item ({lowered}) "
        f"and raises that of the other item ({raised})",
        limit="a gradient that raises scores of items that seem to be drawn at random, and lowers those of items of "
        f"which two users share two at least {BELONGING:g} times as often as by chance",
        why="Positive and negative are exchanged: items that a user chose are ranked below items drawn at random.",
        remedy="put the score of the chosen item first: `-F.logsigmoid(positive - negative).mean()`",
    )


def _predicts(evidence: Evidence) -> bool:
    """Whether the outputs are scores of classes, most of which become right."""
    with suppress(NoEvidence):
        return evidence.after.accuracy > _MOST_RIGHT
    return False


def _ranks_apart(pulled: list[tuple[float, float]]) -> bool:
    """Whether a ranking loss drives those of one class apart, and in each step more than others."""
    return sum(same for same, _ in pulled) < 0 and all(same < different for same, different in pulled)


def _others_nearer(pulled: list[tuple[float, float]]) -> bool:
    """Whether those with two labels are pulled together more than those with one in each of many steps, clearly so."""
    if len(pulled) < _STEPS or not all(same < different for same, different in pulled):
        return False
    return sum((different - same) / max(abs(different), 1e-12) for same, different in pulled) > _CLEARLY * len(pulled)


def _unlearned(evidence: Evidence, pulled: list[tuple[float, float]]) -> bool:
    """Whether most steps pull those with two labels together more than those with one, and fewer samples than before
    have one of their own class as their nearest; or no more than before, and the loss is content all the same."""
    steps = [(same, different) for same, different in pulled if same or different]
    if not steps or sum(same < different for same, different in steps) < _MOST_STEPS * len(steps):
        return False
    first, last = evidence.trial.losses[0], evidence.trial.level()
    sizes = evidence.train.sizes
    before, after = (_of_own_class(given, sizes) for given in (evidence.start_training, evidence.after_training))
    content = 0 <= last < _SOON * first and len(steps) < len(pulled)
    return after < before - _WORSE or (content and after < before + _BETTER)


def _of_own_class(predictions: Predictions, sizes: Sequence[int]) -> float:
    """Share of samples whose nearest embedding is one of their class; of several views of a batch, behind each other,
    in the first."""
    rows, labels = predictions.outputs.flatten(1).double(), predictions.targets
    assert labels is not None
    if len(rows) > len(labels):
        views, ends = len(rows) // len(labels), list(accumulate(sizes))
        sizes = sizes[: ends.index(len(labels)) + 1]
        rows = torch.cat([part[:n] for part, n in zip(rows.split([views * n for n in sizes]), sizes, strict=True)])
    return float((labels[neighbors(rows, rows, same=True).nearest] == labels).double().mean())


def _nearer(pulled: torch.Tensor, pushed: torch.Tensor) -> tuple[float, float]:
    """How often a pulled pair is nearer than a pushed one (the area under the ROC curve), and its standard error where
    there is no difference (Mann and Whitney 1947)."""
    m, n = len(pulled), len(pushed)
    less = (pulled[:, None] < pushed[None]).double().mean() + 0.5 * (pulled[:, None] == pushed[None]).double().mean()
    return float(less), float(((m + n + 1) / (12 * m * n)) ** 0.5)


CHECK = Check(
    codes=(CODE,),
    question="Does the loss pull together what belongs together?",
    run=_run,
    quick=False,
    explains="loss.sign loss.degenerate loss.wrong-for-task model.collapsed fit.* optim.lr-too-low eval.wrong-count",
)
