"""How many training samples are measured once training is over."""

from __future__ import annotations

import pytest
import torch

from striate.data.dataset import Dataset, Preparation, Split
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.measured import measured_count, measured_part


def dataset(n: int) -> Dataset:
    train = Split(torch.arange(n, dtype=torch.float32)[:, None], torch.zeros(n, dtype=torch.int64), torch.arange(n))
    splits = {"train": train, "val": train, "test": train}
    return Dataset("d", "d", "table", "class", splits, ("a",), Preparation("table", (1,)), (), "f")


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
