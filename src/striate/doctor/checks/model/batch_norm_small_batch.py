"""`model.batch-norm-small-batch`: does batch norm get enough samples to measure anything?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding, Remedy
from striate.wording import listed, several

CODE = "model.batch-norm-small-batch"
FEW, FEW_ALONE = 2, 4
"""Samples: up to the one everywhere, up to the other where each has one number a channel, and no map."""
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_ONE = "Expected more than 1 value per channel when training"


def run(evidence: Evidence) -> Iterator[Finding]:
    trial, flow = evidence.trial, evidence.flow
    model = evidence.patient.model
    norms = [
        (call.name, call.training, flow.calls[call.output].shape)
        for call in flow.modules
        if isinstance(call.module, _BATCH_NORM) and call.output is not None and not call.name.startswith("*")
    ]
    functions = [call for call in flow.calls if call.name == "batch_norm" and call.option(5, "training", False)]
    for error in (trial.error, flow.error):
        if error is not None and _ONE in str(error):
            yield _raises(evidence, len(trial.rows))
            return
    alone = [name for name, training, shape in norms if training and math.prod(shape[2:]) == 1]
    if alone and 1 in evidence.train.sizes:
        yield _raises(evidence, evidence.train.sizes.index(1))
        return
    active = [(name, shape) for name, training, shape in norms if training]
    active += [
        (call.place, call.shape) for call in functions if not isinstance(_module(model, call.module), _BATCH_NORM)
    ]
    few = [(name, shape) for name, shape in active if shape[0] <= (FEW if math.prod(shape[2:]) > 1 else FEW_ALONE)]
    sizes = sorted(evidence.train.sizes)
    if few and sizes[len(sizes) // 2] <= FEW_ALONE:
        yield _few([name for name, _ in few], few[0][1])


def _module(model: nn.Module, name: str) -> nn.Module | None:
    return dict(model.named_modules()).get(name)


def _raises(evidence: Evidence, step: int) -> Finding:
    sizes = evidence.train.sizes
    last = max(sizes) > 1
    return Finding(
        code=CODE,
        severity="error",
        where="the last batch" if last else "the batches",
        measured=f"a batch of one sample (the {step + 1}th), and one number a channel: batch norm raises",
        threshold="2 samples, where there is no map",
        why="A single number has no variance: it would be normalized to 0.",
        remedy="`DataLoader(…, drop_last=True)`."
        if last
        else "`DataLoader(…, batch_size=32)`, or nn.GroupNorm or nn.LayerNorm.",
    )


def _few(names: list[str], shape: tuple[int, ...]) -> Finding:
    places = math.prod(shape[2:])
    return Finding(
        code=CODE,
        severity="warning",
        where=listed(names),
        measured=f"{listed(names)} measure mean and variance over {several(shape[0], 'sample')}"
        f"{f' of {places} places' if places > 1 else ''}",
        threshold=f"more than {FEW} samples, {FEW_ALONE} where there is no map: below, the figures of a batch say "
        "more about its one or two samples than about the data",
        why="What a sample gives then depends on which one it happens to meet, and running figures do not fit: "
        "answers in evaluation mode are worse than in training.",
        remedy=Remedy(
            "`DataLoader(…, batch_size=32)`; where memory allows no more, `nn.GroupNorm(8, channels)` for the "
            "batch norm.",
            settings={"batch": 32},
        ),
    )


CHECK = Check(
    codes=(CODE,),
    question="Does batch norm get enough samples to measure anything?",
    threshold=f"{FEW} samples in a batch, {FEW_ALONE} where each has one number a channel; one of them raises",
    run=run,
    explains="model.collapsed model.mode model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*",
)
