"""`model.shared-weights`: does the network use the same layer several times by mistake?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, quick_adam
from for_checks.networks import Small
from striate.doctor.checks.model.shared_weights import SHARED_WEIGHTS


class TwiceTheSame(Small):
    def make(self) -> None:
        self.second = nn.Linear(24, 24)
        self.third = self.second

    def middle(self, x: Tensor) -> Tensor:
        return self.third(self.second(x).relu()).relu()


class Shallow(Small):
    def make(self) -> None:
        block = nn.Sequential(nn.Linear(24, 24), nn.ReLU())
        self.blocks = nn.ModuleList(copy.copy(block) for _ in range(3))

    def middle(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class TheWrongOne(Small):
    def make(self) -> None:
        self.second, self.third = nn.Linear(24, 24), nn.Linear(24, 24)

    def middle(self, x: Tensor) -> Tensor:
        return self.second(self.second(x).relu()).relu()


class OneNorm(Small):
    def make(self) -> None:
        self.second, self.norm = nn.Linear(24, 24), nn.BatchNorm1d(24)

    def middle(self, x: Tensor) -> Tensor:
        return self.norm(self.second(self.norm(x)).relu())


class Block(nn.Module):
    """A residual block of one container."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(24, 24), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        shown: Tensor = x + self.inner(x)
        return shown


class Blocks(Small):
    """Containers in the repeated block, and the one around it, have the same parameters."""

    def make(self) -> None:
        self.blocks = nn.Sequential(*[Block()] * 3)

    def middle(self, x: Tensor) -> Tensor:
        shown: Tensor = self.blocks(x)
        return shown


class OneBlock(Blocks):
    def make(self) -> None:
        self.blocks = nn.Sequential(Block())


def repeated() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), *[nn.Linear(24, 24), nn.ReLU()] * 3, nn.Linear(24, 10))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [TwiceTheSame, Shallow, TheWrongOne, OneNorm, repeated, Blocks])
def test_layers_that_are_one_and_the_same(network: Any) -> None:
    (found,) = asked(SHARED_WEIGHTS, network(), digits(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.shared-weights", "warning")


class Loop(Small):
    def make(self) -> None:
        self.again, self.act, self.drop = nn.Linear(24, 24), nn.PReLU(), nn.Dropout(0.1)

    def middle(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.drop(self.act(self.again(x)))
        return x


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left = nn.Linear(32, 16)
        self.right = self.left
        self.last = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.flatten(1).chunk(2, 1)
        return self.last(torch.cat([self.left(a).relu(), self.right(b).relu()], 1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode, self.decode = nn.Linear(64, 16), nn.Linear(16, 64)
        self.decode.weight = nn.Parameter(self.encode.weight.T.clone())
        self.last = nn.Linear(64, 10)
        self.last_again = nn.Linear(64, 10)
        self.last_again.weight = self.last.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.linear(self.encode(x.flatten(1)).relu(), self.encode.weight.T)
        return self.last(hidden) + self.last_again(self.decode(hidden[:, :16]))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [Small, Loop, Siamese, Tied, OneBlock])
def test_weights_that_are_shared_on_purpose(network: type[nn.Module]) -> None:
    assert not asked(SHARED_WEIGHTS, network(), digits(), optimizer=quick_adam)
