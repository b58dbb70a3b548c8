"""Inputs and labels that a collate function puts into different rows of the batch, such as by sorting one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from striate.doctor.checks.data.labels.above_chance import NOTHING_TO_LEARN, better_than_chance, validation_predictions
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import has_own_collate
from striate.doctor.setup.batch import leaves
from striate.models.preserved_state import same_random_state, seed_all
from striate.records import Finding
from striate.wording import several

_ITEMS, _FEWEST_NUMBERS = 17, 4
_FEWEST_APART = 6
_SCALARS = (int, float, np.number)


def mismatched_by_collate(evidence: Evidence) -> Finding | None:
    """A collate function that puts inputs and labels into different rows, if the network predicts validation no better
    than chance: a step may put them together again."""
    wrong, known = mismatched_rows(evidence.setup.train) or (0, 0)
    if wrong < _FEWEST_APART or better_than_chance(validation_predictions(evidence)):
        return None
    return Finding(
        code="data.labels-random",
        severity="error",
        where="the collate function",
        measured=f"for {wrong} of {several(known, 'sample')} the input and the label are in different rows of the "
        "batch",
        threshold=f"{_FEWEST_APART} samples whose input and label each change one row of a batch, but not the same "
        "row, and a network no better than chance on validation",
        why=NOTHING_TO_LEARN,
        remedy="sort or shuffle whole samples, not one part of them: `batch = sorted(batch, key=lambda item: "
        "len(item[0]), reverse=True)`",
    )


def mismatched_rows(loader: Any) -> tuple[int, int] | None:
    """The number of samples whose input and label are in different rows of a batch, and the number of samples for which
    that is known, by changing each and comparing rows. None where unknown, or where the batch contains an order by
    which to restore the rows."""
    if not has_own_collate(loader):
        return None
    try:
        with same_random_state():
            return _count_mismatches(loader)
    except Exception:  # the user's data set, or a collate function that wants other samples
        return None


def _count_mismatches(loader: DataLoader[Any]) -> tuple[int, int] | None:
    data: Any = loader.dataset
    items = [data[number] for number in range(0, len(data), max(1, len(data) // _ITEMS))][:_ITEMS]
    named = [dict(item if isinstance(item, dict) else enumerate(item)) for item in items]
    inputs, labels = ([key for key, part in named[0].items() if fits(part)] for fits in (_is_input, _is_label))
    if not labels and len(inputs) == 2 and _is_whole(named[0][inputs[1]]):  # words and their tags
        labels = [inputs.pop()]
    if len(items) < _ITEMS or len(inputs) != 1 or len(labels) != 1:
        return None
    own = _collated(loader, items)
    order = torch.arange(_ITEMS)
    if _rows(own, _collated(loader, items)) or any(torch.equal(t.sort().values, order) for t in own if t.ndim == 1):
        return None
    wrong = known = 0
    for number, item in enumerate(named):
        rows = list[set[int]]()
        for key in (inputs[0], labels[0]):
            changed = item | {key: _changed(item[key], [one[key] for one in named])}
            put = changed if isinstance(items[number], dict) else type(items[number])(changed.values())
            rows.append(_rows(own, _collated(loader, [*items[:number], put, *items[number + 1 :]])))
        if len(rows[0]) == len(rows[1]) == 1:
            known += 1
            wrong += rows[0] != rows[1]
    return wrong, known


def _changed(part: Any, parts: list[Any]) -> Any:
    """An array in reverse, or another label."""
    if _is_label(part):
        return next((other for other in parts if other != part), None)
    return part[::-1].copy() if isinstance(part, np.ndarray) else part.flip(0)


def _is_whole(part: torch.Tensor | np.ndarray) -> bool:
    return not torch.as_tensor(part).is_floating_point()


def _is_input(part: Any) -> bool:
    return isinstance(part, torch.Tensor | np.ndarray) and part.ndim > 0 and len(part) >= _FEWEST_NUMBERS


def _is_label(part: Any) -> bool:
    return isinstance(part, _SCALARS) or (isinstance(part, torch.Tensor) and part.numel() == 1)


def _collated(loader: DataLoader[Any], items: list[Any]) -> list[torch.Tensor]:
    """The tensors of a batch with a row for each sample, always with the same random numbers."""
    seed_all(0)
    return [tensor for _, tensor in leaves(loader.collate_fn(items)) if tensor.shape[:1] == (len(items),)]


def _rows(one: list[torch.Tensor], other: list[torch.Tensor]) -> set[int]:
    """In which rows any tensor differs."""
    pairs = zip(one, other, strict=True)
    return {row for a, b in pairs for row in (a != b).reshape(len(a), -1).any(1).nonzero().flatten().tolist()}
