"""Columns of a table, or numbers beside each other, that tell the target alone, or two of them together."""

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
from striate.wording import several

LINEAR = 1e-6
"""What may be left of a target's variance once an input is subtracted, scaled: rounding leaves a tenth of that."""
_FEWEST, _MOST_VALUES = 64, 4096
_NEARLY, _OTHERS = 1e-3, 0.05
_COLUMNS, _ROWS = 4, 20
"""Of a column beside others: what it leaves, and what they leave; how many columns, and rows for each, make a table."""
_FEWEST_OF_CLASS = 30
_FEWEST_BANDS, _FEWEST_OF_BAND = 4, 5
"""Ranges of a target, and samples in each on average."""
_IN_ORDER, _UNORDERED, _TOLD_APART = 0.99, 0.9, 0.5
"""Share of pairs of samples that a column has in the order of their durations, that other columns may have at most, and
of which it has to tell more apart."""
_WITH_COUNTS = 0.85
"""The same of counts above zero, of what each of those that are counted adds to."""
_MOST_COLUMNS, _LOOKED_AT = 60, 400
_RANGES = 2.0
"""Times as large as of one column, but the least, the largest number of another is, but the largest."""
_ADDED = (0.0, 0.5, 1.0)
"""What is added to counts before their logarithm is taken."""
_EXACT, _APART = 1e-5, 1e-3
"""Of the largest singular value, the smallest of columns, target and products that belong together to all digits of
float32, and that of columns and products without the target."""


_FEWEST_TIMES, _FEWEST_WINDOWS = 3, 16
"""Of a window and of what is forecast behind it; windows in which the first of these is the window's last number."""


class Told(NamedTuple):
    """What was measured of numbers that tell the target, what to do, how bad it is, and the limit."""

    measured: str
    remedy: str
    limit: str
    severity: Severity = "error"


def durations_told(evidence: Evidence) -> Iterator[Told]:
    """A column of a table that rises, or falls, with the durations of those whose event was seen, as their number of
    invoices does: a duration that is rounded, or its logarithm."""
    with suppress(NoEvidence):
        table = evidence.samples.joined if evidence.samples.joined is not None else evidence.samples.inputs
        wide = table.ndim == 2 and table.shape[1] >= _COLUMNS
        for duration, event in durations_and_events(evidence) if wide else ():
            times, seen = (
                torch.cat([column.of(batch) for batch in evidence.train.raw]) for column in (duration, event)
            )
            rows = (seen == 1).nonzero().flatten()[:_LOOKED_AT]
            if len(times) != len(table) or len(rows) < _FEWEST_OF_CLASS:
                continue
            order = _in_order(table[rows].double(), times[rows])
            column = int(order.argmax())
            others = torch.cat([order[:column], order[column + 1 :]])
            if (
                float(order[column]) < _IN_ORDER
                or float(others.max()) > _UNORDERED
                or not depends_on_duration(evidence, duration)
            ):
                continue
            yield Told(
                f"number {column} of the {several(len(order), 'input number')} puts {float(order[column]):.1%} of "
                f"the pairs of {several(len(rows), 'sample')} in the order of the durations that the loss gets, if "
                f"the event was observed; no other number puts more than {float(others.max()):.0%}",
                "check when that column is known: remove values that are counted until the event, such as a "
                f"customer's invoices: `inputs = torch.cat([inputs[:, :{column}], inputs[:, {column + 1}:]], 1)`",
                severity="warning",
                limit=f"a column puts {_IN_ORDER:.0%} of the pairs of samples with an observed event in the order "
                f"of the durations that the loss gets, and no other {_UNORDERED:.0%}",
            )
            return


def _in_order(columns: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Of each column (N, D) the share of pairs that it has in the order of times (N,), or all in the other order, of
    those that it tells apart: one half of a column in which most pairs are equal."""
    above = (times[:, None] > times).flatten()
    signs = (columns[:, None] - columns).sign().flatten(0, 1)[above]
    told = signs.abs().mean(0)
    return (0.5 + signs.mean(0).abs() / (2 * told.clamp(min=1e-9))).where(told > _TOLD_APART, 0.5)


def first_told(evidence: Evidence) -> Iterator[Told]:
    """The first of several times that are forecast, as the loss gets them, is the last of the window: they begin one
    too early. The second is nowhere in the window, as it would be of a network that forecasts at each time."""
    given, wanted = evidence.first.shown, main_tensor(evidence.first.loss_targets)
    if wanted is None and evidence.calls.losses:
        wanted = evidence.calls.losses[0].target
    if given is None or wanted is None or not (given.is_floating_point() and wanted.is_floating_point()):
        return
    given, wanted = given.detach().cpu().double(), wanted.detach().cpu().double()
    if given.ndim not in (2, 3) or wanted.ndim not in (2, 3) or len(given) != len(wanted):
        return
    if wanted.shape[1] < _FEWEST_TIMES or len(given) < _FEWEST_WINDOWS or len(wanted[:, 0].unique()) < _FEWEST_WINDOWS:
        return
    first, second = (wanted[:, time].reshape(len(wanted), -1) for time in (0, 1))
    for axis in range(1, given.ndim):
        times = given.shape[axis]
        last = given.select(axis, -1).reshape(len(given), -1)
        if times >= _FEWEST_TIMES and _all_told(first, last) and not _any_told(second, given.flatten(1)):
            yield Told(
                f"the first of the {wanted.shape[1]} times that the loss asks for is the last of the {times} times of "
                f"the input, in all of {several(len(given), 'sample')}",
                "begin the targets after the end of the inputs: `series[i : i + n]` and "
                "`series[i + n : i + n + horizon]`",
                severity="warning",
                limit=f"the first of {_FEWEST_TIMES} or more times that the loss asks for is the last of the input, "
                "and the second is not in the input",
            )
            return


def _all_told(targets: torch.Tensor, columns: torch.Tensor) -> bool:
    return all(_any_told(target[:, None], columns) for target in targets.T)


def _any_told(targets: torch.Tensor, columns: torch.Tensor) -> bool:
    """Whether a column (N, D) is one of the targets (N, K), perhaps in another scale."""
    columns = columns - columns.mean(0)
    return any(float(left_by_each(columns, target - target.mean()).min()) <= LINEAR for target in targets.T)


def numbers_told(evidence: Evidence) -> Iterator[Told]:
    """One number of the input that is the target, or the target scaled."""
    pairs = [(main_tensor(parts(batch)[0]), main_tensor(parts(batch)[1])) for batch in evidence.train.raw]
    known = [(x, y) for x, y in pairs if x is not None and y is not None and x is not y and x.ndim > 1 and y.ndim]
    known = [(x, y) for x, y in known if len(x) == len(y)]  # not of nodes of many graphs, and of each graph
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
        yield from _windows(evidence, values, targets)
        return
    wanted = targets[:, 0].double()
    if whole:
        yield from _classes_told(values, wanted)
        return
    few = len(wanted.unique()) < 20 and not (
        known[0][0].ndim == 2 and len(wanted.unique()) >= 2 and columns_given(evidence)
    )
    if few or values.shape[1] * 4 > len(values) * 100:
        raise NoEvidence("the targets take few values")
    counted = wanted
    values, wanted = values - values.mean(0), wanted - wanted.mean()
    left = left_by_each(values, wanted)
    place = int(left.argmin())
    if float(left[place]) > LINEAR:
        if known[0][0].ndim == 2:
            found = list(_nearly_told(values, wanted, place, float(left[place]))) or list(_bands(values, wanted))
            found = found or list(_told_by_two(values, wanted)) or list(_logarithm_told(evidence, values, counted))
            found = found or list(_classes_told(values, wanted))
            yield from found or ([] if any(class_losses(evidence)) else _counts_told(values, counted))
        return
    yield Told(
        f"number {place} of the {several(values.shape[1], 'input number')} is the scaled target: it leaves "
        f"{max(float(left[place]), 0.0):.1g} of the target's variance unexplained",
        f"remove it from the inputs, `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`; for a "
        "window, the target comes after its end: `series[i : i + n]` and `series[i + n]`",
        limit=f"one input number leaves at most {LINEAR:g} of the variance of targets with 20 or more values",
    )


def _nearly_told(values: torch.Tensor, wanted: torch.Tensor, place: int, left: float) -> Iterator[Told]:
    """A column of a table that tells the target all but alone, beside columns that are far from it."""
    columns = values.shape[1]
    if not left < _NEARLY or columns < _COLUMNS or len(values) < _ROWS * columns:
        return
    others = torch.cat([values[:, :place], values[:, place + 1 :]], 1)
    beside = _left(others / others.square().mean(0).sqrt().clamp(min=1e-300), wanted)
    if beside > _OTHERS:
        yield Told(
            f"number {place} of the {columns} numbers of a row leaves {left:.1g} of the target's variance "
            f"unexplained, and all others together (a linear model) {beside:.2g}",
            "check when that column is known: remove values that are made from the target, such as a tax of a "
            f"price or the state of a finished order: `inputs = torch.cat([inputs[:, :{place}], inputs[:, "
            f"{place + 1}:]], 1)`",
            severity="warning",
            limit=f"one column of a table leaves less than {_NEARLY:g} of the target's variance unexplained, and "
            f"the others leave {_OTHERS:g} or more",
        )


def _bands(values: torch.Tensor, wanted: torch.Tensor) -> Iterator[Told]:
    """A column of a table that says in which of several ranges of the target a row lies, without an error."""
    columns = values.shape[1]
    if columns < _COLUMNS or len(values) < _ROWS * columns or len(wanted.unique()) < len(wanted) / 2:
        return
    for place, column in enumerate(values.T):
        kinds, which = column.unique(return_inverse=True)
        if not _FEWEST_BANDS <= len(kinds) <= len(wanted) / _FEWEST_OF_BAND:
            continue
        low, high = (
            torch.zeros(len(kinds), dtype=wanted.dtype).scatter_reduce(0, which, wanted, way, include_self=False)
            for way in ("amin", "amax")
        )
        if bool((high[:-1] < low[1:]).all() or (low[:-1] > high[1:]).all()):
            yield Told(
                f"number {place} of the {columns} numbers of a row has {several(len(kinds), 'value')}, and each of "
                f"them has its own range of targets, in all of {several(len(values), 'row')}",
                "remove values that are made from the target, such as the band that a split is stratified by: "
                f"`inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`",
                severity="warning",
                limit=f"a column of {_FEWEST_BANDS} or more values separates ranges of the target without an error",
            )
            return


def _classes_told(values: torch.Tensor, wanted: torch.Tensor) -> Iterator[Told]:
    """A column of a table that tells two classes apart without an error, by a limit, beside columns that do not."""
    told = _told_apart(values, wanted) if len(wanted.unique()) == 2 else None
    if told is not None:
        place, right = told
        yield Told(
            f"number {place} of the {values.shape[1]} numbers of a row separates the two classes by a threshold, "
            f"without an error in {several(len(values), 'row')}; all others together (a linear model) are right in "
            f"{right:.0%}",
            "check when that column is known: remove values that only exist once the class is known, such as the "
            f"last invoice of those who left: `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], "
            "1)`",
            severity="warning",
            limit="one column separates two classes by a threshold without an error, and all others are wrong in "
            f"{_OTHERS:.0%} or more",
        )


def _counts_told(values: torch.Tensor, counts: torch.Tensor) -> Iterator[Told]:
    """A column of a table that tells counts of zero from all others without an error, and has the others in order, as
    the sum that was paid for claims has. A column of closed days tells zeros alone, and is let pass."""
    whole = float(counts.min()) == 0 and len(counts.unique()) > 2 and bool((counts == counts.round()).all())
    told = _told_apart(values, (counts > 0).double()) if whole else None
    if told is None:
        return
    place, right = told
    rows = (counts > 0).nonzero().flatten()[:_LOOKED_AT]
    order = float(_in_order(values[rows][:, [place]], counts[rows]))
    if order < _WITH_COUNTS:
        return
    yield Told(
        f"number {place} of the {values.shape[1]} numbers of a row separates targets of zero from all others by a "
        f"threshold, without an error in {several(len(values), 'row')}; all other numbers together (a linear model) "
        f"are right in {right:.0%}; and it puts {order:.0%} of the pairs of the other targets in order",
        "check when that column is known: remove values that come with each counted event, such as the cost of "
        f"claims: `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`",
        severity="warning",
        limit=f"one column separates counts of zero from others without an error and puts {_WITH_COUNTS:.0%} of the "
        f"pairs of those in order, and all others are wrong in {_OTHERS:.0%} or more",
    )


def _told_apart(values: torch.Tensor, wanted: torch.Tensor) -> tuple[int, float] | None:
    """The only column of a table that tells two values of targets apart by a limit, without an error, and the share
    that a linear model of all others has right, where that is wrong in some; None elsewhere."""
    columns, kinds = values.shape[1], wanted.unique()
    if len(kinds) != 2 or columns < _COLUMNS or len(values) < _ROWS * columns:
        return None
    first = wanted == kinds[0]
    if min(int(first.sum()), int((~first).sum())) < _FEWEST_OF_CLASS:
        return None
    low, high = (values[rows].aminmax(dim=0) for rows in (first, ~first))
    apart = (low.max < high.min) | (high.max < low.min)
    if int(apart.sum()) != 1:
        return None
    place = int(apart.int().argmax())
    others = torch.cat([values[:, :place], values[:, place + 1 :]], 1)
    others = others / others.square().mean(0).sqrt().clamp(min=1e-300)
    fitted = others @ torch.linalg.lstsq(others, wanted[:, None], driver="gelsd").solution[:, 0]
    limit = float(kinds.mean())
    right = float(((fitted > limit) == (wanted > limit)).double().mean())
    return (place, right) if right < 1 - _OTHERS else None


def _told_by_two(values: torch.Tensor, wanted: torch.Tensor) -> Iterator[Told]:
    """A column that was made of the target and another one, as a price by the area: their product, or quotient, is the
    target to all digits, beside further columns that have something to do with it."""
    columns = values.shape[1]
    if not _COLUMNS <= columns <= _MOST_COLUMNS or len(values) < _ROWS * columns or len(wanted.unique()) < _ROWS:
        return
    if not bool(values.isfinite().all()) or not bool(wanted.isfinite().all()):
        return  # told as it is
    rows = values[:_LOOKED_AT] / values.square().mean(0).sqrt().clamp(min=1e-300)
    target = wanted[:_LOOKED_AT] / wanted.square().mean().sqrt().clamp(min=1e-300)
    pairs = torch.combinations(torch.arange(columns))
    a, b = rows[:, pairs[:, 0]].T, rows[:, pairs[:, 1]].T
    t = target.expand_as(a)
    apart = torch.linalg.svdvals(torch.stack([torch.ones_like(a), a, b, a * b], 2))
    together = torch.linalg.svdvals(torch.stack([torch.ones_like(a), a, b, a * b, t, t * a, t * b], 2))
    exact = (together[:, -1] < _EXACT * together[:, 0]) & (apart[:, -1] > _APART * apart[:, 0])
    for one, other in pairs[exact].tolist():
        for made, beside in ((other, one), (one, other)):  # what was made stands behind, mostly
            rest = [number for number in range(columns) if number != made]
            if _left(rows[:, rest], target) > _left(rows[:, [beside]], target) - _OTHERS:
                continue  # nothing else has to do with it: a product that is to be learned
            yield Told(
                f"numbers {one} and {other} of the {columns} numbers of a row, multiplied or divided, give the "
                "target to all digits, although other columns are related to it, too",
                "remove the column that is made from the target, such as a price per area: `inputs = "
                f"torch.cat([inputs[:, :{made}], inputs[:, {made + 1}:]], 1)`",
                limit="two columns, multiplied or divided, give the target to all digits, although other columns "
                "are related to it, too",
            )
            return


def _logarithm_told(evidence: Evidence, values: torch.Tensor, targets: torch.Tensor) -> Iterator[Told]:
    """A column that is the logarithm of the target, scaled, of a count with a half or 1 added; or of the target as a
    rate, by an offset or an exposure that the network is given beside the table."""
    columns = values.shape[1]
    wide = _COLUMNS <= columns <= _MOST_COLUMNS and len(values) >= _ROWS * columns
    if not wide or len(targets.unique()) < _ROWS or not columns_given(evidence):
        return
    values = values / values.square().mean(0).sqrt().clamp(min=1e-300)
    for added in _ADDED:
        if not float(targets.min()) + added > 0:
            continue
        wanted = (targets + added).log()
        wanted = wanted - wanted.mean()
        for offset in (None, *_offsets(evidence, len(values))):
            table, rest = (part if offset is None else _without(part, offset) for part in (values, wanted[:, None]))
            left = left_by_each(table, rest[:, 0])
            place = int(left.argmin())
            others = torch.cat([table[:, :place], table[:, place + 1 :]], 1)
            told = float(left[place]) <= LINEAR and float(rest.square().mean()) > _OTHERS * float(wanted.var())
            if not told or _left(others, rest[:, 0]) > 1 - _OTHERS:
                continue  # nothing else has to do with it: a function that is to be learned
            beside = "" if offset is None else " apart from the other inputs of the network,"
            yield Told(
                f"number {place} of the {columns} numbers of a row is the scaled logarithm of the "
                f"target{f' + {added:g}' if added else ''},{beside} to all digits",
                f"remove it: `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`; for a time "
                "series, the target comes after the end of the inputs: `series[i : i + n]` and `series[i + n]`",
                limit=f"one column, with an offset or an exposure outside the table, leaves at most {LINEAR:g} of "
                "the variance of the target's logarithm, although others are related to it, too",
            )
            return


def _offsets(evidence: Evidence, count: int) -> Iterator[torch.Tensor]:
    """Inputs of one number a sample beside the table, as they are and as logarithms, less their means."""
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


def _without(columns: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """What a number a sample (N,) leaves of columns (N, D), fitted to each of them."""
    return columns - offset[:, None] * (offset @ columns / offset.square().sum())


def left_by_each(columns: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """What each column (N, D) alone leaves of a target's variance (N,), both less their means."""
    spread = columns.square().sum(0) * target.square().sum()
    left = 1 - (columns * target[:, None]).sum(0).square() / spread.clamp(min=1e-300)
    return left.where(spread > 0, 1.0)


def _left(columns: torch.Tensor, target: torch.Tensor) -> float:
    """What a linear model leaves of the target's variance."""
    fitted = columns @ torch.linalg.lstsq(columns, target[:, None], driver="gelsd").solution
    return float((target - fitted[:, 0]).square().mean() / target.square().mean())


def columns_given(evidence: Evidence) -> bool:
    """Whether the network is given the columns of the batch's table, as they are or scaled."""
    given, (x, _) = main_tensor(list(evidence.first.arguments)), parts(evidence.train.raw[0])
    table = main_tensor(x)
    return given is not None and table is not None and given.ndim == 2 and given.shape == table.shape


def _are_fields(values: torch.Tensor) -> bool:
    """Whether each column of whole numbers has a range of its own, as categories of a table: not tokens, of which all
    are from one vocabulary, were the first one a prefix, and the last ones mostly padding."""
    if values.shape[1] < _COLUMNS:
        return False
    largest = values.amax(0).sort().values
    return float(largest[-2]) >= _RANGES * float(largest[1]) > 0


def _windows(evidence: Evidence, values: torch.Tensor, targets: torch.Tensor) -> Iterator[Told]:
    """Several numbers a sample that stand one after the other in what the network is given, and are less than that."""
    given = main_tensor(list(evidence.first.arguments))
    length, width = values.shape[1], targets.shape[1]
    if given is None or not targets.is_floating_point() or not 2 <= width < length or len(targets.unique()) < 20:
        raise NoEvidence("there is not one target for each sample")
    if given[0].numel() != length:
        raise NoEvidence("the network only gets a part of the inputs")
    wanted, beside = targets.double(), given.shape[-1] if given.ndim == 3 else 1  # columns at each time
    for every in dict.fromkeys((1, beside)):
        for place in range(length - (width - 1) * every):
            last = place + (width - 1) * every
            if torch.equal(values[:, place : last + 1 : every], wanted):
                which = f"column {place % every} at times {place // every} to {last // every}"
                which = which if every > 1 else f"numbers {place} to {last} of its {length} input numbers"
                yield Told(
                    f"the {width} targets of each sample are {which}",
                    "targets that come after the window: `series[i : i + n]` and `series[i + n : i + n + horizon]`",
                    limit="all targets of a sample are numbers of its input",
                )
                return
