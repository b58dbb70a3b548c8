"""Parts of the training samples, each within the next larger one, with each class in its share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from striate.data.dataset import Dataset
from striate.errors import DataError
from striate.tasks.baseline import stratified_sample

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
_LEAST = 64
"""Training samples, below which an eighth of them teaches nothing."""


def nested_rows(data: Dataset, seed: int) -> dict[float, torch.Tensor]:
    """For each share the positions in the training split, in rising order. Raises DataError for fewer than 64."""
    train = data.splits["train"]
    if len(train) < _LEAST:
        got, expected = f"{len(train)} training samples", f"{_LEAST} or more, so that an eighth of them is something"
        raise DataError(f"learning curve of {data.name}", got, expected, "add samples, then train again")
    rows = torch.arange(len(train))
    found = {1.0: rows}
    for share in sorted(SHARES[:-1], reverse=True):
        count = max(1, round(share * len(train)))
        rows = rows[torch.from_numpy(stratified_sample(train.targets[rows].cpu(), count, seed))]
        found[share] = rows
    return found


def with_training_rows(data: Dataset, rows: torch.Tensor) -> Dataset:
    """The data set with these of its training samples; all else stays."""
    places = rows.tolist()

    def only(of: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        return of | {"train": tuple(of["train"][k] for k in places)} if "train" in of else of

    splits = data.splits | {"train": data.splits["train"].take(rows)}
    facts = {name: value for name, value in data.facts.items() if name != "train"}
    return replace(data, splits=splits, contents=only(data.contents), units=only(data.units), facts=facts)
