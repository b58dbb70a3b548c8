"""How splits of a data set are best answered by a trained network."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from striate.data.dataset import Dataset
from striate.inference.answering import Answering
from striate.inference.plan import Asked
from striate.training.trained import Trained


def plan_evaluation(
    trained: Trained, data: Dataset, splits: Sequence[str], *, batch: int | None = None, asked: Asked = "auto"
) -> Answering:
    """The trained network as it is best computed for all samples of `splits` together; answers are compared with those
    of plain fp32 on samples of validation, evenly spread, so that test data choose nothing; without it of the largest
    split that the network was not trained on. `batch` as in `evaluate_trained`."""
    kept = [name for name in splits if name == "val"] or [name for name in splits if name != "train"] or ["train"]
    largest = max((data.splits[name] for name in kept), key=len)

    def spread(count: int) -> torch.Tensor:
        count = min(count, len(largest))
        return largest.inputs[torch.arange(count) * len(largest) // max(1, count)]

    total = sum(len(data.splits[name]) for name in splits)
    return trained.planned(spread, total, batch=batch, asked=asked)
