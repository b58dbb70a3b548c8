"""Columns of a table, or numbers of a window, that reveal the target, alone or in pairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.partial_likelihood import depends_on_duration, durations_and_events
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import leaves, main_tensor, parts
from striate.records import Severity
from striate.wording import percent, several

LINEAR = 1e-6
"""The largest share of a target's variance that a scaled input leaves; rounding leaves a tenth of that."""
_FEWEST, _MOST_VALUES = 64, 4096
_NEARLY, _OTHERS = 1e-3, 0.05
_COLUMNS, _ROWS = 4, 20
"""The largest share of variance that a column leaves, and the least that the others leave; the fewest columns of a
table, and the fewest rows for each."""
_FEWEST_OF_CLASS = 30
_FEWEST_BANDS, _FEWEST_OF_BAND = 4, 5
"""The fewest ranges of a target, and the fewest samples in each on average."""
_IN_ORDER, _UNORDERED, _DISTINCT = 0.99, 0.9, 0.5
"""The least share of pairs of samples that a column has in the order of their durations, the largest such share of
other columns, and the least share of pairs in which a column differs."""
_WITH_COUNTS = 0.85
"""The least share of pairs of counts above zero that a column has in their order."""
_MOST_COLUMNS, _MOST_ROWS = 60, 400
_RANGES = 2.0
"""The least ratio of the second largest to the second smallest maximum of columns."""
_ADDED = (0.0, 0.5, 1.0)
"""Constants that are added to counts before the logarithm."""
_EXACT, _APART = 1e-5, 1e-3
"""Shares of the largest singular value: the most of the smallest one if columns, target and products are dependent to
all digits of float32, and the least without the target."""


_FEWEST_TIMES, _FEWEST_WINDOWS = 3, 16
"""The fewest times of a window and of its forecast; the fewest windows."""


class RevealedTarget(NamedTuple):
    """A finding about inputs that reveal the target."""

    measured: str
    remedy: str
    limit: str
    """The threshold, in words."""
    severity: Severity = "error"


def revealed_durations(evidence: Evidence) -> Iterator[RevealedTarget]:
    """A column that rises or falls with the durations of samples whose event was observed, such as a number of
    invoices, a rounded duration or its logarithm."""
    with suppress(NoEvidence):
        table = evidence.samples.joined if evidence.samples.joined is not None else evidence.samples.inputs
        wide = table.ndim == 2 and table.shape[1] >= _COLUMNS
        for duration, event in durations_and_events(evidence) if wide else ():
            times, seen = (
                torch.cat([column.of(batch) for batch in evidence.train.raw]) for column in (duration, event)
            )
            rows = (seen == 1).nonzero().flatten()[:_MOST_ROWS]
            if len(times) != len(table) or len(rows) < _FEWEST_OF_CLASS:
                continue
            order = _share_in_order(table[rows].double(), times[rows])
            column = int(order.argmax())
            others = torch.cat([order[:column], order[column + 1 :]])
            if (
                float(order[column]) < _IN_ORDER
                or float(others.max()) > _UNORDERED
                or not depends_on_duration(evidence, duration)
            ):
                continue
            yield RevealedTarget(
                f"number {column} of the {several(len(order), 'input number')} puts {percent(float(order[column]))} of "
                f"the pairs of {several(len(rows), 'sample')} in the order of the durations that the loss gets, if "
                f"the event was observed; no other number puts more than {percent(float(others.max()), 0)}",
                "check when that column is known: remove values that are counted until the event, such as a "
                f"customer's invoices: `inputs = torch.cat([inputs[:, :{column}], inputs[:, {column + 1}:]], 1)`",
                severity="warning",
                limit=f"a column puts {percent(_IN_ORDER, 0)} of the pairs of samples with an observed event in the "
                f"order of the durations that the loss gets, and no other {percent(_UNORDERED, 0)}",
            )
            return


def _share_in_order(columns: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """(D,) the share of pairs that each column (N, D) has in the order of times (N,), or in the opposite order, among
    pairs in which it differs; 0.5 if most pairs are equal."""
    above = (times[:, None] > times).flatten()
    signs = (columns[:, None] - columns).sign().flatten(0, 1)[above]
    distinct = signs.abs().mean(0)
    return (0.5 + signs.mean(0).abs() / (2 * distinct.clamp(min=1e-9))).where(distinct > _DISTINCT, 0.5)


def revealed_first_time(evidence: Evidence) -> Iterator[RevealedTarget]:
    """A forecast whose first target time is the last time of the window, so that it begins one time too early. The
    second target time is not in the window, unlike for a network that forecasts at each time."""
    inputs, targets = evidence.first.shown, main_tensor(evidence.first.loss_targets)
    if targets is None and evidence.calls.losses:
        targets = evidence.calls.losses[0].target
    if inputs is None or targets is None or not (inputs.is_floating_point() and targets.is_floating_point()):
        return
    inputs, targets = inputs.detach().cpu().double(), targets.detach().cpu().double()
    if inputs.ndim not in (2, 3) or targets.ndim not in (2, 3) or len(inputs) != len(targets):
        return
    if (
        targets.shape[1] < _FEWEST_TIMES
        or len(inputs) < _FEWEST_WINDOWS
        or len(targets[:, 0].unique()) < _FEWEST_WINDOWS
    ):
        return
    first, second = (targets[:, time].reshape(len(targets), -1) for time in (0, 1))
    for axis in range(1, inputs.ndim):
        times = inputs.shape[axis]
        last = inputs.select(axis, -1).reshape(len(inputs), -1)
        if times >= _FEWEST_TIMES and _all_among(first, last) and not _any_among(second, inputs.flatten(1)):
            yield RevealedTarget(
                f"the first of the {targets.shape[1]} target times is the last of the {times} times of "
                f"the input, in all of {several(len(inputs), 'sample')}",
                "begin the targets after the end of the inputs: `series[i : i + n]` and "
                "`series[i + n : i + n + horizon]`",
                severity="warning",
                limit=f"the first of {_FEWEST_TIMES} or more target times is the last of the input, "
                "and the second is not in the input",
            )
            return


def _all_among(targets: torch.Tensor, columns: torch.Tensor) -> bool:
    return all(_any_among(target[:, None], columns) for target in targets.T)


def _any_among(targets: torch.Tensor, columns: torch.Tensor) -> bool:
    """Whether a column (N, D) equals one of the targets (N, K), perhaps scaled."""
    columns = columns - columns.mean(0)
    return any(float(unexplained_by_each(columns, target - target.mean()).min()) <= LINEAR for target in targets.T)


def revealed_numbers(evidence: Evidence) -> Iterator[RevealedTarget]:
    """Input numbers that reveal the target: one that is the scaled target, a window that contains all targets, or table
    columns. Raises NoEvidence if targets are not numbers of samples."""
    pairs = [(main_tensor(parts(batch)[0]), main_tensor(parts(batch)[1])) for batch in evidence.train.raw]
    known = [(x, y) for x, y in pairs if x is not None and y is not None and x is not y and x.ndim > 1 and y.ndim]
    known = [(x, y) for x, y in known if len(x) == len(y)]  # not nodes of many graphs with a target for each graph
    whole = bool(known) and not known[0][0].is_floating_point()
    if not known or len({x.shape[1:] for x, _ in known}) != 1 or (whole and known[0][0].ndim != 2):
        raise NoEvidence("inputs and targets are not numbers of the same rows")
    values = torch.cat([x.detach().cpu().flatten(1) for x, _ in known]).double()
    if whole and not (_are_fields(values) and columns_given(evidence)):
        raise NoEvidence("inputs and targets are not numbers of the same rows")
    targets = torch.cat([y.detach().cpu().flatten(1) if y.ndim > 1 else y.detach().cpu()[:, None] for _, y in known])
    if not 2 <= values.shape[1] <= _MOST_VALUES or len(values) < _FEWEST:
        raise NoEvidence("there are too few samples")
    if targets.shape[1] != 1:
        yield from _revealed_windows(evidence, values, targets)
        return
    target = targets[:, 0].double()
    if whole:
        yield from _revealed_classes(values, target)
        return
    few = len(target.unique()) < 20 and not (
        known[0][0].ndim == 2 and len(target.unique()) >= 2 and columns_given(evidence)
    )
    if few or values.shape[1] * 4 > len(values) * 100:
        raise NoEvidence("the targets take few values")
    counted = target
    values, target = values - values.mean(0), target - target.mean()
    left = unexplained_by_each(values, target)
    place = int(left.argmin())
    if float(left[place]) > LINEAR:
        if known[0][0].ndim == 2:
            found = list(_nearly_revealed(values, target, place, float(left[place]))) or list(_ranges(values, target))
            found = (
                found or list(_revealed_by_two(values, target)) or list(_revealed_logarithm(evidence, values, counted))
            )
            found = found or list(_revealed_classes(values, target))
            yield from found or ([] if any(class_losses(evidence)) else _revealed_counts(values, counted))
        return
    yield RevealedTarget(
        f"number {place} of the {several(values.shape[1], 'input number')} is the scaled target: it leaves "
        f"{max(float(left[place]), 0.0):.1g} of the target's variance unexplained",
        f"remove it from the inputs, `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`; for a "
        "window, the target comes after its end: `series[i : i + n]` and `series[i + n]`",
        limit=f"one input number leaves at most {LINEAR:g} of the variance of targets with 20 or more values",
    )


def _nearly_revealed(values: torch.Tensor, target: torch.Tensor, place: int, left: float) -> Iterator[RevealedTarget]:
    """A column that explains nearly all of the target's variance, unlike the others together."""
    columns = values.shape[1]
    if not left < _NEARLY or columns < _COLUMNS or len(values) < _ROWS * columns:
        return
    others = torch.cat([values[:, :place], values[:, place + 1 :]], 1)
    beside = _unexplained(others / others.square().mean(0).sqrt().clamp(min=1e-300), target)
    if beside > _OTHERS:
        yield RevealedTarget(
            f"number {place} of the {columns} numbers of a row leaves {left:.1g} of the target's variance "
            f"unexplained, and all others together (a linear model) {beside:.2g}",
            "check when that column is known: remove values that are made from the target, such as a tax of a "
            f"price or the state of a finished order: `inputs = torch.cat([inputs[:, :{place}], inputs[:, "
            f"{place + 1}:]], 1)`",
            severity="warning",
            limit=f"one column of a table leaves less than {_NEARLY:g} of the target's variance unexplained, and "
            f"the others leave {_OTHERS:g} or more",
        )


def _ranges(values: torch.Tensor, target: torch.Tensor) -> Iterator[RevealedTarget]:
    """A column whose values separate ranges of the target without an error."""
    columns = values.shape[1]
    if columns < _COLUMNS or len(values) < _ROWS * columns or len(target.unique()) < len(target) / 2:
        return
    for place, column in enumerate(values.T):
        kinds, which = column.unique(return_inverse=True)
        if not _FEWEST_BANDS <= len(kinds) <= len(target) / _FEWEST_OF_BAND:
            continue
        low, high = (
            torch.zeros(len(kinds), dtype=target.dtype).scatter_reduce(0, which, target, way, include_self=False)
            for way in ("amin", "amax")
        )
        if bool((high[:-1] < low[1:]).all() or (low[:-1] > high[1:]).all()):
            yield RevealedTarget(
                f"number {place} of the {columns} numbers of a row has {several(len(kinds), 'value')}, and each of "
                f"them has its own range of targets, in all of {several(len(values), 'row')}",
                "remove values that are made from the target, such as the band that a split is stratified by: "
                f"`inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`",
                severity="warning",
                limit=f"a column of {_FEWEST_BANDS} or more values separates ranges of the target without an error",
            )
            return


def _revealed_classes(values: torch.Tensor, target: torch.Tensor) -> Iterator[RevealedTarget]:
    """A column that separates two classes by a threshold without an error, unlike the others together."""
    separating = _separating_column(values, target) if len(target.unique()) == 2 else None
    if separating is not None:
        place, right = separating
        yield RevealedTarget(
            f"number {place} of the {values.shape[1]} numbers of a row separates the two classes by a threshold, "
            f"without an error in {several(len(values), 'row')}; all others together (a linear model) are right in "
            f"{percent(right, 0)}",
            "check when that column is known: remove values that only exist once the class is known, such as the "
            f"last invoice of those who left: `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], "
            "1)`",
            severity="warning",
            limit="one column separates two classes by a threshold without an error, and all others are wrong in "
            f"{percent(_OTHERS, 0)} or more",
        )


def _revealed_counts(values: torch.Tensor, counts: torch.Tensor) -> Iterator[RevealedTarget]:
    """A column that separates counts of zero from others without an error, and mostly has the others in order, such as
    the sum paid for claims. A column that only reveals zeros, such as closed days, is accepted."""
    whole = float(counts.min()) == 0 and len(counts.unique()) > 2 and bool((counts == counts.round()).all())
    separating = _separating_column(values, (counts > 0).double()) if whole else None
    if separating is None:
        return
    place, right = separating
    rows = (counts > 0).nonzero().flatten()[:_MOST_ROWS]
    order = float(_share_in_order(values[rows][:, [place]], counts[rows]))
    if order < _WITH_COUNTS:
        return
    yield RevealedTarget(
        f"number {place} of the {values.shape[1]} numbers of a row separates targets of zero from all others by a "
        f"threshold, without an error in {several(len(values), 'row')}; all other numbers together (a linear model) "
        f"are right in {percent(right, 0)}; and it puts {percent(order, 0)} of the pairs of the other targets in order",
        "check when that column is known: remove values that come with each counted event, such as the cost of "
        f"claims: `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`",
        severity="warning",
        limit=f"one column separates counts of zero from others without an error and puts {percent(_WITH_COUNTS, 0)} "
        f"of the pairs of those in order, and all others are wrong in {percent(_OTHERS, 0)} or more",
    )


def _separating_column(values: torch.Tensor, target: torch.Tensor) -> tuple[int, float] | None:
    """The only column that separates two values of the target by a threshold without an error, and the accuracy of a
    linear model of all others, if that makes errors; else None."""
    columns, kinds = values.shape[1], target.unique()
    if len(kinds) != 2 or columns < _COLUMNS or len(values) < _ROWS * columns:
        return None
    first = target == kinds[0]
    if min(int(first.sum()), int((~first).sum())) < _FEWEST_OF_CLASS:
        return None
    low, high = (values[rows].aminmax(dim=0) for rows in (first, ~first))
    apart = (low.max < high.min) | (high.max < low.min)
    if int(apart.sum()) != 1:
        return None
    place = int(apart.int().argmax())
    others = torch.cat([values[:, :place], values[:, place + 1 :]], 1)
    others = others / others.square().mean(0).sqrt().clamp(min=1e-300)
    fitted = others @ torch.linalg.lstsq(others, target[:, None], driver="gelsd").solution[:, 0]
    limit = float(kinds.mean())
    right = float(((fitted > limit) == (target > limit)).double().mean())
    return (place, right) if right < 1 - _OTHERS else None


def _revealed_by_two(values: torch.Tensor, target: torch.Tensor) -> Iterator[RevealedTarget]:
    """A column that was computed from the target and another column, such as a price per area: their product or
    quotient is the target to all digits, although further columns are related to it."""
    columns = values.shape[1]
    if not _COLUMNS <= columns <= _MOST_COLUMNS or len(values) < _ROWS * columns or len(target.unique()) < _ROWS:
        return
    if not bool(values.isfinite().all()) or not bool(target.isfinite().all()):
        return
    rows = values[:_MOST_ROWS] / values.square().mean(0).sqrt().clamp(min=1e-300)
    scaled = target[:_MOST_ROWS] / target.square().mean().sqrt().clamp(min=1e-300)
    pairs = torch.combinations(torch.arange(columns))
    a, b = rows[:, pairs[:, 0]].T, rows[:, pairs[:, 1]].T
    t = scaled.expand_as(a)
    apart = torch.linalg.svdvals(torch.stack([torch.ones_like(a), a, b, a * b], 2))
    together = torch.linalg.svdvals(torch.stack([torch.ones_like(a), a, b, a * b, t, t * a, t * b], 2))
    exact = (together[:, -1] < _EXACT * together[:, 0]) & (apart[:, -1] > _APART * apart[:, 0])
    for one, other in pairs[exact].tolist():
        for made, beside in ((other, one), (one, other)):  # the computed column mostly comes last
            rest = [number for number in range(columns) if number != made]
            if _unexplained(rows[:, rest], scaled) > _unexplained(rows[:, [beside]], scaled) - _OTHERS:
                continue  # no other column is related to it: the network should learn a product
            yield RevealedTarget(
                f"numbers {one} and {other} of the {columns} numbers of a row, multiplied or divided, give the "
                "target to all digits, although other columns are related to it, too",
                "remove the column that is made from the target, such as a price per area: `inputs = "
                f"torch.cat([inputs[:, :{made}], inputs[:, {made + 1}:]], 1)`",
                limit="two columns, multiplied or divided, give the target to all digits, although other columns "
                "are related to it, too",
            )
            return


def _revealed_logarithm(evidence: Evidence, values: torch.Tensor, targets: torch.Tensor) -> Iterator[RevealedTarget]:
    """A column that is the scaled logarithm of the target, of a count plus 0.5 or 1, or of a rate (the target relative
    to an offset or exposure that the network gets in addition to the table)."""
    columns = values.shape[1]
    wide = _COLUMNS <= columns <= _MOST_COLUMNS and len(values) >= _ROWS * columns
    if not wide or len(targets.unique()) < _ROWS or not columns_given(evidence):
        return
    values = values / values.square().mean(0).sqrt().clamp(min=1e-300)
    for added in _ADDED:
        if not float(targets.min()) + added > 0:
            continue
        logarithm = (targets + added).log()
        logarithm = logarithm - logarithm.mean()
        for offset in (None, *_offsets(evidence, len(values))):
            table, rest = (part if offset is None else _residual(part, offset) for part in (values, logarithm[:, None]))
            left = unexplained_by_each(table, rest[:, 0])
            place = int(left.argmin())
            others = torch.cat([table[:, :place], table[:, place + 1 :]], 1)
            revealed = float(left[place]) <= LINEAR and float(rest.square().mean()) > _OTHERS * float(logarithm.var())
            if not revealed or _unexplained(others, rest[:, 0]) > 1 - _OTHERS:
                continue  # no other column is related to it: the network should learn a function
            beside = "" if offset is None else " apart from the other inputs of the network,"
            yield RevealedTarget(
                f"number {place} of the {columns} numbers of a row is the scaled logarithm of the "
                f"target{f' + {added:g}' if added else ''},{beside} to all digits",
                f"remove it: `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`; for a time "
                "series, the target comes after the end of the inputs: `series[i : i + n]` and `series[i + n]`",
                limit=f"one column, with an offset or an exposure outside the table, leaves at most {LINEAR:g} of "
                "the variance of the target's logarithm, although others are related to it, too",
            )
            return


def _offsets(evidence: Evidence, count: int) -> Iterator[torch.Tensor]:
    """Inputs of one number for each sample outside the table, and their logarithms, less their means."""
    inputs = [list(leaves(parts(batch)[0])) for batch in evidence.train.raw]
    for place in range(min(map(len, inputs))):
        beside = [one[place][1].detach().cpu().double() for one in inputs]
        if any(part.ndim not in (1, 2) or part.numel() != len(part) for part in beside):
            continue
        offset = torch.cat([part.flatten() for part in beside])
        if len(offset) == count and bool(offset.isfinite().all()) and float(offset.std()) > 0:
            yield offset - offset.mean()
            if float(offset.min()) > 0:
                yield offset.log() - offset.log().mean()


def _residual(columns: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Columns (N, D) without their projections on `offset` (N,)."""
    return columns - offset[:, None] * (offset @ columns / offset.square().sum())


def unexplained_by_each(columns: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(D,) the share of a target's variance (N,) that each column (N, D) leaves; both have mean 0."""
    scale = columns.square().sum(0) * target.square().sum()
    left = 1 - (columns * target[:, None]).sum(0).square() / scale.clamp(min=1e-300)
    return left.where(scale > 0, 1.0)


def _unexplained(columns: torch.Tensor, target: torch.Tensor) -> float:
    """The share of the target's variance that a linear model leaves."""
    fitted = columns @ torch.linalg.lstsq(columns, target[:, None], driver="gelsd").solution
    return float((target - fitted[:, 0]).square().mean() / target.square().mean())


def columns_given(evidence: Evidence) -> bool:
    """Whether the input of the network is the table of the batch, perhaps scaled."""
    given, (x, _) = main_tensor(list(evidence.first.arguments)), parts(evidence.train.raw[0])
    table = main_tensor(x)
    return given is not None and table is not None and given.ndim == 2 and given.shape == table.shape


def _are_fields(values: torch.Tensor) -> bool:
    """Whether integer columns have different ranges, as categories of a table: tokens have one vocabulary, even if the
    first one is a prefix and the last ones are mostly padding."""
    if values.shape[1] < _COLUMNS:
        return False
    largest = values.amax(0).sort().values
    return float(largest[-2]) >= _RANGES * float(largest[1]) > 0


def _revealed_windows(evidence: Evidence, values: torch.Tensor, targets: torch.Tensor) -> Iterator[RevealedTarget]:
    """Targets of a sample that are consecutive numbers of its input."""
    shown = main_tensor(list(evidence.first.arguments))
    length, width = values.shape[1], targets.shape[1]
    if shown is None or not targets.is_floating_point() or not 2 <= width < length or len(targets.unique()) < 20:
        raise NoEvidence("there is not one target for each sample")
    if shown[0].numel() != length:
        raise NoEvidence("the network only gets a part of the inputs")
    expected, beside = targets.double(), shown.shape[-1] if shown.ndim == 3 else 1  # columns at each time
    for every in dict.fromkeys((1, beside)):
        for place in range(length - (width - 1) * every):
            last = place + (width - 1) * every
            if torch.equal(values[:, place : last + 1 : every], expected):
                which = f"column {place % every} at times {place // every} to {last // every}"
                which = which if every > 1 else f"numbers {place} to {last} of its {length} input numbers"
                yield RevealedTarget(
                    f"the {width} targets of each sample are {which}",
                    "targets that come after the window: `series[i : i + n]` and `series[i + n : i + n + horizon]`",
                    limit="all targets of a sample are numbers of its input",
                )
                return
