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
    of plain fp32 on samples of the largest of them that the network was not trained on, evenly spread. `batch` as in
    `evaluate_trained`."""
    unseen = [data.splits[name] for name in splits if name != "train"] or [data.splits["train"]]
    largest = max(unseen, key=len)

    def spread(count: int) -> torch.Tensor:
        count = min(count, len(largest))
        return largest.inputs[torch.arange(count) * len(largest) // max(1, count)]

    total = sum(len(data.splits[name]) for name in splits)
    return trained.planned(spread, total, batch=batch, asked=asked)
