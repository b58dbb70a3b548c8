"""Predictions that depend only on the first or only on the last step of a sequence, though layers go along all
steps."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from striate.doctor.checks.model.variants import eval_outputs, largest_difference
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import altered, leaf

NOTHING, SOMETHING = 1e-6, 1e-3
"""In standard deviations of the predictions: rounding changes them by less than the first, a step by more than the
second."""
_FEWEST = 3


def one_step_seen(evidence: Evidence) -> tuple[str, int] | None:
    """ "first" or "last", if only that step changes the predictions of the trial's network when it is exchanged between
    samples, and the number of steps; None where other steps change them, too."""
    path, batch, replica = evidence.samples.x_path, evidence.train.raw[0], evidence.trial.replica
    x = None if path is None else leaf(batch, path)
    if path is None or x is None or x.ndim != (3 if x.is_floating_point() else 2):
        return None
    lengths = _lengths(evidence) if len(x) > 1 else set()
    axes = [axis for axis in range(1, x.ndim) if x.shape[axis] in lengths and x.shape[axis] >= _FEWEST]
    unchanged = eval_outputs(evidence, batch, replica=replica) if axes else torch.zeros(0)

    def moved(steps: torch.Tensor) -> float:
        others = altered(batch, path, lambda own: torch.where(steps.to(own.device), own.roll(1, 0), own))
        return largest_difference(unchanged, eval_outputs(evidence, others, replica=replica))

    for axis in axes:
        for name, place in (("first", 0), ("last", x.shape[axis] - 1)):
            alone = (torch.arange(x.shape[axis]) == place).reshape(-1, *(1,) * (x.ndim - 1 - axis))
            if moved(~alone) < NOTHING and moved(alone) > SOMETHING:
                return name, x.shape[axis]
    return None


def _lengths(evidence: Evidence) -> set[int]:
    """The lengths of the sequences along which recurrent layers, attention and convolutions go."""
    graph, cells, lengths = evidence.graph, Counter[str](), set[int]()
    for call in graph.modules:
        shape = () if call.output is None else graph.calls[call.output].shape
        cells[call.name] += isinstance(call.module, nn.RNNCellBase)
        if isinstance(call.module, nn.RNNBase | nn.MultiheadAttention) and len(shape) == 3:
            lengths.add(shape[1 if call.module.batch_first else 0])
        elif isinstance(call.module, nn.Conv1d):
            lengths.add(shape[-1])
    return lengths | set(cells.values())
