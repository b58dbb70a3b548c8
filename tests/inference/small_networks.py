"""Networks and data for the tests of this room."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.tasks.classify.task import Classify

TASK = Classify(("a", "b", "c", "d"))
SHAPE = (3, 12, 12)


def samples(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Noise with a mean of its own for each sample: answers of any network then differ."""
    made = torch.Generator().manual_seed(count)
    means = torch.randn(count, *[1 for _ in shape], generator=made)
    return torch.randn(count, *shape, generator=made) + 2 * means


def with_statistics(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The network with statistics and factors of its normalizations that are not 0 and 1, in eval mode."""
    module.train()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
        for _ in range(2):
            module(samples(6, shape))
    return module.eval()


class Block(nn.Module):
    """A residual block whose parts follow each other in every way that can be fused, and in some that cannot."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm, self.relu = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.first(x)))
        y = self.second_norm(self.second(y))
        y += x
        return self.relu(y) + 0.1 * x


def network() -> nn.Module:
    """Convolutions, normalizations, a residual block, and a linear layer with 4 outputs."""
    torch.manual_seed(3)
    return with_statistics(
        nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            Block(8),
            nn.MaxPool2d(2),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(200, 4),
        ),
        SHAPE,
    )


packs_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor packs no weights of bf16"
)
