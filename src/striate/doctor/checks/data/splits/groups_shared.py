"""`data.split-overlap` of groups: are samples of one patient, speaker or recording on both sides of a split?"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.splits.overlap.named_parts import is_for_training, named_pairs, positions
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import comparable
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import argument
from striate.records import Finding
from striate.wording import percent, several

_GROUP = re.compile(
    r"(^|_)(patient|subject|speaker|person|animal|specimen|recording|slide|volunteer)(_?(id|name|no))?$"
)
_FEWEST, _SHARED, _EACH = 5, 0.5, 1.5
_MOST_EACH, _OTHERS, _NEARER, _MOST_PAIRS = 30, 8, 0.7, 400
"""The most samples of a group on average; the number of samples of other groups that have to be farther than one of the
same group, and in which share of pairs; and the most pairs."""
_REPEATED, _SPLIT = 0.7, 0.5
"""The share of different targets below which they are treated like classes; and the least share of all samples that
training and validation contain together."""


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
        if len(known) == _class_count(evidence):  # the group may be the target
            continue
        if len(train[key]) < _EACH * len(known) or len(other) < _FEWEST or len(shared) < _SHARED * len(other):
            continue
        yield GROUPS_SHARED.finding(
            severity="warning",
            where=f"`{key}` of the rows of both data sets",
            measured=f"{len(shared)} of {several(len(other), 'value')} of `{key}` in validation also occur in "
            f"training, which has {len(train[key]) / len(known):.2g} samples of each",
            limit=f"{_EACH:g} or more samples of each value, and {percent(_SHARED, 0)} of the validation values in "
            "training, too",
            why=_WHY,
            remedy=f"split by `{key}`, not by rows: `sklearn.model_selection.GroupKFold` or `GroupShuffleSplit` with "
            f"`groups=[row['{key}'] for row in rows]`",
        )
        return


def _by_arrays(evidence: Evidence) -> Iterator[Finding]:
    """Positions of training and of validation, with an array of groups (one for each sample) whose samples are
    similar. Arrays are those of variables, and of dictionaries of columns."""
    names = evidence.source.outer_names
    columns = {
        f"{name}[{key!r}]": value
        for name, held in list(names.items())
        if type(held) is dict and not name.startswith("_")
        for key, value in held.items()
    }
    arrays = {
        name: value for name, value in {**columns, **names}.items() if isinstance(value, np.ndarray | torch.Tensor)
    }
    many = (value for value in arrays.values() if value.ndim >= 2 and len(value) > _MOST_PAIRS // 4)
    inputs = {len(value): value for value in sorted(many, key=lambda value: math.prod(value.shape[1:]))}
    given_to_splits = _given_to_splits(evidence.source)
    for name, known, other, held_out in _positions(names):
        every = known | held_out
        for groups, things in ((one, value) for one, value in arrays.items() if value.ndim == 1):
            given, x = given_to_splits.get(groups, ""), inputs.get(len(things))
            if x is None and not given:
                continue
            if len(every) < _SPLIT * len(things) or max(every) >= len(things):
                continue
            numbers = np.unique(np.asarray(things), return_inverse=True)[1]
            count = int(numbers.max()) + 1
            if not _EACH <= len(numbers) / count <= _MOST_EACH or count <= 2 * _class_count(evidence):
                continue
            ours, theirs = (set(numbers[sorted(part)].tolist()) for part in (known, held_out))
            shared = ours & theirs
            if len(shared) < _SHARED * len(theirs):
                continue
            nearer = 0.0 if given else _share_nearer(x, numbers)
            if nearer < _NEARER and not given:
                continue
            yield GROUPS_SHARED.finding(
                severity="warning",
                where=f"`{groups}` of `{name}` and `{other}`",
                measured=f"{len(shared)} of {several(len(theirs), 'value')} of `{groups}` in validation also occur in "
                + (
                    f"training, though `{given}` is given the groups, which not every splitter of scikit-learn obeys"
                    if given
                    else f"training; in {percent(nearer, 0)} of the pairs of samples with the same value the two are "
                    f"nearer to each other than to {_OTHERS} samples with other values"
                ),
                limit=f"{percent(_SHARED, 0)} of the validation values also occur in training, with {_EACH:g} to "
                f"{_MOST_EACH} samples of each; and {percent(_NEARER, 0)} of the pairs of samples with the same value "
                f"are nearer to each other than to {_OTHERS} others, or a `split` gets the values as groups",
                why=_WHY,
                remedy=f"split by `{groups}`, not by samples: `sklearn.model_selection.GroupKFold` or "
                f"`GroupShuffleSplit` with `groups={groups}`",
            )
            return


def _given_to_splits(source: ScriptSource) -> dict[str, str]:
    """The first call of a splitter that gets groups, by the text of these groups."""
    given = [(site, argument(site.node, 2, "groups")) for site in source.calls("split")]
    return {ast.unparse(value): site.text for site, value in reversed(given) if value is not None}


def _positions(names: Mapping[str, Any]) -> Iterator[tuple[str, set[int], str, set[int]]]:
    """Names and positions of pairs of variables for training and validation that have no positions in common."""
    for name, value, other, its in named_pairs(names):
        known, held_out = positions(value), positions(its)
        once = is_for_training(name) or (_is_each_once(value) and _is_each_once(its))
        if once and len(held_out) >= _FEWEST and known.isdisjoint(held_out):
            yield name, known, other, held_out


def _is_each_once(value: Any) -> bool:
    """Whether a value is a mask, or an index without repeated positions."""
    if isinstance(value, np.ndarray | torch.Tensor) and value.dtype in (np.bool_, torch.bool):
        return True
    return isinstance(value, np.ndarray | torch.Tensor | list) and len(positions(value)) == len(value)


def _share_nearer(x: Any, numbers: np.ndarray[Any, Any]) -> float:
    """The share of pairs of samples of a group that are nearer to each other than to some samples of other groups."""
    order = np.argsort(numbers, kind="stable")
    pairs = [(a, b) for a, b in pairwise(order) if numbers[a] == numbers[b]]
    if len(pairs) < max(_FEWEST, 2 * _OTHERS):
        return 0.0
    chosen = np.random.default_rng(0).permutation(len(pairs))[:_MOST_PAIRS]
    rows = torch.as_tensor(np.asarray(pairs)[chosen])
    with suppress(TypeError, ValueError):  # not numeric
        values = torch.as_tensor(np.asarray(x))[rows.flatten()]
        one, other = comparable(values, values).double().unflatten(0, (-1, 2)).unbind(1)
        nearest = torch.stack([(one - other.roll(k, 0)).norm(dim=1) for k in range(1, _OTHERS + 1)]).amin(0)
        return float(((one - other).norm(dim=1) < nearest).double().mean())
    return 0.0


def _class_count(evidence: Evidence) -> int:
    """The number of classes, or of different targets of other kinds, if these are repeated; else 0."""
    with suppress(NoEvidence):
        return len(evidence.train.labels.unique())
    with suppress(NoEvidence):
        targets = evidence.samples.y
        if targets is not None and targets.ndim <= 2 and len(targets):
            different = len(targets.reshape(len(targets), -1).unique(dim=0))
            return different if different < _REPEATED * len(targets) else 0
    return 0


def _groups(loader: Any) -> dict[str, list[Any]]:
    """Columns of groups, such as the patient of each sample, in the rows of a loader's data set, by name. Raises
    NoEvidence if there are none."""
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
    run=_run,
    explains="data.leak",
)
