"""A textbook U-Net in plain torch: Ronneberger, Fischer and Brox, MICCAI 2015, with batch normalization and padding.

Four halvings, two 3×3 convolutions at each size, fp32, whole images, mirrored half of the time, AdamW at a constant
rate: what tutorials train. It reads its pictures before its minutes begin.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

DEPTH = 4


def double(in_channels: int, channels: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before in (in_channels, channels):
        parts += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(DEPTH + 1)]
        self.down = nn.ModuleList(double(widths[k - 1] if k else 3, widths[k]) for k in range(DEPTH + 1))
        self.up = nn.ModuleList(nn.ConvTranspose2d(widths[k + 1], widths[k], 2, 2) for k in reversed(range(DEPTH)))
        self.merge = nn.ModuleList(double(2 * widths[k], widths[k]) for k in reversed(range(DEPTH)))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        x = functional.pad(x, (0, -width % 2**DEPTH, 0, -height % 2**DEPTH), mode="replicate")
        maps = []
        for k, part in enumerate(self.down):
            x = part(functional.max_pool2d(x, 2) if k else x)
            maps.append(x)
        maps.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([maps.pop(), up(x)], 1))
        out: torch.Tensor = self.head(x)
        return out[..., :height, :width]


def train_and_predict(
    images: list[Path],
    masks: list[Path],
    asked: list[Path],
    values: list[int],
    *,
    width: int,
    minutes: float,
    seed: int,
) -> tuple[list[np.ndarray], int, int]:
    """Masks of the pictures `asked`, the network's parameters, and the steps that fitted into the minutes. `values` are
    those of the classes; all others count for nothing."""
    torch.manual_seed(seed)
    table = np.full(256, 255, np.uint8)
    table[values] = np.arange(len(values))
    x = torch.from_numpy(np.stack([np.asarray(Image.open(f).convert("RGB")).transpose(2, 0, 1) for f in images]))
    y = torch.from_numpy(np.stack([table[np.asarray(Image.open(f))] for f in masks]))
    mean, std = (getattr(x[::4].float(), what)((0, 2, 3))[:, None, None] for what in ("mean", "std"))
    network = UNet(len(values), width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    order: list[int] = []
    began, steps, batch = perf_counter(), 0, 8
    while perf_counter() - began < 60 * minutes:
        if len(order) < batch:
            order = torch.randperm(len(x)).tolist()
        rows, order = order[:batch], order[batch:]
        inputs, truth = (x[rows].float() - mean) / std, y[rows].long()
        mirrored = torch.rand(batch) < 0.5
        inputs[mirrored], truth[mirrored] = inputs[mirrored].flip(-1), truth[mirrored].flip(-1)
        loss = functional.cross_entropy(network(inputs), truth, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    network.eval()
    found = []
    with torch.inference_mode():
        for file in asked:
            picture = torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1).copy())
            found.append(network(((picture.float() - mean) / std)[None]).argmax(1)[0].numpy())
    return [np.array(values)[mask] for mask in found], sum(p.numel() for p in network.parameters()), steps
