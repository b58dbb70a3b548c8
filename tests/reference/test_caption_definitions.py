"""BLEU, CIDEr-D and ROUGE-L: published examples, calculations by hand, and the figures of the COCO evaluation."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from striate.reference import bleu, bleu_counts, cider, rouge_l
from striate.reference.captions import longest_common


def words(text: str) -> list[str]:
    return text.split()


REFERENCES = [
    words("it is a guide to action that ensures that the military will forever heed party commands"),
    words(
        "it is the guiding principle which guarantees the military forces always being under the command of the party"
    ),
    words("it is the practical guide for the army always to heed the directions of the party"),
]


def test_bleu_has_the_precisions_of_the_paper() -> None:
    """Papineni et al. 2002: 17/18 and 8/14 of single words, 10/17 and 1/13 of pairs, and `the the the …` 2/7."""
    one = bleu_counts(
        words("it is a guide to action which ensures that the military always obeys the commands of the party"),
        REFERENCES,
    )
    two = bleu_counts(
        words("it is to insure the troops forever hearing the activity guidebook that party direct"),
        REFERENCES,
    )
    assert (one[0], one[4], one[1], one[5]) == (17, 18, 10, 17)
    assert (two[0], two[4], two[1], two[5]) == (8, 14, 1, 13)
    cats = [words("the cat is on the mat"), words("there is a cat on the mat")]
    assert bleu_counts(["the"] * 7, cats)[[0, 4, 9]].tolist() == [2, 7, 7]


def test_bleu_of_a_corpus_by_hand() -> None:
    """Two images: a perfect one, and `a b c d e` for `a b c d f g`: 9/10, 7/8, 5/6 and 3/4, of 10 words for 11."""
    pairs = [("p q r s t", ["p q r s t"]), ("a b c d e", ["a b c d f g", "x"])]
    total = sum(bleu_counts(said.split(), [true.split() for true in own]) for said, own in pairs)
    assert bleu(total) == pytest.approx((9 / 10 * 7 / 8 * 5 / 6 * 3 / 4) ** 0.25 * exp(1 - 11 / 10))
    assert bleu(bleu_counts(["a"], [["a"]])) == 0, "no run of four words"
    assert bleu(np.zeros(10)) == 0


def test_cider_by_hand() -> None:
    """`a b` of one of two images, for `a b`: 10 of single words and pairs, nothing of longer runs, on average 5;
    `a b b` has more of `b` than the reference, and a word too many."""
    others = [["c", "d"]]
    assert cider([["a", "b"], ["x"]], [[["a", "b"]], others]).tolist() == pytest.approx([5, 0])
    # a: 1, b: 2 against 1 and 1, clipped: (1 + 1) / (√5 √2); pairs ab, bb against ab: 1 / √2.
    expected = 10 * exp(-1 / 72) * (2 / 10**0.5 + 1 / 2**0.5) / 4
    assert cider([["a", "b", "b"], ["x"]], [[["a", "b"]], others])[0] == pytest.approx(expected)
    # A word that all images have tells nothing.
    both = cider([["a"], ["a"]], [[["a"]], [["a"]]])
    assert both.tolist() == [0, 0]
    rare = log(3)
    common = log(3 / 2)
    found = cider([["a", "b"]] + [["x"]] * 2, [[["a", "c"]], [["a"]], [["b"]]])[0]
    # Of a: common², over the lengths of (a, b) and (a, c), of which b and c are rare.
    assert found == pytest.approx(10 * common**2 / (common**2 + rare**2) / 4)


def test_rouge_of_the_paper() -> None:
    """Lin 2004: of `police killed the gunman`, 3 of 4 words of `police kill the gunman` are in order, 2 of 4 of `the
    gunman kill police`."""
    true = words("police killed the gunman")
    assert longest_common(true, words("police kill the gunman")) == 3
    assert rouge_l(words("police kill the gunman"), [true]) == pytest.approx(0.75)
    assert rouge_l(words("the gunman kill police"), [true]) == pytest.approx(0.5)
    assert rouge_l([], [true]) == rouge_l(["x"], [true]) == rouge_l(["x"], []) == 0


def test_figures_are_those_of_the_coco_caption_evaluation() -> None:
    """Computed once by pycocoevalcap 1.2 (BleuScorer with the closest length, CiderScorer, Rouge)."""
    rng = np.random.default_rng(0)
    vocabulary = words("a man dog cat runs on the grass red ball with in park black white")

    def caption() -> list[str]:
        return [vocabulary[k] for k in rng.integers(0, len(vocabulary), rng.integers(3, 12))]

    references = [[caption() for _ in range(rng.integers(1, 6))] for _ in range(30)]
    said = []
    for own in references:
        base = own[rng.integers(len(own))]
        said.append([word if rng.random() < 0.8 else vocabulary[rng.integers(len(vocabulary))] for word in base])
    total = sum(bleu_counts(one, own) for one, own in zip(said, references, strict=True))
    assert bleu(total) == pytest.approx(BLEU, rel=1e-9)
    assert cider(said, references).mean() == pytest.approx(CIDER, rel=1e-9)
    rouge = [rouge_l(one, own) for one, own in zip(said, references, strict=True)]
    assert np.mean(rouge) == pytest.approx(ROUGE, rel=1e-9)


BLEU, CIDER, ROUGE = 0.6811688623771838, 2.517928012634934, 0.8529569504569505
