"""A trial with weights drawn anew: what a sound start would give."""

from __future__ import annotations

import torch
from torch import nn

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress
from striate.doctor.evidence.trial import Change
from striate.doctor.patient.copies import Double

WAYS = {"he": "nn.init.kaiming_normal_", "glorot": "nn.init.xavier_normal_"}
_DRAWN = (nn.modules.conv._ConvNd, nn.Linear)


def with_fresh_weights(evidence: Evidence, way: str) -> Progress | None:
    """How far the user's own setup comes when weights of hidden convolutional and full layers are drawn `he` or
    `glorot` and their biases are zero; None where no layer has such weights."""
    if not any(isinstance(part, _DRAWN) for part in evidence.fresh.model.modules()):
        return None
    trial = evidence.variant(f"weights drawn anew, {way}", Change(prepare=lambda double: _draw(double, way)))
    return evidence.progress_of(trial)


def _draw(double: Double, way: str) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [part for part in double.model.modules() if isinstance(part, _DRAWN)]
    with torch.no_grad():
        for layer in layers:
            weight = layer.weight
            if not weight.requires_grad or nn.utils.parametrize.is_parametrized(layer):
                continue
            inputs = weight[0].numel()
            outputs = weight.shape[0] * weight[0, 0].numel()
            variance = 2 / inputs if way == "he" and layer is not layers[-1] else 2 / (inputs + outputs)
            drawn = torch.randn(weight.shape, generator=generator) * variance**0.5
            weight.copy_(drawn.to(weight.dtype))
            if layer.bias is not None:
                layer.bias.zero_()
