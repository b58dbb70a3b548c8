"""`data.split-overlap`: do lists of positions for training and for validation have positions in common?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

_TRAINING = re.compile(r"train|trn|(?<![a-z])tr(?![a-z])")
_OTHERS = ("val", "valid", "validation", "test", "tst", "dev", "eval")
_INDEX = ("idx", "ind", "index", "indices", "ids", "mask", "split", "fold", "nodes", "rows")


def _run(evidence: Evidence) -> Iterator[Finding]:
    names = evidence.source.names
    for name, value in list(names.items()):
        lower = name.lower()
        if not _TRAINING.search(lower) or not any(word in lower for word in _INDEX):
            continue
        chosen = _positions(value)
        for other, also in _counterparts(name, names):
            shared = chosen & _positions(also)
            if len(shared) > 0.01 * len(_positions(also)):
                yield Finding(
                    code="data.split-overlap",
                    severity="error",
                    where=f"{name} and {other}",
                    measured=f"{several(len(shared), 'position')} of {len(_positions(also))} in `{other}` are in "
                    f"`{name}` as well",
                    threshold=SPLIT_OVERLAP.threshold,
                    why="What is measured on was trained on: the metric says nothing of new samples.",
                    remedy="split once: `order = torch.randperm(n); train, val = order[: int(0.8 * n)], "
                    "order[int(0.8 * n) :]`",
                )
                return


def _counterparts(name: str, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for word in _OTHERS:
        other = _TRAINING.sub(word, name.lower())
        yield from ((found, value) for found, value in names.items() if found.lower() == other)


def _positions(value: Any) -> set[int]:
    """Positions in an index or a mask; none where it is neither."""
    if isinstance(value, list | tuple | range) and all(type(number) is int for number in value[:100]):
        value = list(value)
    elif not isinstance(value, torch.Tensor | np.ndarray) or value.ndim != 1:
        return set()
    numbers = np.asarray(value)
    if numbers.dtype == bool:
        numbers = numbers.nonzero()[0]
    return set(numbers.tolist()) if numbers.dtype.kind in "iu" else set()


SPLIT_OVERLAP = Check(
    codes=("data.split-overlap",),
    question="Do positions of training and of validation have none in common?",
    threshold="1 % of the positions in a list that is named for validation or test are in the one of training",
    run=_run,
    of_source=True,
    explains="data.leak",
)
