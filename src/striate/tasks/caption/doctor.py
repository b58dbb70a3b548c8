"""Typical mistakes with captions that predictions show."""

from __future__ import annotations

from collections import Counter

from striate.records import Finding
from striate.tasks.caption.assess import caption_words, too_short, true_captions
from striate.tasks.evaluation import Evaluation
from striate.wording import percent, several

SHARE, FEWEST = 0.8, 12
"""Share of images with the same caption from which there is a finding; and the smallest number of images."""


def short_captions(evaluation: Evaluation) -> tuple[Finding, ...]:
    """`eval.short-captions` where BLEU-4 has nothing to compare."""
    short = too_short(evaluation.split, caption_words(evaluation.decoded), true_captions(evaluation.targets))
    if not short:
        return ()
    return (
        Finding(
            code="eval.short-captions",
            severity="note",
            where=f"{evaluation.split} split",
            measured=short.rstrip("."),
            threshold="four words",
            why="BLEU-4 compares n-grams of one to four words.",
            remedy="Use CIDEr-D, ROUGE-L and the exact match instead.",
        ),
    )


def same_caption(evaluation: Evaluation) -> tuple[Finding, ...]:
    """`fit.one-caption` where most images get the same caption, though their true captions differ."""
    captions = Counter(map(tuple, caption_words(evaluation.decoded)))
    if evaluation.n < FEWEST:
        return ()
    (words, count), *_ = captions.most_common(1)
    true = Counter(tuple(words) for own in true_captions(evaluation.targets) for words in own)
    usual = max(true.values()) / evaluation.n
    if count < SHARE * evaluation.n or usual >= SHARE:
        return ()
    return (
        Finding(
            code="fit.one-caption",
            severity="warning",
            where=f"{evaluation.split} split",
            measured=f"{count:,} of {several(evaluation.n, 'image')} get the same caption: {' '.join(words)}",
            threshold=percent(SHARE),
            why="The captions do not depend on the image: the network has so far learned only the language of the "
            "captions, or each image has the captions of another.",
            remedy="Train for longer. If that does not help: striate data check finds captions of other images.",
        ),
    )
