"""Predictions that depend on the first step, or on the last one, of a sequence alone, though layers go along it all."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from striate.doctor.checks.model.variants import asked, deviations_apart
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import altered, leaf

NOTHING, SOMETHING = 1e-6, 1e-3
"""Of the predictions' standard deviation: rounding moves them by less than the one, a step by more than the other."""
_FEWEST = 3


def one_step_seen(evidence: Evidence) -> tuple[str, int] | None:
    """Which step alone, first or last, moves the predictions of the trial's network when samples are given that of
    others, and how many steps there are; None where it is not so."""
    path, batch, replica = evidence.samples.x_path, evidence.train.raw[0], evidence.trial.replica
    x = None if path is None else leaf(batch, path)
    if path is None or x is None or x.ndim != (3 if x.is_floating_point() else 2):
        return None
    lengths = _lengths(evidence) if len(x) > 1 else set()
    axes = [axis for axis in range(1, x.ndim) if x.shape[axis] in lengths and x.shape[axis] >= _FEWEST]
    plain = asked(evidence, batch, replica=replica) if axes else torch.zeros(0)

    def moved(steps: torch.Tensor) -> float:
        others = altered(batch, path, lambda given: torch.where(steps.to(given.device), given.roll(1, 0), given))
        return deviations_apart(plain, asked(evidence, others, replica=replica))

    for axis in axes:
        for name, place in (("first", 0), ("last", x.shape[axis] - 1)):
            alone = (torch.arange(x.shape[axis]) == place).reshape(-1, *(1,) * (x.ndim - 1 - axis))
            if moved(~alone) < NOTHING and moved(alone) > SOMETHING:
                return name, x.shape[axis]
    return None


def _lengths(evidence: Evidence) -> set[int]:
    """Of how many steps the sequences are that layers go along: recurrence, attention and convolutions."""
    graph, cells, found = evidence.graph, Counter[str](), set[int]()
    for call in graph.modules:
        shape = () if call.output is None else graph.calls[call.output].shape
        cells[call.name] += isinstance(call.module, nn.RNNCellBase)
        if isinstance(call.module, nn.RNNBase | nn.MultiheadAttention) and len(shape) == 3:
            found.add(shape[1 if call.module.batch_first else 0])
        elif isinstance(call.module, nn.Conv1d):
            found.add(shape[-1])
    return found | set(cells.values())
