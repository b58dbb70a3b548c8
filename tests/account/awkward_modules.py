"""Networks as people write them, and what each is to be counted as."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


class FunctionalPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4 * 3 * 3, 2)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return self.fc(torch.flatten(x, 1))


class SharedWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(self.conv(x))


class BranchOnShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 5)

    def forward(self, x):
        return self.large(x) if x.shape[-1] > 8 else self.small(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle, self.quiet = nn.Linear(3, 3), nn.Linear(3, 5), nn.ReLU()

    def forward(self, x):
        return self.used(x)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return 3 * x**2 * gradient


class CustomFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        return Cube.apply(self.fc(x))


class NestedLists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleList([nn.Linear(3, 3), nn.ReLU()]) for _ in range(2))

    def forward(self, x):
        for stage in self.stages:
            for layer in stage:
                x = layer(x)
        return {"out": [x]}


@dataclass
class Result:
    logits: torch.Tensor
    hidden: torch.Tensor


class GivesRecord(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return Result(self.fc(x), x)


class SeveralTensors(nn.Module):
    """A part with two arguments, one by name."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Bilinear(3, 3, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(input=self.mix(x, input2=x))


class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.zeros(1, 5, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.block(x)[:, 0]


class ScaledFirst(nn.Module):
    """A scale of its own before its first module, and before a function."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, 1, 1))
        self.shift = nn.Parameter(torch.zeros(2, 1, 1))
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(functional.relu(x * self.scale) + self.shift)


class LooksAtNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.other = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x) if x.sum().item() == 0 else self.other(x)


class RawProducts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5, 3))
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(torch.einsum("oi,ni->no", self.weight, x) @ x.new_ones(5, 4))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(torch.utils.checkpoint.checkpoint(self.fc, x, use_reentrant=False))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


class Frequencies(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        return self.fc(torch.sort(torch.fft.rfft(x).abs())[0])


class OwnLayer(nn.Module):
    """A layer with raw operations that calls no module: one row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 3))
        self.scale = nn.Parameter(torch.zeros(6))

    def forward(self, x):
        return functional.relu(functional.linear(x, self.weight)) * self.scale
