"""At which layers Grad-CAM can look."""

from __future__ import annotations

import torch
from torch import nn

from striate.models.features import network_features
from striate.visualize.attribution.question import outputs_of

_MOST = 4


def grad_cam_layers(module: nn.Module, x: torch.Tensor) -> tuple[str, ...]:
    """The names of up to four modules whose maps Grad-CAM can weigh for `x` (1, C, *spatial), the last one first: of
    each size of maps with more than one position, the module that is done last. Modules that run more than once have
    no maps of their own. Empty for networks without such maps."""
    maps = network_features(module, x, lambda: outputs_of(module, x)).pyramid
    return tuple(part.name for part in reversed(maps))[:_MOST]
