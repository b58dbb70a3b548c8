"""`data.split-overlap` of groups: are several samples of one patient, speaker or recording on both sides of a split?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Subset

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

_GROUP = re.compile(
    r"(^|_)(patient|subject|speaker|person|animal|specimen|recording|slide|volunteer)(_?(id|name|no))?$"
)
_FEWEST, _SHARED, _EACH = 5, 0.5, 1.5


def _run(evidence: Evidence) -> Iterator[Finding]:
    train, val = (_groups(loader) for loader in (evidence.setup.train, evidence.setup.val))
    for key in train.keys() & val.keys():
        known, other = set(train[key]), set(val[key])
        shared = known & other
        if len(known) == _classes(evidence):  # who it is may be what is asked
            continue
        if len(train[key]) < _EACH * len(known) or len(other) < _FEWEST or len(shared) < _SHARED * len(other):
            continue
        yield Finding(
            code="data.split-overlap",
            severity="warning",
            where=f"`{key}` of the rows of both data sets",
            measured=f"{len(shared)} of {several(len(other), 'value')} of `{key}` in validation are in training as "
            f"well, which has {len(train[key]) / len(known):.2g} samples of each",
            threshold=GROUPS_SHARED.threshold,
            why="Samples of one of them are alike: validation measures whether they are recognized, not whether a new "
            "one would be.",
            remedy=f"split by `{key}`, not by rows: `sklearn.model_selection.GroupKFold` or `GroupShuffleSplit` with "
            f"`groups=[row['{key}'] for row in rows]`",
        )
        return


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
    raise NoEvidence("the data set has no rows that name a patient, a subject or the like")


GROUPS_SHARED = Check(
    codes=("data.split-overlap",),
    question="Is each patient, speaker or the like on one side of the split?",
    threshold=f"rows with such a name, {_EACH:g} samples of each or more, and {_SHARED:.0%} of those of validation in "
    "training too",
    run=_run,
    explains="data.leak",
)
