"""The network that outputs the value of each action, and its input from frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

SMALL = "conv(16,3) ln relu fc(128) ln relu"
LARGE = "conv(32,8,4) ln relu conv(64,4,2) ln relu conv(64,3,1) ln relu fc(512) ln relu"
SMALL_SIDE = 24
"""Up to this shorter side in pixels, the default network is `SMALL`, that of MinAtar's authors; else `LARGE`, that of
Mnih et al. (2015). Both have layer normalization, which keeps learning stable without a target network."""


class Dueling(nn.Module):
    """Values of actions as the value of the state plus the advantage of each action (Wang et al. 2016): V + D_a −
    mean(D), from a body with 1 + A outputs."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.body(x)
        value, advantage = outputs[:, :1], outputs[:, 1:]
        return value + advantage - advantage.mean(dim=1, keepdim=True)


def default_network(height: int, width: int, outputs: int) -> str:
    """The layer string of the default network."""
    return f"{SMALL if min(height, width) <= SMALL_SIDE else LARGE} fc({outputs})"


def as_input(frames: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 frames (B, H, W, C) as float (B, C, H, W), 0 to 1."""
    x = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).to(device)
    return x.to(torch.float32).div_(255)


@torch.no_grad()
def action_values(module: nn.Module, frames: np.ndarray) -> np.ndarray:
    """(B, A) float32: the value of each action, by the network in eval mode."""
    parameter = next(module.parameters())
    values: np.ndarray = module(as_input(frames, parameter.device)).float().cpu().numpy()
    return values
