"""`data.split-overlap` of groups: are several samples of one patient, speaker or recording on both sides of a split?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.splits.split_overlap import counterparts, is_for_training, positions
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import comparable
from striate.records import Finding
from striate.wording import several

_GROUP = re.compile(
    r"(^|_)(patient|subject|speaker|person|animal|specimen|recording|slide|volunteer)(_?(id|name|no))?$"
)
_FEWEST, _SHARED, _EACH = 5, 0.5, 1.5
_MOST_EACH, _ALIKE, _LOOKED_AT = 30, 0.5, 400
"""Samples of a group on average; how far two of them are from each other, of what any two are; and how many pairs."""


_WHY = "Samples with the same value are alike: validation measures whether known values are recognized, not new ones."


def _run(evidence: Evidence) -> Iterator[Finding]:
    found = next(_by_arrays(evidence), None) if evidence.setup.source is not None else None
    if found is not None:
        yield found
        return
    train, val = (_groups(loader) for loader in (evidence.setup.train, evidence.setup.val))
    for key in train.keys() & val.keys():
        known, other = set(train[key]), set(val[key])
        shared = known & other
        if len(known) == _classes(evidence):  # who it is may be what is asked
            continue
        if len(train[key]) < _EACH * len(known) or len(other) < _FEWEST or len(shared) < _SHARED * len(other):
            continue
        yield GROUPS_SHARED.finding(
            severity="warning",
            where=f"`{key}` of the rows of both data sets",
            measured=f"{len(shared)} of {several(len(other), 'value')} of `{key}` in validation also occur in "
            f"training, which has {len(train[key]) / len(known):.2g} samples of each",
            limit=f"{_EACH:g} or more samples of each value, and {_SHARED:.0%} of the validation values in "
            "training, too",
            why=_WHY,
            remedy=f"split by `{key}`, not by rows: `sklearn.model_selection.GroupKFold` or `GroupShuffleSplit` with "
            f"`groups=[row['{key}'] for row in rows]`",
        )
        return


def _by_arrays(evidence: Evidence) -> Iterator[Finding]:
    """Positions of training and of validation beside an array that says of which thing each sample is, whose samples
    are alike."""
    names = evidence.source.names
    arrays = {name: value for name, value in list(names.items()) if isinstance(value, np.ndarray | torch.Tensor)}
    inputs = {len(value): value for value in arrays.values() if value.ndim >= 2 and len(value) > _LOOKED_AT // 4}
    for name in (name for name in names if is_for_training(name)):
        known = positions(names[name])
        for other, value in counterparts(name, names):
            asked = positions(value)
            for groups, things in arrays.items():
                x = inputs.get(len(things)) if things.ndim == 1 else None
                if x is None or len(asked) < _FEWEST or max(known | asked, default=0) >= len(things):
                    continue
                numbers = np.unique(np.asarray(things), return_inverse=True)[1]
                count = int(numbers.max()) + 1
                if not _EACH <= len(numbers) / count <= _MOST_EACH or count <= 2 * _classes(evidence):
                    continue
                ours, theirs = (set(numbers[sorted(part)].tolist()) for part in (known, asked))
                shared = ours & theirs
                if len(shared) < _SHARED * len(theirs) or not known.isdisjoint(asked) or not _alike(x, numbers):
                    continue
                yield GROUPS_SHARED.finding(
                    severity="warning",
                    where=f"`{groups}` of `{name}` and `{other}`",
                    measured=f"{len(shared)} of {several(len(theirs), 'value')} of `{groups}` in validation also "
                    f"occur in training, and two samples with the same value are less than {_ALIKE:g} times as far "
                    "apart as any two",
                    limit=f"{_SHARED:.0%} of the validation values in training, too, with {_EACH:g} to {_MOST_EACH} "
                    f"samples of each, which are at most {_ALIKE:g} times as far apart as any two",
                    why=_WHY,
                    remedy=f"split by `{groups}`, not by samples: `sklearn.model_selection.GroupKFold` or "
                    f"`GroupShuffleSplit` with `groups={groups}`",
                )
                return


def _alike(x: Any, numbers: np.ndarray[Any, Any]) -> bool:
    """Whether samples of one group are much nearer to each other than to those of others."""
    order = np.argsort(numbers, kind="stable")
    pairs = [(a, b) for a, b in pairwise(order) if numbers[a] == numbers[b]][:_LOOKED_AT]
    if len(pairs) < _FEWEST:
        return False
    rows = torch.as_tensor(np.asarray(pairs))
    with suppress(TypeError, ValueError):  # no numbers
        values = torch.as_tensor(np.asarray(x))[rows.flatten()]
        one, other = comparable(values, values).double().unflatten(0, (-1, 2)).unbind(1)
        own, any_two = (one - other).norm(dim=1), (one - other.roll(len(pairs) // 2, 0)).norm(dim=1)
        return bool(own.median() < _ALIKE * any_two.median())
    return False


def _classes(evidence: Evidence) -> int:
    try:
        return len(evidence.train.labels.unique())
    except NoEvidence:
        return 0


def _groups(loader: Any) -> dict[str, list[Any]]:
    """By name what the rows of a loader's data set say of the patient, say, that each sample is of. Raises NoEvidence
    where there are no such rows."""
    data = getattr(loader, "dataset", None) if isinstance(loader, DataLoader) else None
    chosen: list[int] | None = None
    while isinstance(data, Subset):
        inner = [int(number) for number in data.indices]
        chosen = inner if chosen is None else [inner[number] for number in chosen]
        data = data.dataset
    for rows in vars(data).values() if hasattr(data, "__dict__") else ():
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            keys = [key for key in rows[0] if isinstance(key, str) and _GROUP.search(key.lower())]
            taken = rows if chosen is None else [rows[number] for number in chosen if number < len(rows)]
            return {key: [row.get(key) for row in taken] for key in keys}
        columns = getattr(rows, "columns", None)
        if columns is not None and hasattr(rows, "iloc"):  # a table of pandas
            table = rows if chosen is None else rows.iloc[chosen]
            return {str(key): table[key].tolist() for key in columns if _GROUP.search(str(key).lower())}
    raise NoEvidence("the data set has no rows with a patient, a subject or the like")


GROUPS_SHARED = Check(
    codes=("data.split-overlap",),
    question="Is each patient, speaker or the like on one side of the split?",
    run=_run,
    explains="data.leak",
)
