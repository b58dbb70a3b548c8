"""`data.step-labels` of taggers: the step shifts the labels of words, as only a language model needs it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from for_checks.sequences import Tagger, evidence_of, shares, tagging
from striate.doctor.checks.data.labels.shifted_tags import SHIFTED_TAGS
from striate.doctor.evidence.clock import NoEvidence


@pytest.mark.parametrize(
    ("width", "shift", "judge", "wrong"),
    [
        (3, 1, None, True),
        (3, 0, None, False),
        (1, 1, None, False),
        (1, 1, lambda outputs, labels: {"accuracy": shares(outputs, labels)["accuracy"]}, True),
    ],
)
def test_labels_of_words_are_not_shifted(width: int, shift: int, judge: Any, wrong: bool) -> None:
    found: list[Any] = []
    with suppress(NoEvidence):
        found = list(SHIFTED_TAGS.run(evidence_of(Tagger(width), tagging(shift), judge)))
    assert [f.code for f in found] == ["data.step-labels"] * wrong
