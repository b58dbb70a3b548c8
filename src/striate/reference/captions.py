"""The similarity of a caption to reference captions: BLEU, CIDEr-D and ROUGE-L, over words.

A caption is a sequence of words; `references` are those of one image. Sums over images are separate from the metrics,
so that a bootstrap can resample images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import array
from striate.wording import several, type_of

LONGEST = 4
"""Words of the longest n-grams that are compared."""
SIGMA = 6.0
"""How many words longer or shorter a caption may be before CIDEr-D counts it much less."""
BETA = 1.2
"""How much more recall counts than precision in ROUGE-L, as in the evaluation of MS COCO."""

Words = Sequence[str]


def _words(caption: Words, name: str = "caption") -> Words:
    """The caption; UsageError where it is a sentence, whose letters would be compared."""
    if isinstance(caption, str):
        raise UsageError(name, f"the sentence {caption[:40]!r}", "a list of words", f"{name}.split()")
    if not hasattr(caption, "__len__"):
        raise UsageError(name, type_of(caption), "a list of words", f"{name}=['a', 'dog']")
    return caption


def _each_words(many: Sequence[Words], name: str = "references") -> Sequence[Words]:
    """The captions; UsageError where one of them is a sentence, or where they are the words of one."""
    if isinstance(many, str):
        raise UsageError(name, f"the sentence {many[:40]!r}", "a list of lists of words", f"[{name}.split()]")
    if not hasattr(many, "__len__"):
        raise UsageError(name, type_of(many), "a list of lists of words", f"{name}=[['a', 'dog']]")
    if (one := next((one for one in many if isinstance(one, str)), None)) is not None:
        # Sentences, or a single reference without the list around it.
        remedy = f"[one.split() for one in {name}]" if any(" " in one for one in many) else f"[{name}]"
        raise UsageError(name, f"a list with the text {one[:40]!r}", "a list of lists of words", remedy)
    if odd := [one for one in many if not hasattr(one, "__len__")]:
        raise UsageError(name, f"a list with {type_of(odd[0])}", "a list of lists of words", f"{name}=[['a', 'dog']]")
    return many


def runs(words: Words, length: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram of `length` words occurs."""
    return Counter(tuple(words[k : k + length]) for k in range(len(words) - length + 1))


def bleu_counts(caption: Words, references: Sequence[Words]) -> NDArray[np.float64]:
    """The counts (10,) of an image for BLEU. For n of 1 to 4, the number of n-grams of the caption that occur in a
    reference, each counted at most as often as in the reference that has it most often; then the number of n-grams of
    the caption; then the words of the caption, and of the reference with the nearest length, the shorter in a tie.
    Raises UsageError for sentences instead of words."""
    caption, references = _words(caption), _each_words(references)
    hits, there = [], []
    for length in range(1, LONGEST + 1):
        own, most = runs(caption, length), Counter[tuple[str, ...]]()
        for reference in references:
            most |= runs(reference, length)
        hits.append((own & most).total())
        there.append(own.total())
    nearest = min((abs(len(one) - len(caption)), len(one)) for one in references)[1] if references else 0
    return np.array([*hits, *there, len(caption), nearest], np.float64)


def bleu(counts: NDArray[np.float64]) -> float:
    """BLEU-4 of a corpus, 0 to 1, from the sum of `bleu_counts` over its images: the geometric mean of the precisions
    times the brevity penalty; 0 where no 4-gram is found, without smoothing.

    Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002.
    """
    counts = array(counts, "counts")
    if counts.shape != (2 * LONGEST + 2,):
        expected = f"({2 * LONGEST + 2},): the sum of bleu_counts over images"
        remedy = "counts.sum(0)" if counts.ndim == 2 else "sum(bleu_counts(one, own) for one, own in pairs)"
        raise ShapeError("counts", f"shape {counts.shape}", expected, remedy)
    hits, there, (own, nearest) = counts[:LONGEST], counts[LONGEST : 2 * LONGEST], counts[2 * LONGEST :]
    if not hits.all() or not own:
        return 0.0
    penalty = min(0.0, 1 - nearest / own)
    return float(exp(penalty + np.log(hits / there).mean()))


def cider(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> NDArray[np.float64]:
    """CIDEr-D of each image, (N,), 0 to 10; the metric is their mean. The fewer images have an n-gram in a reference,
    the larger its weight, so the metric depends on the set of images, and is 0 for a single image.

    Vedantam, Zitnick and Parikh, "CIDEr: consensus-based image description evaluation", CVPR 2015, with the clipping,
    the length penalty and the factor of 10 of CIDEr-D (section 6.1 and the code of the authors).
    """
    captions = _each_words(captions, "captions")
    listed = not isinstance(references, str) and hasattr(references, "__len__")
    if not listed or len(references) != len(captions):
        got = (
            type_of(references) if not listed else several(len(references), "list of references", "lists of references")
        )
        got += f" for {several(len(captions), 'caption')}"
        raise ShapeError("references", got, "a list of references for each caption", "[own] for a single image")
    for own in references:
        _each_words(own, "references[0]" if own is references[0] else "references of an image")
    images: Counter[tuple[str, ...]] = Counter()
    for own in references:
        images.update({run for words in own for length in range(1, LONGEST + 1) for run in runs(words, length)})
    total = log(max(len(references), 1))

    def weighed(words: Words) -> list[dict[tuple[str, ...], float]]:
        return [
            {run: count * (total - log(max(images[run], 1))) for run, count in runs(words, length).items()}
            for length in range(1, LONGEST + 1)
        ]

    found = np.zeros(len(captions))
    for place, (caption, own) in enumerate(zip(captions, references, strict=True)):
        mine, similar = weighed(caption), 0.0
        for reference in own:
            apart = len(caption) - len(reference)
            penalty = exp(-(apart**2) / (2 * SIGMA**2))
            similar += penalty * sum(map(_clipped_cosine, mine, weighed(reference))) / LONGEST
        found[place] = 10 * similar / len(own) if own else 0.0
    return found


def _clipped_cosine(mine: dict[tuple[str, ...], float], theirs: dict[tuple[str, ...], float]) -> float:
    """The cosine of two sparse vectors, in whose product the caption has no entry larger than the reference."""
    lengths = [sqrt(sum(value * value for value in one.values())) for one in (mine, theirs)]
    if not all(lengths):
        return 0.0
    product = sum(min(mine[run], theirs[run]) * theirs[run] for run in mine.keys() & theirs.keys())
    return product / (lengths[0] * lengths[1])


def longest_common(one: Words, other: Words) -> int:
    """The length of the longest common subsequence of words."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, theirs in enumerate(other, 1):
            before, row[place] = row[place], before + 1 if word == theirs else max(row[place], row[place - 1])
    return row[-1]


def rouge_l(caption: Words, references: Sequence[Words]) -> float:
    """ROUGE-L of an image, 0 to 1: (1 + β²) P R / (R + β² P), with the best precision P and the best recall R of the
    longest common subsequence over its references; the metric is the mean over images.

    Lin, "ROUGE: a package for automatic evaluation of summaries", 2004; several references as in Chen et al.,
    "Microsoft COCO captions", 2015.
    Raises UsageError for sentences instead of words.
    """
    caption, references = _words(caption), _each_words(references)
    shared = [longest_common(caption, one) for one in references]
    if not caption or not any(shared):
        return 0.0
    precision = max(shared) / len(caption)
    recall = max(count / len(one) for count, one in zip(shared, references, strict=True) if one)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
