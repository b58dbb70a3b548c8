"""Remarks on the parts of a network and what they cost, and all remarks of a ledger; free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

from striate.account.ledger import Ledger, Row
from striate.account.remarks.windows import view_remarks, window_remarks
from striate.records import Finding
from striate.wording import listed, percent, percent_of, several, show_shape, size_in_bytes

_NAMED = 3  # layers named by a remark; of more, it names the modules that contain them
_BATCH_NORMS = ("bn", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")


def part_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Remarks on softmax at the end, modules that never ran, biases that a normalization cancels, frozen parameters,
    uncounted operations, a pass with real numbers."""
    executed = [row for row in ledger.rows if row.executed]
    yield from _final_softmax(executed)
    yield from _never_executed([row for row in ledger.rows if not row.executed])
    yield from _superfluous_biases(executed)
    yield from _frozen(ledger)
    yield from _uncounted(ledger)
    yield from _real_pass(ledger)


def _final_softmax(rows: list[Row]) -> Iterator[Finding]:
    if rows and rows[-1].kind.lower() == "softmax":
        yield Finding(
            "account.final-softmax",
            "warning",
            rows[-1].name,
            "the network ends with softmax",
            "outputs without softmax (logits)",
            "Cross-entropy applies softmax itself; twice, the gradient nearly vanishes for confident predictions.",
            "Remove it; striate computes the probabilities of predictions without it.",
        )


def _never_executed(rows: list[Row]) -> Iterator[Finding]:
    if not rows:
        return
    params = sum(row.params for row in rows)
    names = list(dict.fromkeys(row.name for row in rows))
    if len(names) > _NAMED:
        names = list(dict.fromkeys(name.split(".")[0] for name in names))
    # Auxiliary heads run in training only, and the ledger counts in eval mode.
    auxiliary = all("aux" in name.lower() for name in names)
    yield Finding(
        "account.never-executed",
        "warning" if any(row.trainable for row in rows) and not auxiliary else "note",
        listed(names),
        f"{several(len(rows), 'module')} never ran, with {several(params, 'parameter')}",
        "every module runs",
        "Layers are counted in eval mode; auxiliary heads run only in training."
        if auxiliary
        else "A module that never runs costs memory, gets no gradient and keeps its initialization.",
        "Remove them if the network is only used for prediction."
        if auxiliary
        else "Call them in forward, or remove them; modules that run only in training are fine.",
    )


def _superfluous_biases(rows: list[Row]) -> Iterator[Finding]:
    found = [
        row
        for row, following in pairwise(rows)
        if row.settings.get("bias")
        and following.kind in _BATCH_NORMS
        and following.in_shape == row.out_shape
        # The input of a normalization in another module may be a sum or concatenation, which has no row.
        and _parent(following.name) == _parent(row.name)
    ]
    if found:
        count = sum(row.out_shape[0] for row in found)
        yield Finding(
            "account.bias-before-norm",
            "note",
            listed([row.name for row in found]),
            f"{several(count, 'bias', 'biases')} right before a batch normalization",
            "no bias before batch normalization",
            "The normalization subtracts the mean, and any constant with it: these parameters have no effect.",
            "Set bias=False in these layers.",
        )


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _frozen(ledger: Ledger) -> Iterator[Finding]:
    frozen = [row for row in ledger.rows if row.trainable < row.params]
    if frozen:
        count = ledger.params - ledger.trainable
        yield Finding(
            "account.frozen",
            "note",
            listed([row.name for row in frozen]),
            f"{count:,} of {several(ledger.params, 'parameter')} are frozen",
            "all trainable",
            "Training does not change them; they cost memory and time, but no gradient and no optimizer state.",
            "`parameter.requires_grad_(True)` makes a parameter trainable.",
        )


def _uncounted(ledger: Ledger) -> Iterator[Finding]:
    if ledger.uncounted:
        yield Finding(
            "account.uncounted",
            "warning",
            "the totals",
            f"not counted: {listed(ledger.uncounted, 5)}",
            "everything counted",
            "striate has no formula for these operations, so the true cost is above the totals.",
            "Add their cost by hand.",
        )


def _real_pass(ledger: Ledger) -> Iterator[Finding]:
    if ledger.real_pass:
        yield Finding(
            "account.real-pass",
            "note",
            "the counts",
            f"counted in a real forward pass on zeros, since the network reads values ({ledger.real_pass})",
            "operations that depend on shapes alone",
            "The counts are complete for zeros, but another input may take another branch.",
            "If its branches differ in cost, count each by hand.",
        )


MOST = 0.9
"""Share of parameters or computation that "where most of it is" means."""
LOW_INTENSITY = 2.0
"""FLOPs per byte. Processors compute ten or more in the time in which they read a byte from memory."""
CACHE = 8 * 2**20
"""Bytes. Smaller weights stay in a processor's cache from sample to sample."""
_LAYERS, _MODULES = 5, 4


def cost_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Remarks on where 90 % of the parameters and of the computation are, and on layers that wait for memory."""
    for code, what, cost in (("parameters", "parameters", _params), ("computation", "multiply–accumulates", _macs)):
        costly = [row for row in ledger.rows if row.executed and cost(row)]
        if where := _where_most_are(costly, cost):
            yield Finding(
                f"account.most-{code}",
                "note",
                what,
                where,
                f"the fewest parts with {percent(MOST, 0)}",
                *(_fewer_parameters(ledger, costly) if code == "parameters" else _fewer_macs(costly)),
            )
    yield from _waiting_for_memory(ledger)


def _params(row: Row) -> int:
    return row.params


def _macs(row: Row) -> int:
    return row.macs


def _where_most_are(costly: list[Row], cost: Callable[[Row], int]) -> str:
    """The names of the layers; of the modules that contain them if they are too many; or how evenly the cost is
    distributed. Empty where it takes all of a few layers."""
    total = sum(map(cost, costly))
    if len(costly) < 2:
        return ""
    largest = max(costly, key=cost)
    layers = _fewest({row.name: cost(row) for row in costly}, total)
    if len(layers) <= _LAYERS:
        return _shares(layers, total) if len(layers) < len(costly) else ""
    for depth in range(max(row.name.count(".") for row in costly), 0, -1):
        modules: dict[str, int] = {}
        for row in costly:
            name = ".".join(row.name.split(".")[:depth])
            modules[name] = modules.get(name, 0) + cost(row)
        chosen = _fewest(modules, total)
        if len(chosen) <= _MODULES and len(chosen) < len(modules):
            return f"{_shares(chosen, total)}; no layer has more than {_share(cost(largest), total)} ({largest.name})"
    return (
        f"spread over the network: {len(layers)} of {several(len(costly), 'layer')} have {percent(MOST, 0)}, "
        f"and the largest, {largest.name}, {_share(cost(largest), total)}"
    )


def _shares(parts: dict[str, int], total: int) -> str:
    named = listed([f"{name} ({_share(count, total)})" for name, count in parts.items()], _LAYERS)
    return named if len(parts) == 1 else f"{_share(sum(parts.values()), total)} in {named}"


def _share(part: int, total: int) -> str:
    return f"{percent_of(part, total)} %"


def _fewest(costs: dict[str, int], total: int) -> dict[str, int]:
    """The fewest parts that together have MOST of the total, in their order of execution."""
    chosen: set[str] = set()
    for name in sorted(costs, key=lambda name: -costs[name]):
        if sum(costs[c] for c in chosen) >= MOST * total:
            break
        chosen.add(name)
    return {name: count for name, count in costs.items() if name in chosen}


def _fewer_parameters(ledger: Ledger, costly: list[Row]) -> tuple[str, str]:
    """The reason and the remedy of the remark on parameters."""
    largest = max(costly, key=_params)
    maps = [row.out_shape for row in ledger.rows[: ledger.rows.index(largest)] if math.prod(row.out_shape[1:]) > 1]
    flattened = maps[-1] if maps and largest.kind == "fc" and largest.in_shape == (math.prod(maps[-1]),) else None
    if flattened is None:
        why, left = "Only changes in these layers make the network much smaller.", _halved(ledger, costly)
        if left is None:
            return why, "Use fewer inputs or outputs in these layers."
        parts = "units in the layers between" if all(row.kind == "fc" for row in costly) else "channels throughout"
        return why, f"Half the {parts} would leave about {_share(left, ledger.params)} of the parameters."
    fewer = flattened[0] * largest.out_shape[0] + bool(largest.settings.get("bias")) * largest.out_shape[0]
    return (
        f"{largest.name} has a weight for each of the {show_shape(flattened)} inputs and each output.",
        f"Global average pooling (gap) before it would leave {fewer:,} of its {largest.params:,}.",
    )


def _halved(ledger: Ledger, costly: list[Row]) -> int | None:
    """Number of parameters with half of all channels except those of input and output; None where it is unknown how the
    parameters of a layer depend on its channels."""
    products = [row for row in costly if "channels" in row.settings]
    vectors = [row for row in costly if row.params <= 2 * max(row.out_shape, default=1) and row not in products]
    if not products or len(products) + len(vectors) < len(costly):
        return None
    total = sum(row.params / 2 for row in vectors)
    for row in products:
        bias = _biases(row)
        # A depthwise layer has one kernel for each channel, so halving its input channels saves nothing more.
        into = 1.0 if row is products[0] or row.settings.get("groups", 1) == row.settings["channels"] else 0.5
        out = 1.0 if row is products[-1] and row.out_shape == ledger.output else 0.5
        total += out * (bias + into * (row.params - bias))
    return round(total)


def _biases(row: Row) -> int:
    if not row.settings.get("bias"):
        return 0
    if row.kind == "local":
        return math.prod(row.out_shape)
    return row.out_shape[-1 if row.kind == "fc" else 0]


def _fewer_macs(costly: list[Row]) -> tuple[str, str]:
    largest = max(costly, key=_macs)
    axes = len(largest.out_shape) - 1
    if not axes:
        return "Only changes in these layers make the network much faster.", "Use fewer inputs or outputs in them."
    if len(largest.settings.get("kernel", ())) != axes or axes > 3:
        return "These products are computed at each position.", "Use fewer positions, inputs or outputs."
    left = ("half", "a quarter", "an eighth")[axes - 1]
    side = "side" if axes > 1 else "length"
    return (
        "A kernel is applied at each position of the output.",
        f"Put a stride or pooling layer earlier: half the {side} leaves {left} of the operations.",
    )


def _waiting_for_memory(ledger: Ledger) -> Iterator[Finding]:
    """A remark on layers with matrix products that move many bytes for few operations."""
    rows = [row for row in ledger.rows if row.executed and row.macs and row.intensity < LOW_INTENSITY]
    share, total = (
        sum(row.weight_bytes + row.input_bytes + row.output_bytes for row in moving)
        for moving in (rows, [row for row in ledger.rows if row.executed])
    )
    if share < total / 2 or sum(row.weight_bytes for row in rows) < CACHE:
        return
    lowest = min(row.intensity for row in rows)
    yield Finding(
        "account.low-intensity",
        "note",
        listed([row.name for row in rows]),
        f"{several(len(rows), 'layer')} with {percent_of(share, total)} % of all bytes that one sample moves "
        f"({size_in_bytes(share)}), with {lowest:.2g} FLOPs for each byte",
        f"{LOW_INTENSITY:g} FLOPs a byte",
        "With one sample at a time, reading the weights takes longer than computing with them.",
        "Use larger batches: the weights are read once for each batch.",
    )


def teacher_remarks(ledger: Ledger) -> tuple[Finding, ...]:
    """The remarks on the network of `ledger`; warnings first.

    A remark is a Finding with a code `account.*`: a `warning` on a probable mistake, or a `note` on something useful to
    know. A remark that concerns several layers occurs once, with their names.
    """
    found = [*window_remarks(ledger), *part_remarks(ledger), *view_remarks(ledger), *cost_remarks(ledger)]
    return tuple(sorted(found, key=lambda remark: remark.severity != "warning"))
