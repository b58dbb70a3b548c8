"""`data.shift` of tables: columns, codes and numeric targets with another meaning or range in validation."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import leaf, leaves
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import is_operation, names_in, nodes_in
from striate.records import Finding
from striate.wording import percent, several

RANGES, _FEWEST_ROWS = 3.0, 30
_MOST_CODED, _CODES, _OFTEN_ENOUGH = 40, 12, 8
_WITHIN, _ACROSS = 0.7, 0.3
"""The least correlation of mean targets of codes between halves of training, and the largest between training and
validation."""
OUTSIDE = 0.02
"""The share of training targets on either side of the usual range: if all validation targets are beyond, the data were
split by size."""

_CODES_APART = (
    f"mean targets of the codes in a column that correlate by {_WITHIN:g} or more between halves of training, "
    f"and by {_ACROSS:g} or less with validation"
)


def _run(evidence: Evidence) -> Iterator[Finding]:
    inputs, limit = (
        _columns_apart(evidence),
        f"the mean of a column is outside the range of training by {RANGES:g} times that range",
    )
    targets, another_unit = (None, False) if inputs else _targets_apart(evidence)
    if not inputs and not targets:
        inputs, limit = _codes_apart(evidence), _CODES_APART
    if inputs:
        yield SHIFTED_TABLES.finding(
            severity="error",
            where="validation inputs",
            measured=inputs,
            limit=limit,
            why="Validation data differ from what the network learned: the validation metrics do not measure what "
            "it learned.",
            remedy="Prepare both in one function, with the statistics and the codes of training: "
            "`scaler.fit(train)`, then `scaler.transform(train)` and `scaler.transform(val)`; one table of codes "
            "for both.",
        )
    elif targets and another_unit:
        yield SHIFTED_TABLES.finding(
            severity="note" if evidence.setup.source is None or _may_scale_back(evidence.source) else "warning",
            where="validation targets",
            measured=targets,
            limit="a gap between the targets of training and validation that is larger than the range of one of them; "
            "a note if predictions may be scaled back before they are compared",
            why="The two have different units, as if only one of them were standardized. Predictions have the unit of "
            "training, and an error between the two units means nothing.",
            remedy="scale predictions back before they are compared with such targets: `model(x) * y_std + y_mean`, "
            "with the mean and standard deviation of training; or scale both alike: `(y_val - y_mean) / y_std`",
        )
    elif targets:
        yield SHIFTED_TABLES.finding(
            severity="warning",
            where="validation targets",
            measured=targets,
            limit=f"all targets lie beyond {percent(1 - OUTSIDE, 0)} of those of training",
            why="The samples were split in the order of the targets: validation has targets that the network never "
            "saw.",
            remedy="shuffle before the split: `order = torch.randperm(len(x))`, `torch.utils.data.random_split`, or "
            "`train_test_split(x, y, shuffle=True)`",
        )


def _columns_apart(evidence: Evidence) -> str | None:
    """The measured difference if the mean of a table column in validation is far outside its range in training; else
    None."""
    train, val = evidence.train.raw, evidence.val.raw
    for path in (path for path, _ in leaves(train[0]) if path != evidence.samples.y_path):
        parts = [[leaf(batch, path) for batch in batches] for batches in (train, val)]
        tables = [
            [t.detach().cpu() for t in part if t is not None and t.ndim == 2 and t.is_floating_point()]
            for part in parts
        ]
        if any(len(t) != len(p) for t, p in zip(tables, parts, strict=True)):
            continue
        if len({t.shape[1] for table in tables for t in table}) != 1:
            continue
        known, x = (torch.cat(table).double() for table in tables)
        low, high = known.min(0).values, known.max(0).values
        span, mean = (high - low).clamp_min(1e-12), x.mean(0)
        beyond = torch.where(high > low, torch.maximum(low - mean, mean - high) / span, torch.zeros(())).nan_to_num(0)
        column = int(beyond.argmax())
        if float(beyond[column]) > RANGES and len(known) >= _FEWEST_ROWS:
            return (
                f"column {column} of {several(known.shape[1], 'column')} ranges from {float(low[column]):.3g} to "
                f"{float(high[column]):.3g} in training, and its mean in validation is {float(mean[column]):.3g}"
            )
    return None


def _codes_apart(evidence: Evidence) -> str | None:
    """The measured difference if a column of codes, such as cities, has the same mean targets in both halves of
    training, but not in validation, so that codes mean something else there; else None."""
    train, val = evidence.train.raw, evidence.val.raw
    place = evidence.samples.y_path
    y, other = (_column(batches, place) for batches in (train, val)) if place is not None else (None, None)
    if y is None or other is None or y.ndim != 1 or other.ndim != 1:
        return None
    for path in (path for path, _ in leaves(train[0]) if path != place):
        known, x = (_column(batches, path) for batches in (train, val))
        if known is None or x is None or known.is_floating_point() or known.ndim != 2 or x.shape[1:] != known.shape[1:]:
            continue
        for column in range(known.shape[1] if known.shape[1] <= _MOST_CODED else 0):
            within, across, codes = _means_by_code(known[:, column], y, x[:, column], other)
            if within >= _WITHIN and across <= _ACROSS:
                return (
                    f"column {column} has {several(codes, 'code')}; their mean targets correlate by {within:.2f} "
                    f"between two halves of training, and by {across:.2f} between training and validation"
                )
    return None


def _column(batches: Sequence[Any], path: Any) -> torch.Tensor | None:
    found = [leaf(batch, path) for batch in batches]
    if any(not isinstance(t, torch.Tensor) or not t.ndim for t in found):
        return None
    tensors = [t.detach().cpu() for t in found if t is not None]
    if len({t.shape[1:] for t in tensors}) != 1:
        return None
    whole = torch.cat(tensors)
    return whole[:, 0] if whole.ndim == 2 and whole.shape[1] == 1 and whole.is_floating_point() else whole


def _means_by_code(
    known: torch.Tensor, y: torch.Tensor, x: torch.Tensor, other: torch.Tensor
) -> tuple[float, float, int]:
    """Correlations of the mean targets of codes between halves of training, and between training and validation, and
    the number of codes that are frequent enough in all parts."""
    size = int(max(known.max(), x.max())) + 1
    if int(min(known.min(), x.min())) < 0 or size > len(known):
        return 0.0, 0.0, 0
    half = torch.arange(len(known)) % 2 == 0
    parts = [(known[half], y[half]), (known[~half], y[~half]), (known, y), (x, other)]
    counts = [torch.bincount(codes, minlength=size) for codes, _ in parts]
    often = torch.stack([count >= _OFTEN_ENOUGH for count in counts]).all(0)
    if int(often.sum()) < _CODES:
        return 0.0, 0.0, 0
    sums = [torch.bincount(codes, values.double(), minlength=size) for codes, values in parts]
    one, two, all_of_it, there = ((total / count)[often] for total, count in zip(sums, counts, strict=True))
    return _related(one, two), _related(all_of_it, there), int(often.sum())


def _related(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1].nan_to_num(0.0))


def _targets_apart(evidence: Evidence) -> tuple[str | None, bool]:
    """The measured difference if all numeric targets of validation are above or below nearly all of training, else
    None; and whether the gap between them shows another unit. Where sorted targets are split, there is no such gap."""
    train, val = evidence.samples, evidence.val_samples
    y, other = train.y, val.y
    if train.classifies or y is None or other is None or not (y.is_floating_point() and other.is_floating_point()):
        return None, False
    if y.numel() != len(y) or other.numel() != len(other) or min(len(y), len(other)) < _FEWEST_ROWS:
        return None, False
    known, x = y.flatten().double(), other.flatten().double()
    low, high = torch.quantile(known, torch.tensor([OUTSIDE, 1 - OUTSIDE], dtype=torch.float64)).tolist()
    if not (float(x.min()) > high or float(x.max()) < low):
        return None, False
    gap = max(float(x.min() - known.max()), float(known.min() - x.max()))
    another_unit = gap > min(float(x.max() - x.min()), float(known.max() - known.min()))
    return (
        f"validation targets range from {float(x.min()):.3g} to {float(x.max()):.3g}, and "
        f"{percent(1 - 2 * OUTSIDE, 0)} of those of training from {low:.3g} to {high:.3g}",
        another_unit,
    )


def _may_scale_back(source: ScriptSource) -> bool:
    """Whether a script may bring predictions into another unit, by a scaler's method, or a factor and an offset of
    predictions or of what a function gets."""
    for node in source.nodes(ast.Attribute, ast.BinOp):
        if isinstance(node, ast.Attribute) and node.attr == "inverse_transform":
            return True
        sides = (node.left, node.right) if is_operation(node, ast.Add) else ()
        for side in sides:
            if is_operation(side, ast.Mult) and _may_be_predicted(source, side):
                return True
    return False


def _may_be_predicted(source: ScriptSource, product: ast.BinOp) -> bool:
    """Whether a factor of a product is a prediction, or a parameter of the function that computes it."""
    scope = source.scope_of(product)
    given = {one.arg for one in nodes_in(scope, ast.arg)}
    factors = (product.left, product.right)
    predicted = source.predictions_in(scope)
    return bool(names_in(product) & given) or any(source.is_prediction(one, predicted) for one in factors)


SHIFTED_TABLES = Check(
    codes=("data.shift",),
    run=_run,
    quick=False,
    explains="model.mode fit.*",
)
