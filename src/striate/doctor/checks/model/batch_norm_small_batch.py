"""`model.batch-norm-small-batch`: does batch norm get enough samples to measure anything?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.batch_mixing import BATCH_NORM
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding, Remedy
from striate.wording import listed_names, ordinal, several

_CODE = "model.batch-norm-small-batch"
_FEW, _FEW_ALONE = 2, 4
"""Most samples that count as too few: for feature maps, and for layers with one value per channel."""
_ONE = "Expected more than 1 value per channel when training"


def _find_batch_norm_small_batch(evidence: Evidence) -> Iterator[Finding]:
    trial, graph = evidence.trial, evidence.graph
    model = evidence.setup.model
    norms = [
        (call.name, call.training, graph.calls[call.output].shape)
        for call in graph.modules
        if isinstance(call.module, BATCH_NORM) and call.output is not None and not call.name.startswith("*")
    ]
    functions = [call for call in graph.calls if call.name == "batch_norm" and call.option(5, "training", False)]
    for error in (trial.error, graph.error):
        if error is not None and _ONE in str(error):
            yield _raises(evidence, len(trial.rows))
            return
    alone = [name for name, training, shape in norms if training and math.prod(shape[2:]) == 1]
    if alone and 1 in evidence.train.sizes:
        yield _raises(evidence, evidence.train.sizes.index(1))
        return
    active = [(name, shape) for name, training, shape in norms if training]
    active += [
        (call.place, call.shape) for call in functions if not isinstance(_module(model, call.module), BATCH_NORM)
    ]
    few = [(name, shape) for name, shape in active if shape[0] <= (_FEW if math.prod(shape[2:]) > 1 else _FEW_ALONE)]
    sizes = sorted(evidence.train.sizes)
    if few and sizes[len(sizes) // 2] <= _FEW_ALONE:
        yield _few([name for name, _ in few], few[0][1])


def _module(model: nn.Module, name: str) -> nn.Module | None:
    return dict(model.named_modules()).get(name)


def _raises(evidence: Evidence, step: int) -> Finding:
    sizes = evidence.train.sizes
    last = max(sizes) > 1
    return Finding(
        code=_CODE,
        severity="error",
        where="the last batch" if last else "the batches",
        measured=f"batch norm raises an exception: the {ordinal(step + 1)} batch has one sample, with one value per "
        "channel",
        threshold="at least 2 samples if each has one value per channel",
        why="A single value has no variance: it would be normalized to 0.",
        remedy="`DataLoader(…, drop_last=True)`."
        if last
        else "`DataLoader(…, batch_size=32)`, or nn.GroupNorm or nn.LayerNorm.",
    )


def _few(names: list[str], shape: tuple[int, ...]) -> Finding:
    places = math.prod(shape[2:])
    return Finding(
        code=_CODE,
        severity="warning",
        where=listed_names(names),
        measured=f"the mean and variance of {listed_names(names)} are those of only {several(shape[0], 'sample')}"
        f"{f' with {places} positions each' if places > 1 else ''}",
        threshold=f"more than {_FEW} samples, or {_FEW_ALONE} if each has one value per channel: statistics of fewer "
        "say more about these samples than about the data",
        why="The outputs for a sample then depend on the others in its batch, and running statistics do not fit: "
        "predictions in evaluation mode are worse than in training.",
        remedy=Remedy(
            "`DataLoader(…, batch_size=32)`; if memory allows no more, replace the batch norm by "
            "`nn.GroupNorm(8, channels)`.",
            settings={"batch": 32},
        ),
    )


BATCH_NORM_SMALL_BATCH = Check(
    codes=(_CODE,),
    run=_find_batch_norm_small_batch,
    explains="model.collapsed model.mode model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*",
)
