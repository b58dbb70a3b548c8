"""The assessment of the embeddings of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.data.dataset import SampleFacts
from striate.statistics.estimate import Estimate, estimate_of
from striate.statistics.intervals import FEW, drawn_count, hits_interval, resampled_means
from striate.tasks.embed.metrics import EmbeddingMetrics, SamplePair
from striate.tasks.embed.retrieval import (
    PAIRED,
    QUERIES,
    Pairs,
    count_pairs,
    hardest_pairs,
    roc_curve,
    verification_estimates,
)
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import sample_groups, too_few
from striate.tasks.headline import Headline, Rows
from striate.wording import several

HARDEST = 8


def neighbor_estimates(rows: Rows, groups: Sequence[str] = ()) -> dict[str, Estimate]:
    """`recall@1`, `recall@5` and `map@r` of rows (N, 4) with their 95 % intervals: of the recalls, which are shares of
    samples, that of `hits_interval`; of MAP@R, by bootstrap over samples, or over `groups`."""
    counted = rows[:, -1] > 0
    rows, groups = rows[counted], [name for name, there in zip(groups, counted, strict=bool(groups)) if there]
    if not len(rows):
        return {name: Estimate(None) for name in ("recall@1", "recall@5", "map@r")}
    first, fifth, precision = rows.mean(0)[:3].tolist()
    draws = resampled_means(rows[:, 2:3], groups=groups)[:, 0] if drawn_count(groups, len(rows)) >= FEW else None
    return {
        "recall@1": Estimate(first, hits_interval(rows[:, 0], groups)),
        "recall@5": Estimate(fifth, hits_interval(rows[:, 1], groups)),
        "map@r": estimate_of(precision, draws),
    }


def assess_embeddings(
    evaluation: Evaluation, facts: SampleFacts, headline: Headline, rows: Rows, threshold: float
) -> EmbeddingMetrics:
    """The assessment of embeddings; `rows` (N, 4) are those of `neighbor_rows`."""
    vectors, truth, groups = evaluation.decoded, evaluation.targets, facts.columns.get("group", ())
    n = evaluation.n
    apart, alike = hardest_pairs(vectors, truth, HARDEST)

    def named(pairs: list[tuple[int, int, float]]) -> tuple[SamplePair, ...]:
        return tuple(
            SamplePair(
                (facts.paths[one], facts.paths[two]),
                (evaluation.classes[int(truth[one])], evaluation.classes[int(truth[two])]),
                similarity,
            )
            for one, two, similarity in pairs
        )

    return EmbeddingMetrics(
        n=n,
        classes=len(np.unique(truth)),
        metrics={**neighbor_estimates(rows, groups), **verification_estimates(vectors, truth, groups)},
        threshold=threshold,
        wrong=_wrong(count_pairs(vectors, truth), threshold),
        curve=roc_curve(vectors, truth),
        apart=named(apart),
        alike=named(alike),
        slices=headline.slices(sample_groups(facts, n, brightness=evaluation.brightness), rows),
        left_out=_left_out(truth),
    )


def _wrong(pairs: Pairs, threshold: float) -> tuple[float | None, float | None]:
    below = pairs.edges[1:] <= threshold
    same, other = pairs.same[0], pairs.other[0]
    missed = float(same[below].sum() / same.sum()) if same.sum() else None
    return missed, float(other[~below].sum() / other.sum()) if other.sum() else None


def _left_out(truth: Any) -> tuple[str, ...]:
    n = len(truth)
    sentences = [*too_few(n)]
    if n > PAIRED:
        sentences.append(f"Pairs are formed from {several(PAIRED, 'sample')}, evenly spaced, of {n:,}.")
    if n > QUERIES:
        sentences.append(f"Neighbors are searched for {several(QUERIES, 'sample')}, evenly spaced, of {n:,}.")
    counts = np.unique(truth, return_counts=True)[1]
    if alone := int((counts == 1).sum()):
        sentences.append(f"Not used as queries: {several(alone, 'sample')} without another sample of the class.")
    return tuple(sentences)
