"""Forecasts of quantiles whose loss has its sides exchanged: each output learns the quantile of the other end."""

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


def turned_quantiles(evidence: Evidence) -> Wrong | None:
    """Where the script lists what the loss asks for with 1 minus each, and nowhere what it asks for."""
    if evidence.setup.source is None or evidence.calls.losses:
        return None
    found = trained_quantiles(evidence)
    asked = None if found is None else found.levels
    if asked is None:
        return None
    listed = [values for values in _listed(evidence) if len(values) == len(asked)]
    if any(_near(values, asked) for values in listed):
        return None
    wanted = next((values for values in listed if _near(values, 1 - asked)), None)
    if wanted is None:
        return None
    return Wrong(
        "error",
        f"the script lists the quantiles {_text(wanted)}, but the gradient of the loss asks for {_text(asked)}",
        "Lower and upper bounds are exchanged, and the interval between them contains almost no targets.",
        "define the error as target minus forecast: `error = target.unsqueeze(-1) - forecast; "
        "loss = torch.maximum(quantiles * error, (quantiles - 1) * error).mean()`",
        limit="a gradient that asks for 1 minus the quantiles that the script lists",
    )


def _listed(evidence: Evidence) -> Iterator[torch.Tensor]:
    """Numbers between 0 and 1 that the script's values hold, or that are written side by side in it."""
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


def _near(values: torch.Tensor, asked: torch.Tensor) -> bool:
    return float((values - asked).abs().max()) < _NEAR


def _text(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())
