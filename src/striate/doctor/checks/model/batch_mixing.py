"""`model.batch-mixing`: does the prediction for a sample depend on the others in its batch?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.carried_state import carried_state
from striate.doctor.checks.model.heads import SCORES, call_text, last_heads
from striate.doctor.checks.model.variants import (
    change_in_other_rows,
    eval_outputs,
    in_deviations,
    inputs_and_outputs,
    largest_difference,
    with_rows,
)
from striate.doctor.evidence.call_graph import QUOTIENTS, TIMES, Call
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import are_blends, output_of
from striate.doctor.evidence.token_targets import goes_along_first_axis
from striate.doctor.setup.batch import are_records, copied, main_tensor, parts, size_of
from striate.doctor.setup.preserved_state import same_draws, same_values
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.module_calls import ModuleCall, module_calls
from striate.records import Finding, Severity
from striate.wording import several

BATCH_NORM = nn.modules.batchnorm._BatchNorm

_CODE = "model.batch-mixing"
_MOST = 8
_PRODUCTS = ("matmul", "__matmul__", "__rmatmul__", "mm", "linear")
_SEQUENCE = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def _find_batch_mixing(evidence: Evidence, *, directly: bool = False) -> Iterator[Finding]:
    batch = next((batch for batch in evidence.train.raw if size_of(batch) >= 3), None)
    if batch is None:
        raise NoEvidence("no batch has three samples")
    if are_records(batch):
        raise NoEvidence("axis 0 of a record's tensors is not the sample axis")
    if goes_along_first_axis(evidence):
        raise NoEvidence("axis 0 of a batch is the position axis")
    if (certain := _normalized_along_samples(evidence) or _carried(evidence)) is not None:
        yield certain
        return
    labels = main_tensor(parts(evidence.train.raw[0])[1])
    if labels is not None and labels.ndim == 2 and not labels.is_floating_point() and len(labels) < labels.numel():
        found = next(_across(evidence, labels.numel(), "position", int(labels.max())), None)
        if found is not None:
            yield found
            return
    size, cut = min(size_of(batch), _MOST), True
    small = with_rows(batch, lambda tensor: tensor[:size])
    try:
        given, one = inputs_and_outputs(evidence, small, directly=directly)
    except NoEvidence:  # perhaps a mask of the positions is applied to the samples
        if not any(_goes_along_axis_0(layer) for layer in evidence.fresh.model.modules()):
            raise
        size, small, cut = size_of(batch), batch, False
        given, one = inputs_and_outputs(evidence, small, directly=directly)
    kept = size // 2
    others, free = with_rows(small, lambda tensor: _replaced(tensor, kept)), True
    try:
        changed, other = inputs_and_outputs(evidence, others, directly=directly)
    except NoEvidence:  # lengths may have to be sorted, as for packed sequences
        free = False
        others = with_rows(small, lambda tensor: _replaced(tensor, kept) if tensor.ndim > 1 else tensor)
        changed, other = inputs_and_outputs(evidence, others, directly=directly)
    if one.shape == other.shape and one.ndim == 3 and one.shape[1] == size != len(one):  # (time, samples, classes)
        one, other = one.transpose(0, 1), other.transpose(0, 1)
    if one.shape != other.shape or not len(one) or len(one) % size:
        raise NoEvidence("the network does not make one prediction per sample")
    rows = [kept] if len(one) == size else _same_rows(given, changed, len(one))
    if len(rows) < len(one) // size:
        raise NoEvidence("the network does not make one prediction per sample, or per image of a sample")
    if len(one) == size and _blended(given, changed, kept):
        x, inputs = main_tensor(given), main_tensor(parts(small)[0])
        if directly or x is None or inputs is None or not are_blends(x.cpu(), inputs.cpu()):
            raise NoEvidence("the step blends samples before the network gets them")
        yield from _find_batch_mixing(evidence, directly=True)
        return
    tolerance = _tolerance(evidence)
    far = _apart(one, other, rows)
    if one.ndim == 3 and one.shape[1] == size:  # as many time steps as samples: either axis may be the first
        far = min(far, _apart(one.transpose(0, 1), other.transpose(0, 1), [kept]))
    if far > tolerance:
        if (across := next(_across(evidence, evidence.train.sizes[0], "sample"), None)) is not None:
            yield across
            return
        place = _first_that_mixes(evidence, small, others, tolerance, rows, len(one), directly)
        layer = dict(evidence.fresh.model.named_modules()).get(place)
        if cut or _goes_along_axis_0(layer):  # rows that cannot be cut may be nodes of a graph, which do interact
            yield _mixes(place, layer, far, tolerance, joined=len(one) > size)
        return
    if not free or not cut or len(one) != size:
        return  # the batch cannot be made smaller
    again = eval_outputs(evidence, small, seed=1, directly=directly)
    if torch.equal(one, again):  # else random numbers would differ between the two batches
        if (placed := _by_place(evidence, small, one, tolerance, directly)) is not None:
            yield placed
            return
        yield from _alone(evidence, small, given, one, tolerance, directly)
    yield from _across(evidence, evidence.train.sizes[0], "sample")
    yield from _along_samples(evidence)


def _carried(evidence: Evidence) -> Finding | None:
    """The finding for a recurrent network that keeps its state from one batch to the next."""
    state = carried_state(evidence)
    if state is None:
        return None
    name, far = state
    return BATCH_MIXING.finding(
        severity="error",
        where=f"`{name}`",
        measured=f"after another batch the predictions for the same batch differ by {far:.2g} of their standard "
        f"deviation: `{name}` keeps the state of the batch before, and the training loader shuffles",
        limit="a recurrent network that keeps its state, whose predictions for a batch change after another one, "
        "and a loader that shuffles",
        why="Each sequence begins with the state of an unrelated one.",
        remedy="begin each batch without a state: `output, state = self.rnn(x)`; keep the state only where the "
        "rows of a batch continue those of the batch before, with `shuffle=False`",
    )


def _by_place(evidence: Evidence, small: Any, one: torch.Tensor, tolerance: float, directly: bool) -> Finding | None:
    """The finding for predictions of attention that change if the samples of a batch are moved to other rows; of other
    networks a generator of their own may draw numbers for each row."""
    attends = any(isinstance(layer, nn.MultiheadAttention) for layer in evidence.fresh.model.modules())
    if not attends or one.ndim != 2:
        return None
    far = change_in_other_rows(evidence, small, one, directly=directly)
    if far <= tolerance:
        return None
    return BATCH_MIXING.finding(
        severity="error",
        where="the network",
        measured=f"if the same samples are in other rows of the batch, their predictions change by {far:.2g} of their "
        "standard deviation",
        limit=f"a change by {tolerance:g} of the standard deviation when samples are moved to other rows",
        why="Something goes along the samples that should go along another axis, such as an encoding of the positions "
        "of a sequence: it says nothing about a sample.",
        remedy="with samples on axis 0, take an encoding along axis 1: with `self.pe` of shape (1, most, width), "
        "`x = x + self.pe[:, : x.shape[1]]`",
    )


def _tolerance(evidence: Evidence) -> float:
    coarse = any(p.dtype in (torch.float16, torch.bfloat16) for p in evidence.fresh.model.parameters())
    return 5e-2 if coarse else 1e-3


def _replaced(tensor: torch.Tensor, kept: int) -> torch.Tensor:
    """A tensor in which a single other row replaces all rows except `kept`; a permutation would leave sums the same."""
    rows = [len(tensor) - 1 if kept < len(tensor) - 1 else 0] * len(tensor)
    rows[kept] = kept
    return tensor[rows]


def _blended(given: list[torch.Tensor], changed: list[torch.Tensor], kept: int) -> bool:
    """Whether the network's input for the kept sample depends on other samples: the step blends them, as mixup does, or
    another network comes first, with batch norm in training mode."""
    pairs = [(a, b) for a, b in zip(given, changed, strict=False) if a.shape == b.shape and a.ndim and len(a) > kept]
    return any(not same_values(a[kept], b[kept]) for a, b in pairs)


def _same_rows(given: list[torch.Tensor], changed: list[torch.Tensor], count: int) -> list[int]:
    """The rows, of `count`, in which the network's inputs are the same: those of the kept sample, where several images
    of each sample are concatenated, as for triplets."""
    pairs = [(a, b) for a, b in zip(given, changed, strict=False) if a.shape == b.shape and a.ndim and len(a) == count]
    return [row for row in range(count) if pairs and all(same_values(a[row], b[row]) for a, b in pairs)]


def _apart(one: torch.Tensor, other: torch.Tensor, rows: list[int]) -> float:
    """The largest difference of the predictions in these rows, in standard deviations over all samples; of outputs that
    compare all pairs of samples, only the columns of these rows count."""
    difference = one[rows] - other[rows]
    return in_deviations(difference[:, rows] if one.shape == (len(one), len(one)) else difference, one)


def _alone(
    evidence: Evidence, batch: Any, given: list[torch.Tensor], one: torch.Tensor, tolerance: float, directly: bool
) -> Iterator[Finding]:
    """Predictions for half of the batch that differ from those in the full batch."""
    half = max(2, len(one) // 2)
    try:
        others, fewer = inputs_and_outputs(evidence, with_rows(batch, lambda tensor: tensor[:half]), directly=directly)
    except NoEvidence:
        return
    if fewer.shape[1:] != one.shape[1:] or len(fewer) != half:
        return
    if any(b.ndim and len(b) == half and not torch.equal(a[:half], b) for a, b in zip(given, others, strict=False)):
        return  # the step's own random generator changes the inputs
    far = largest_difference(one[:half], fewer)
    if far > tolerance:
        yield _finding(
            "error",
            "the network",
            f"the predictions for {half} samples change by {far:.2g} of their standard deviation if "
            f"{len(one) - half} others are in the batch",
            tolerance,
            "Look for a division by the size of the batch, or a sum over axis 0.",
        )


def _across(evidence: Evidence, rows: int, what: str, highest: int = 0) -> Iterator[Finding]:
    """A softmax over the `rows` samples or positions (`what`) instead of the classes, which number more than
    `highest`."""
    if not evidence.setup.classifies:
        return
    graph = evidence.graph
    for head in last_heads(graph, SCORES[1:]):
        axis = head.call.option(1, "dim")
        shape = head.outputs.shape
        if axis in (0, -len(shape)) and len(shape) == 2 and shape[0] == rows != shape[1] > max(1, highest):
            yield _finding(
                "error",
                call_text(head.call),
                f"{head.call.name} is taken over axis 0, the {several(rows, what)}, of a tensor {tuple(shape)}",
                0.0,
                f"Take it over the classes: `{head.call.name}(x, dim=1)`.",
            )
            return


def _normalized_along_samples(evidence: Evidence) -> Finding | None:
    """Embeddings that are normalized along the samples and then compared with each other; not where features are
    compared, as by `z.T @ z`."""
    graph, size = evidence.graph, evidence.train.sizes[0]

    def unscaled(index: int) -> Call | None:
        call = graph.origin(index)
        scaled = call is not None and call.name in TIMES | QUOTIENTS and len(call.input_shapes) == 1 == len(call.inputs)
        return graph.origin(call.inputs[0]) if scaled and call is not None else call

    for call in graph.calls:
        along, wide = call.option(2, "dim", 1), len(call.shape) == 2 and call.shape[0] == size != call.shape[1]
        if call.name != "normalize" or not wide or along not in (0, -2) or call.option(1, "p", 2) != 2:
            continue
        for product in (other for other in graph.calls if other.name in _PRODUCTS and other.shape == (size, size)):
            if product.inputs and all(unscaled(index) is call for index in product.inputs):
                return _finding(
                    "error",
                    "the training step",
                    f"`normalize` is taken over axis 0, the {several(size, 'sample')}, of embeddings {call.shape}, "
                    f"which `{product.name}` compares with each other",
                    0.0,
                    "`torch.nn.functional.normalize(z, dim=1)`",
                )
    return None


def _along_samples(evidence: Evidence) -> Iterator[Finding]:
    """Attention or a recurrent layer that goes along the samples. It may not change predictions where the network uses
    an output that is the same for all samples, such as that of a class token."""
    size = evidence.train.sizes[0]
    for call in evidence.graph.modules:
        layer = call.module
        if not _goes_along_axis_0(layer) or call.output is None:
            continue
        shape = evidence.graph.calls[call.output].shape
        if len(shape) == 3 and shape[0] == size and shape[1] not in (1, size):
            yield _finding(
                "error",
                call.name.lstrip("*"),
                f"{type(layer).__name__} without `batch_first` returns {tuple(shape)} for a batch of {size}: it treats "
                f"the samples as a sequence, and the {shape[1]} positions as samples",
                0.0,
                f"`{type(layer).__name__}(…, batch_first=True)`",
            )
            return


def _goes_along_axis_0(layer: nn.Module | None) -> bool:
    return isinstance(layer, _SEQUENCE) and not getattr(layer, "batch_first", True)


def _mixes(place: str, layer: nn.Module | None, far: float, tolerance: float, *, joined: bool) -> Finding:
    """`joined`: whether the step passes several parts of the batch to the network at once."""
    severity: Severity
    severity, fix = "error", "Keep axis 0 apart: `x.flatten(1)`, `x.mean((2, 3))`, `softmax(x, dim=1)`."
    if isinstance(layer, BATCH_NORM):
        severity = "note" if joined else "warning"  # the examples and queries of an episode belong together
        fix = f"Let {place} keep running statistics, `track_running_stats=True`, and do not put it into training mode."
    elif _goes_along_axis_0(layer):
        fix = f"`{type(layer).__name__}(…, batch_first=True)` for {place}, which now treats the samples as a sequence."
    elif isinstance(layer, _SEQUENCE):
        fix = f"Check the input of {place}: for frames (N * T, …) use `x.view(n, t, -1)`, not `x.view(t, n, -1)`."
    return _finding(
        severity,
        place or "the network",
        f"in evaluation mode, the prediction for a sample changes by {far:.2g} of its standard deviation if the other "
        f"samples of the batch are replaced{f'; {place} is the first layer whose output changes' if place else ''}",
        tolerance,
        fix,
    )


def _first_that_mixes(
    evidence: Evidence, batch: Any, others: Any, tolerance: float, rows: list[int], count: int, directly: bool
) -> str:
    """The first of the innermost layers whose output for the kept sample differs; empty for the network itself."""
    one, other = (_outputs_by_layer(evidence, given, count, directly) for given in (batch, others))
    for (name, first), (again, second) in zip(one, other, strict=False):
        if name != again or first.shape != second.shape or first.ndim < 2:
            continue
        if _apart(first, second, rows) > tolerance:
            return name
    return ""


def _outputs_by_layer(evidence: Evidence, batch: Any, count: int, directly: bool) -> list[tuple[str, torch.Tensor]]:
    replica = evidence.fresh
    found: list[tuple[str, torch.Tensor]] = []

    def note(call: ModuleCall) -> None:
        tensor = main_tensor(call.output)
        if tensor is not None and tensor.ndim and len(tensor) == count and tensor.is_floating_point():
            found.append((call.name, tensor.detach().cpu().double()))

    with (
        preserved(replica.model),
        same_random_state(),
        same_draws(replica.step, replica.model),
        torch.no_grad(),
        module_calls(replica.model, end=note),
    ):
        torch.manual_seed(0)
        output_of(evidence.setup, replica, copied(batch), training=False, directly=directly)
    return found


def _finding(severity: Severity, where: str, measured: str, tolerance: float, fix: str) -> Finding:
    return Finding(
        code=_CODE,
        severity=severity,
        where=where,
        measured=measured,
        threshold=f"{tolerance:g} standard deviations, for rounding" if tolerance else "no operation over axis 0",
        why="A prediction depends on which other samples happen to be in the batch, so metrics measured on batches do "
        "not hold for single samples.",
        remedy=fix,
    )


BATCH_MIXING = Check(
    codes=(_CODE,),
    run=_find_batch_mixing,
    explains="data.labels-random data.label-noise loss.degenerate loss.wrong-for-task model.collapsed "
    "model.redundant-filters model.vanishing-gradient optim.lr-too-low fit.*",
)
