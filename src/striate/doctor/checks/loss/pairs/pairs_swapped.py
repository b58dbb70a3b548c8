"""`loss.pairs-swapped`: does the loss pull matching pairs together and others apart?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

import torch
from torch import nn
from torch.nn import functional

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.pairs.contrastive_partners import RIGHT, WRONG, nearest_partners, scores_all_pairs
from striate.doctor.checks.loss.pairs.sampled_negatives import BELONGING, sampled_ranked_higher
from striate.doctor.evidence.call_graph import REGRESSION
from striate.doctor.evidence.calls import watch_calls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import neighbors
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.substituted_outputs import loss_depends_on, loss_of, loss_of_batch, step_outputs
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import altered, leaves, main_tensor, parts, size_of
from striate.records import Finding
from striate.wording import percent, several

CODE = "loss.pairs-swapped"
_FEWEST = 60
"""Pairs of each kind."""
_BATCH = 8
_BATCHES, _STEPS, _CLEARLY = 4, 12, 0.1
_RANKED = 8
"""Fewest steps in which a ranking loss has a gradient."""
_MOST_RIGHT = 0.6
_MOST_STEPS, _WORSE = 0.75, 0.1
_SOON, _BETTER = 0.01, 0.05
"""`_MOST_STEPS`: share of the steps that pull samples of different classes more; `_WORSE`: by how much the share of
samples falls whose nearest embedding is of their class; `_SOON`: share of the first loss; `_BETTER`: by how much that
share of samples rises at most."""
_PARTNERS, _ROUNDED, _EVEN = 0.25, 0.01, 0.05
"""Share of rows in which the partner's score is the highest, at most (of right partners it is nearly 1); the tolerance,
and the standard deviation of the highest scores, both relative to the height above the median."""
_TIMES = 2.0
"""How many times larger the loss is with embeddings ordered by class than with the same embeddings shuffled."""
_ERRORS = 3.3
"""Standard errors below one half: one in 2,000 healthy setups, if inputs were random."""

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
        or _other_partners(evidence)
        or _themselves(evidence)
        or _classes_driven_apart(evidence)
        or _zero_when_mixed(evidence)
        or _sampled_above(evidence)
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
        f"apart, but the inputs of the pulled pairs are closer to each other in only {percent(nearer, 0)} of "
        "comparisons",
        limit=f"inputs of pulled pairs that are farther apart than those of pushed pairs, by {_ERRORS:g} standard "
        f"errors, with at least {_FEWEST} pairs of each kind",
        why="Positive and negative, or equal and different, are exchanged: similar samples end far apart.",
        remedy="pass anchor, positive, negative in this order: `nn.TripletMarginLoss()(anchor, positive, negative)`; "
        "for pairs, use the label that makes the loss pull equal ones: "
        "`nn.CosineEmbeddingLoss()(a, b, 2 * same.float() - 1)`",
    )


def _are_of_one_kind(evidence: Evidence) -> bool:
    """Whether samples come in pairs and the loss depends on no number of a pair, as with pairs of views: near pairs are
    pulled little, and may be pushed."""
    batch = evidence.train.raw[0]
    if any(len(sets.outputs) != 2 for sets in evidence.embeddings):
        return False
    numbers = [path for path, tensor in leaves(batch) if tensor.ndim and tensor[:1].numel() == 1]
    own = loss_of_batch(evidence, None, batch)
    changed = (altered(batch, path, lambda values: values.roll(1, 0)) for path in numbers)
    return all(loss_of_batch(evidence, None, other) == own for other in changed)


def _asks_for_few(evidence: Evidence) -> Finding | None:
    """Scores of all pairs of samples, of which the loss asks for only a few columns instead of each sample's
    partner."""
    in_batch = [tensor.detach().cpu() for _, tensor in leaves(evidence.train.raw[0])]
    for call in class_losses(evidence):
        size = len(call.target)
        if size < _BATCH or call.input.shape != (size, size) or size != size_of(evidence.train.raw[0]):
            continue
        from_batch = any(t.shape == call.target.shape and torch.equal(t, call.target.cpu()) for t in in_batch)
        columns = call.target.unique()
        if not from_batch and len(columns) < size / 2:
            return CHECK.finding(
                severity="error",
                where="the loss",
                measured=f"the loss gets scores of {size} samples with each other, but asks for only "
                f"{several(len(columns), 'column')} of them ({', '.join(map(str, columns.tolist()[:5]))})",
                limit="scores of samples with each other, of which the loss asks for fewer columns than half of the "
                "samples",
                why="The partner of each sample is in its own column, but the loss pulls all samples to the same few "
                "others.",
                remedy="`F.cross_entropy(scores, torch.arange(len(scores)))`",
            )
    return None


def _other_views(evidence: Evidence) -> Finding | None:
    """A loss of scores of all pairs of views that asks for the wrong ones. If both views of a batch are made identical,
    the highest score of each row is that of its own image, and the loss has to ask for it."""
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
            continue  # no score compares a view with itself: two networks, which differ at first
        share = float((scores.gather(1, target[:, None])[:, 0] >= highest - _ROUNDED * above).float().mean())
        if share > _PARTNERS or len(target.unique()) < len(target) / 2:
            continue
        return CHECK.finding(
            severity="error",
            where="the loss",
            measured=f"with two identical views of each of {several(len(one), 'sample')}, the score that the loss asks "
            f"for is the highest in {percent(share, 0)} of {several(len(scores), 'row')}",
            limit="with two identical views of each sample, the loss asks for the highest score in at most "
            f"{percent(_PARTNERS, 0)} of the rows",
            why=_OF_OTHERS,
            remedy=_ONE_ORDER,
        )
    return None


def _other_partners(evidence: Evidence) -> Finding | None:
    """Views that the step itself creates, and concatenates in another order than the loss assumes."""
    try:
        shares = nearest_partners(evidence)
    except NoEvidence:
        return None
    if shares is None or shares.by_loss > WRONG or shares.reordered < RIGHT:
        return None
    return CHECK.finding(
        severity="error",
        where="the loss",
        measured=f"among {shares.rows} views, inputs are closer to the view that the loss asks for than to others in "
        f"{percent(shares.by_loss, 0)} of comparisons, and in {percent(shares.reordered, 0)} if views are paired in "
        "another order",
        limit=f"inputs that are closer to the view that the loss asks for in at most {percent(WRONG, 0)} of "
        f"comparisons, and in {percent(RIGHT, 0)} if views are paired in another order",
        why=_OF_OTHERS,
        remedy=_ONE_ORDER,
    )


def _themselves(evidence: Evidence) -> Finding | None:
    """Scores of all views with each other, in which each view is also compared with itself."""
    for call in class_losses(evidence):
        scores, target = call.input.detach().float().cpu(), call.target.detach().cpu()
        if not scores_all_pairs(scores, target) or bool((target == torch.arange(len(target))).any()):
            continue
        own, above = scores.diag(), scores.max(1).values - scores.median(1).values
        highest = own >= scores.max(1).values - _ROUNDED * above
        if bool(highest.all()):
            return CHECK.finding(
                severity="error",
                where="the loss",
                measured=f"the scores of {several(len(target), 'view')} contain those of each view with itself: they "
                "are the highest of their rows, and the loss never asks for them",
                limit="scores of samples with each other whose diagonal is the highest in each row, and never asked "
                "for",
                why="Each view competes with itself, the most similar one of all, so the loss cannot become small.",
                remedy="leave out the diagonal: `scores.fill_diagonal_(float('-inf'))` before `F.cross_entropy`",
            )
    return None


def _classes_driven_apart(evidence: Evidence) -> Finding | None:
    """Embeddings with labels, where the gradient pushes those of one class apart and pulls others together."""
    not_classes = next(class_losses(evidence), None) is None
    if evidence.trial.maximizes:
        return None
    with suppress(NoEvidence):
        if _is_told_labels(evidence):
            return None
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


def _is_told_labels(evidence: Evidence) -> bool:
    """Whether the network gets the labels as an input, and its outputs are compared with other numbers, as those of a
    denoiser are with noise: no loss of pairs."""
    labels = main_tensor(parts(evidence.train.raw[0])[1])
    if labels is None or not evidence.first.gets(labels):
        return False
    made = {tuple(tensor.shape) for tensor in step_outputs(evidence)}
    return any(call.name in REGRESSION and tuple(call.input.shape) in made for call in evidence.calls.losses)


def _costs_more_by_class(evidence: Evidence) -> bool:
    """Whether the loss is larger with embeddings that are equal within each class than with the same embeddings
    shuffled. Scores that go to a cross entropy are set to zero in both."""
    labels = main_tensor(parts(evidence.train.raw[0])[1])
    assert labels is not None, "`pulled_by_class` needs labels"
    scores = {call.input.shape for call in class_losses(evidence)}
    generator = torch.Generator().manual_seed(0)
    first = (labels[:, None] == labels).long().argmax(1).cpu()
    others = first[torch.randperm(len(first), generator=generator)]

    def loss(rows: torch.Tensor) -> float:
        def output(_: int, own: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(0)).to(own)
            alike = functional.normalize(noise.flatten(1))[rows] * own.flatten(1).norm(dim=1).mean()
            return torch.zeros_like(own) if own.shape in scores else alike.reshape(own.shape)

        return loss_of(evidence, output)

    with suppress(NoEvidence):
        right, mixed = loss(first), loss(others)
        return right > mixed + _CLEARLY * abs(mixed)
    return False


def _zero_when_mixed(evidence: Evidence) -> Finding | None:
    """A loss of embeddings with labels that is 0 in most steps, though it is larger with one embedding per class than
    with these embeddings shuffled."""
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
    """Whether each step pulls embeddings of one class together more than others; similar inputs that are pushed apart
    are then of different classes."""
    with suppress(NoEvidence):
        whole, _ = evidence.pulled_by_class
        return any(len(one) >= _BATCHES and all(same > different for same, different in one) for one in whole)
    return False


def _sampled_above(evidence: Evidence) -> Finding | None:
    """Scores of users with two items each, where the loss raises the scores of randomly sampled items."""
    found = None if evidence.trial.maximizes else sampled_ranked_higher(evidence)
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
    """Whether the outputs are scores of classes that predict most labels right after the trial."""
    with suppress(NoEvidence):
        return evidence.after.accuracy > _MOST_RIGHT
    return False


def _ranks_apart(pulled: list[tuple[float, float]]) -> bool:
    """Whether a ranking loss pushes embeddings of one class apart, and in each step more than others. `pulled`: for
    each step, how much it pulls pairs of the same class and pairs of different classes together."""
    return sum(same for same, _ in pulled) < 0 and all(same < different for same, different in pulled)


def _others_nearer(pulled: list[tuple[float, float]]) -> bool:
    """Whether each of many steps pulls samples of different classes together clearly more than those of the same."""
    if len(pulled) < _STEPS or not all(same < different for same, different in pulled):
        return False
    return sum((different - same) / max(abs(different), 1e-12) for same, different in pulled) > _CLEARLY * len(pulled)


def _unlearned(evidence: Evidence, pulled: list[tuple[float, float]]) -> bool:
    """Whether most steps pull samples of different classes together more than those of the same class, and nearest
    embeddings are of the same class for fewer samples than before; or for no more than before, while the loss is near
    zero."""
    steps = [(same, different) for same, different in pulled if same or different]
    if not steps or sum(same < different for same, different in steps) < _MOST_STEPS * len(steps):
        return False
    first, last = evidence.trial.losses[0], evidence.trial.level()
    sizes = evidence.train.sizes
    before, after = (_of_own_class(known, sizes) for known in (evidence.start_training, evidence.after_training))
    near_zero = 0 <= last < _SOON * first and len(steps) < len(pulled)
    return after < before - _WORSE or (near_zero and after < before + _BETTER)


def _of_own_class(predictions: Predictions, sizes: Sequence[int]) -> float:
    """Share of samples whose nearest embedding is of their class. `sizes`: samples of each batch; where a batch has
    several views one after the other, only the first is used."""
    rows, labels = predictions.outputs.flatten(1).double(), predictions.targets
    assert labels is not None
    if len(rows) > len(labels):
        views, ends = len(rows) // len(labels), list(accumulate(sizes))
        sizes = sizes[: ends.index(len(labels)) + 1]
        rows = torch.cat([part[:n] for part, n in zip(rows.split([views * n for n in sizes]), sizes, strict=True)])
    return float((labels[neighbors(rows, rows, same=True).nearest] == labels).double().mean())


def _nearer(pulled: torch.Tensor, pushed: torch.Tensor) -> tuple[float, float]:
    """How often a pulled pair is nearer than a pushed one (the area under the ROC curve), and its standard error if
    both have the same distribution (Mann and Whitney 1947)."""
    m, n = len(pulled), len(pushed)
    less = (pulled[:, None] < pushed[None]).double().mean() + 0.5 * (pulled[:, None] == pushed[None]).double().mean()
    return float(less), float(((m + n + 1) / (12 * m * n)) ** 0.5)


CHECK = Check(
    codes=(CODE,),
    run=_run,
    quick=False,
    explains="loss.sign loss.degenerate loss.wrong-for-task model.collapsed fit.* optim.lr-too-low eval.wrong-count",
)
