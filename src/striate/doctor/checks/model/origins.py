"""Whether weights were ever trained, by comparison with the distributions of initializations."""

from __future__ import annotations

import math

import torch
from torch import nn

_FEWEST = 48
"""Fewest numbers whose distribution can be compared."""
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def looks_untrained(weight: torch.Tensor) -> bool | None:
    """Whether a weight (out, in, …) has the distribution of an initialization: constant, uniform, orthogonal, or normal
    without a dominant direction. None where it has too few numbers."""
    values = weight.detach().double().flatten(1) if weight.ndim > 1 else weight.detach().double()[None]
    count = values.numel()
    deviation, largest = float(values.std(correction=0)), float(values.abs().max())
    if deviation == 0:
        return True
    if count < _FEWEST:
        return None
    default = 1 / math.sqrt(values.shape[1])
    if largest <= default * (1 + 1e-6) and largest >= 0.9 * default:
        return True  # torch's default, whose bound the first training steps exceed
    shape = float(((values - values.mean()) / deviation).pow(4).mean())
    if largest <= math.sqrt(3) * deviation * (1 + 1.5 / math.sqrt(count)) and abs(shape - 1.8) < 0.15 + 2 / math.sqrt(
        count
    ):
        return True
    return _is_normal(values, deviation, shape) or _is_orthogonal(values)


def _is_normal(values: torch.Tensor, deviation: float, shape: float) -> bool:
    rows, columns = values.shape
    count = values.numel()
    if abs(shape - 3) > 5 * math.sqrt(24 / count) or abs(float(values.mean())) > 4 * deviation / math.sqrt(count):
        return False
    edge = deviation * (math.sqrt(rows) + math.sqrt(columns))
    return float(torch.linalg.matrix_norm(values, 2)) < 1.12 * edge


def _is_orthogonal(values: torch.Tensor) -> bool:
    narrow = values if values.shape[0] <= values.shape[1] else values.T
    product = narrow @ narrow.T
    scale = float(product.diagonal().mean())
    return float((product / scale - torch.eye(len(product), dtype=product.dtype)).abs().max()) < 1e-3


def are_untrained(model: nn.Module, names: set[str]) -> bool:
    """Whether all of these weights of layers look as initialized, and no batch norm or bias shows an earlier training.
    Weights that are too small are left out; where all are, they count as trained."""
    known = 0
    rest = dict(model.named_parameters())
    rest = {name: rest[name] for name in names if name in rest}
    for path, layer in model.named_modules():
        within = any(name.startswith(f"{path}.") or not path for name in names)
        tracked = getattr(layer, "num_batches_tracked", None)
        # A batch norm that has seen batches shows that the network was trained before.
        if isinstance(tracked, torch.Tensor) and int(tracked) > 0:
            return False
        if not isinstance(layer, _LAYERS) or not within or f"{path}.weight".lstrip(".") not in names:
            continue
        if _bias_is_trained(layer):
            return False
        untrained = looks_untrained(rest.pop(f"{path}.weight".lstrip(".")))
        if untrained is False:
            return False
        known += untrained is True
    others = [looks_untrained(parameter) for parameter in rest.values() if parameter.ndim > 1]
    return False not in others and known + others.count(True) > 0


def _bias_is_trained(layer: nn.Module) -> bool:
    weight, bias = layer.weight, layer.bias
    if not isinstance(bias, torch.Tensor) or not isinstance(weight, torch.Tensor):
        return False
    values = bias.detach().double()
    if float(values.max() - values.min()) == 0:
        return False
    return float(values.abs().max()) > (1 + 1e-6) / math.sqrt(max(weight[0].numel(), 1))
