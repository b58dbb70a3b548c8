"""Columns of a table that number its rows, where the rows were sorted by class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch

from striate.doctor.checks.data.targets.revealing_columns import RevealedTarget
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.wording import several

_FEWEST = 64
_NEAR, _GAPS = 0.02, 3.0
_RUNS = 1.2


def numbered_rows(evidence: Evidence) -> Iterator[RevealedTarget]:
    """A column that has another multiple of one step in each row, in whose order the classes follow one another."""
    with suppress(NoEvidence):
        parts = [evidence.samples]
        with suppress(NoEvidence):
            parts.append(evidence.val_samples)
        x, y = parts[0].inputs, parts[0].labels
        for other in parts[1:]:
            if other.x is not None and other.x.shape[1:] == x.shape[1:]:
                x, y = torch.cat([x, other.x]), torch.cat([y, other.labels])
        if x.ndim != 2 or x.shape[1] < 2 or not _FEWEST <= len(x) == len(y) or not x.is_floating_point():
            return
        classes = len(y.unique())
        for place in range(x.shape[1]):
            values, order = x[:, place].double().sort()
            runs = 1 + int((y[order].diff() != 0).sum())
            if _are_multiples(values) and 2 <= classes <= runs <= _RUNS * classes:
                yield RevealedTarget(
                    f"number {place} of the {several(x.shape[1], 'input number')} numbers the rows, which were sorted "
                    f"by class: in its order the {several(classes, 'class', 'classes')} follow one another",
                    f"leave the column out: `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`; "
                    "`reset_index(drop=True)` makes no column of the old numbers",
                    limit="a column with another multiple of one step in each row, in whose order each class is in one "
                    "run of rows",
                )
                return


def _are_multiples(values: torch.Tensor) -> bool:
    """Whether sorted values are all different and multiples of one step, with few gaps."""
    steps = values.diff()
    if float(steps.min()) <= 0:
        return False
    steps = steps / steps.min()
    return bool(((steps - steps.round()).abs() < _NEAR * steps).all()) and float(steps.sum()) < _GAPS * len(values)
