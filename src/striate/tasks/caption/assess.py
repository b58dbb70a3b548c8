"""The assessment of predicted captions for a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.captions import BETWEEN, LETTERS, captions_in
from striate.data.dataset import SampleFacts
from striate.reference.captions import LONGEST, bleu, bleu_counts, cider, rouge_l
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import grouped, hits_interval, resampled_means, varying_interval
from striate.tasks.caption.metrics import CaptionMetrics, ImageCaption
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import FEWEST, sample_groups, too_few
from striate.tasks.headline import Headline

WORST = 10
"""Number of images with the lowest CIDEr-D that are listed."""
COUNTS = 10
"""Number of columns of rows that belong to BLEU."""
MEANS = ("cider", "rouge_l", "exact_match")


def caption_words(decoded: Any) -> list[list[str]]:
    """The words of each predicted caption, of predictions (N, T, …)."""
    rows = np.asarray(decoded)[..., :LETTERS]
    return [next(iter(captions_in(each)), []) for each in rows]


def true_captions(targets: Any) -> list[list[list[str]]]:
    """The words of the true captions of each image, of targets (N, M, LETTERS)."""
    return [captions_in(each) for each in np.asarray(targets)]


def bleu_rows(decoded: Any, targets: Any) -> NDArray[np.float64]:
    """(N, 10) what each image adds to BLEU."""
    pairs = zip(caption_words(decoded), true_captions(targets), strict=True)
    return np.array([bleu_counts(predicted, true) for predicted, true in pairs]).reshape(-1, COUNTS)


def cider_rows(decoded: Any, targets: Any) -> NDArray[np.float64]:
    """(N,) CIDEr-D of each image, with the word frequencies of these images."""
    return cider(caption_words(decoded), true_captions(targets))


def image_rows(decoded: Any, targets: Any) -> NDArray[np.float64]:
    """(N, 14) what each image adds to the metrics: to BLEU, CIDEr-D, ROUGE-L, whether the prediction is one of the true
    captions, and 1."""
    predicted, true = caption_words(decoded), true_captions(targets)
    pairs = list(zip(predicted, true, strict=True))
    columns = (
        cider(predicted, true),
        np.array([rouge_l(one, own) for one, own in pairs]),
        np.array([one in own for one, own in pairs]),
        np.ones(len(predicted)),
    )
    return np.concatenate([bleu_rows(decoded, targets), np.stack(columns, 1)], axis=1)


def metrics_of(total: NDArray[np.float64]) -> dict[str, float]:
    """The metrics from the sum (14,) of rows."""
    means = dict(zip(MEANS, (total[COUNTS:-1] / max(total[-1], 1e-12)).tolist(), strict=True))
    return {"bleu4": bleu(total[:COUNTS]), **means}


def estimates(rows: NDArray[np.float64], groups: Sequence[str] = ()) -> dict[str, Estimate]:
    """The metrics of rows (N, 14) with 95 % intervals by bootstrap over images, or over groups; of `exact_match` by
    `hits_interval`; a BLEU-4 of 0 has none. Resamples use the n-gram frequencies of all images."""
    units, drawn = grouped(rows, groups), []
    if len(units) >= FEWEST:
        drawn = [metrics_of(mean) for mean in resampled_means(units)]
    found = {
        name: Estimate(value, varying_interval([one[name] for one in drawn]) if drawn else None)
        for name, value in metrics_of(rows.sum(0)).items()
    }
    found["exact_match"] = replace(found["exact_match"], interval=hits_interval(rows[:, -2], groups))
    # Where no 4-gram was right, every resample has a BLEU-4 of 0.
    return found if rows[:, LONGEST - 1].any() else found | {"bleu4": Estimate(0.0, None)}


def too_short(split: str, predicted: Sequence[Sequence[str]], true: Sequence[Sequence[Sequence[str]]]) -> str:
    """A sentence on a split in which no true caption, or no predicted one, has four words; empty for other splits."""
    if not any(len(words) >= LONGEST for own in true for words in own):
        return f"BLEU-4 is 0 for every prediction: no true caption of {split} has four words."
    if not any(len(words) >= LONGEST for words in predicted):
        return f"BLEU-4 is 0: no predicted caption of {split} has four words."
    return ""


def assess_captions(evaluation: Evaluation, facts: SampleFacts, headline: Headline) -> CaptionMetrics:
    """The assessment of the predicted captions."""
    decoded, targets, n = evaluation.decoded, evaluation.targets, evaluation.n
    rows, predicted, true = image_rows(decoded, targets), caption_words(decoded), true_captions(targets)
    each = rows[:, COUNTS]
    order = np.argsort(each, kind="stable")[:WORST]
    worst = tuple(
        ImageCaption(
            int(evaluation.ids[k]),
            facts.paths[k],
            " ".join(predicted[k]),
            " ".join(next(iter(true[k]), [])),
            float(each[k]),
        )
        for k in order
    )
    groups = sample_groups(facts, n, brightness=evaluation.brightness)
    return CaptionMetrics(
        n=n,
        metrics=estimates(rows, facts.columns.get("group", ())),
        different=len(set(map(tuple, predicted))),
        worst=worst,
        slices=headline.slices(groups, rows[:, :COUNTS]),
        left_out=tuple(filter(None, (too_short(evaluation.split, predicted, true), *too_few(n)))),
    )


def joined_text(captions: Sequence[Sequence[str]]) -> str:
    """The captions as one text."""
    return BETWEEN.join(" ".join(words) for words in captions)
