"""`striate.evaluate`: words that mean nothing are refused, and a run's own settings hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import striate
from striate.data.dataset import Split
from striate.data.loader import Batch, batches
from striate.errors import UsageError


def test_a_plan_that_is_no_plan_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="'palin'"):
        striate.evaluate("no such run", plan="palin")


@pytest.mark.slow
def test_as_many_samples_are_measured_at_once_as_the_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    run = striate.train("digits", model="conv(2,3) relu flatten fc(10)", epochs=1, set={"execution.micro_batch": 19})
    sizes: list[int] = []

    def noted(split: Split, batch: int) -> Iterator[Batch]:
        for part in batches(split, batch):
            sizes.append(len(part.ids))
            yield part

    monkeypatch.setattr("striate.evaluation.evaluate.batches", noted)
    assert striate.evaluate(run, plan="plain").n == sum(sizes)
    assert max(sizes) in (19, 20)  # a lone last sample joins the others
