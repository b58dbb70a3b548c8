"""How many training samples are measured once training is over."""

from __future__ import annotations

import pytest
import torch

from striate.data.dataset import Dataset, Preparation, SampleFacts, Split
from striate.training.budget.pace import Pace, Phase
from striate.training.budget.speed import Work
from striate.training.budget.steps import _with_less_evaluation
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.measured import measured_count, measured_part, watched_part


def dataset(n: int) -> Dataset:
    train = Split(torch.arange(n, dtype=torch.float32)[:, None], torch.zeros(n, dtype=torch.int64), torch.arange(n))
    splits = {"train": train, "val": train, "test": train}
    facts = dict.fromkeys(splits, SampleFacts(tuple(map(str, range(n)))))
    return Dataset("d", "d", "table", "class", splits, ("a",), Preparation("table", (1,)), (), "f", facts=facts)


@pytest.mark.parametrize(("asked", "n", "expected"), [(None, 10, 10), (4, 10, 4), (10, 10, 10), (99, 10, 10)])
def test_so_many_are_measured_evenly_spaced_and_all_of_the_other_splits(asked, n, expected) -> None:
    config = with_fields(Config(), {"evaluation.train_samples": asked})
    data = measured_part(dataset(n), config)
    assert measured_count(n, config) == len(data.splits["train"]) == expected
    ids = data.splits["train"].ids
    assert torch.equal(data.splits["train"].inputs[:, 0].long(), ids)
    gaps = ids.diff()
    assert int(gaps.max() - gaps.min()) <= 1
    assert (len(data.splits["val"]), len(data.splits["test"])) == (n, n)
    assert data.facts["train"].paths == tuple(map(str, ids.tolist()))
    assert len(data.facts["val"].paths) == n


@pytest.mark.parametrize("watched", [None, 500])
def test_the_final_evaluation_is_cut_whatever_is_measured_after_each_epoch(watched: int | None) -> None:
    config = with_fields(Config(), {"evaluation.val_samples": watched, "evaluation.views": "none"})
    train, held = (dataset(n).splits["train"] for n in (100_000, 5_000))
    work = Work(None, None, {"train": train, "val": held, "test": held}, config, None)  # type: ignore[arg-type]
    validation = 0.001 * len(watched_part(held, config))
    pace = Pace((Phase(1.0, 0.01),), validation, 1_562, finish=111.0)
    cut, faster, notes = _with_less_evaluation(work, pace, 300.0)
    assert cut.config.evaluation.train_samples == 10_000
    assert faster.finish == pytest.approx(21.0)
    assert len(notes) == 1
