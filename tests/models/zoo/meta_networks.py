"""Networks without memory, whose weights and sizes tests count."""

from __future__ import annotations

import torch
from torch import nn

from striate.models.build import build_model


def on_meta(text: str, *arguments) -> nn.Module:
    with torch.device("meta"):
        return build_model(text, *arguments)
