"""Functions of one's own whose backward is not the derivative of their forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.networks import digits, prices


class Cut(Function):
    """A rectifier whose gradient was copied with a minus."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sign: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.sign = sign
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.sign * gradient * (x > 0), None


class Cutting(nn.Module):
    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, x: Tensor) -> Tensor:
        return Cut.apply(x, self.sign)


@fault("optim.gradient-wrong")
def rectifier_with_the_wrong_sign(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    sign = 1.0 if fixed else -1.0
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), Cutting(sign), nn.Conv2d(12, 16, 3), Cutting(sign), nn.Flatten(), nn.Linear(256, 10)
    )
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9))


class Affine(Function):
    """A linear layer; with square matrices a forgotten transposition goes unnoticed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.transposed = transposed
        return x @ w.t() + b

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, w = ctx.saved_tensors
        grad_w = gradient.t() @ x
        return gradient @ w, grad_w.t() if ctx.transposed else grad_w, gradient.sum(0), None


class Square(nn.Module):
    def __init__(self, size: int, transposed: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size) * (2 / size) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(size))
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        return Affine.apply(x, self.weight, self.bias, self.transposed)


@fault("optim.gradient-wrong")
def gradient_of_a_square_matrix_transposed(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(Square(13, not fixed), nn.ReLU(), Square(13, not fixed), nn.ReLU(), nn.Linear(13, 1))
    train, val = prices(seed).loaders(20, seed)
    return Case(model, train, val, nn.MSELoss(), lambda params: torch.optim.Adam(params, lr=5e-3), task="regress")


class Swish(Function):
    """x·sigmoid(x); half of the product rule is easily forgotten."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, whole: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.whole = whole
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * (s + x * s * (1 - s) if ctx.whole else x * s * (1 - s)), None


@fault("optim.gradient-wrong")
def half_of_the_product_rule(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(1, 12, 3)
            self.b = nn.Conv2d(12, 16, 3, stride=2)
            self.c = nn.Linear(64, 48)
            self.d = nn.Linear(48, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = Swish.apply(self.a(x), fixed)
            x = Swish.apply(self.b(x), fixed)
            return self.d(Swish.apply(self.c(x.flatten(1)), fixed))

    model = Images()
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9))


class Cube(Function):
    """The cube's slope is 3 x²; here the square was forgotten, so negative inputs are pushed the wrong way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, power: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.power = power
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return 3 * gradient * ctx.saved_tensors[0] ** ctx.power, None


@fault("optim.gradient-wrong")
def slope_of_a_cube_without_its_square(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Cubic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(13, 16)
            self.second = nn.Linear(16, 16)
            self.out = nn.Linear(16, 1)

        def forward(self, x: Tensor) -> Tensor:
            power = 2 if fixed else 1
            x = Cube.apply(torch.tanh(self.first(x)), power)
            return self.out(Cube.apply(torch.tanh(self.second(x)), power))

    model = Cubic()
    train, val = prices(seed).pairs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.MSELoss(), optimizer, task="regress")
