"""Quantile forecasts whose loss has its sides exchanged: each output learns the quantile 1 - q instead of q."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import numpy as np
import torch

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quantiles import trained_quantiles
from striate.doctor.setup.reached_objects import reached_values

_NEAR = 0.01


def reversed_quantiles(evidence: Evidence) -> Wrong | None:
    """A loss whose gradient asks for 1 minus the quantiles that the script lists."""
    if evidence.setup.source is None or evidence.calls.losses:
        return None
    found = trained_quantiles(evidence)
    learned = None if found is None else found.levels
    if learned is None:
        return None
    listed = [values for values in _listed(evidence) if len(values) == len(learned)]
    if any(_near(values, learned) for values in listed):
        return None
    intended = next((values for values in listed if _near(values, 1 - learned)), None)
    if intended is None:
        return None
    return Wrong(
        "error",
        f"the script lists the quantiles {_text(intended)}, but the gradient of the loss asks for {_text(learned)}",
        "Lower and upper bounds are exchanged, and the interval between them contains almost no targets.",
        "define the error as target minus forecast: `error = target.unsqueeze(-1) - forecast; "
        "loss = torch.maximum(quantiles * error, (quantiles - 1) * error).mean()`",
        limit="a gradient that asks for 1 minus the quantiles that the script lists",
    )


def _listed(evidence: Evidence) -> Iterator[torch.Tensor]:
    """Lists of floats in the script: its tensors, arrays and lists, and literals in its code."""
    for value in reached_values(evidence.source.names):
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() < 100:
            yield value.detach().cpu().double().flatten()
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size < 100:
            yield torch.from_numpy(value).double().flatten()
        elif isinstance(value, list | tuple) and value and all(isinstance(one, float) for one in value):
            yield torch.tensor(value).double()
    for node in evidence.source.nodes():
        parts = node.elts if isinstance(node, ast.List | ast.Tuple) else []
        numbers = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, float)]
        if numbers and len(numbers) == len(parts):
            yield torch.tensor(numbers).double()


def _near(values: torch.Tensor, others: torch.Tensor) -> bool:
    return float((values - others).abs().max()) < _NEAR


def _text(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())
