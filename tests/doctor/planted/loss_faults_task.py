"""Losses that ask something else than the task: of another kind, of another shape, of the opposite sign."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from planted.case import Case, fault
from planted.parts import LeNet, batches, digits, mlp, mnist, plain, residual_net, small_cnn, table


class _Number(nn.Module):
    """One output a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_cnn(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1)


@fault("loss.wrong-for-task")
def squared_error_of_class_numbers(seed: int, fixed: bool = False) -> Case:
    """A nine is asked to be nine times as large as a one."""
    data = digits(seed)
    torch.manual_seed(seed)
    model = small_cnn(1, 10) if fixed else _Number()

    def squared(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs, targets.float())

    return Case(
        model,
        batches(data.x, data.y, 32, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss() if fixed else squared,
        optim.Adam(model.parameters(), lr=3e-3),
    )


@fault("loss.wrong-for-task", also=("loss.degenerate",))
def cross_entropy_of_a_price(seed: int, fixed: bool = False) -> Case:
    """Of one output: the softmax of one number is 1, the loss 0."""
    data = table("boston", seed, 400, 106)
    torch.manual_seed(seed)
    return Case(
        mlp(13, 32, 16, 1),
        batches(data.x, (data.y[:, None] - 22.5) / 9.2, 16, seed),
        plain(data.x_val, (data.y_val[:, None] - 22.5) / 9.2),
        nn.MSELoss() if fixed else nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
        task="regress",
    )


@fault("loss.wrong-for-task", also=("loss.degenerate",))
def negative_log_likelihood_of_raw_outputs(seed: int, fixed: bool = False) -> Case:
    """`nll_loss` without the `log_softmax`: it has no lower bound."""
    data = mnist(seed)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        pictures, labels = batch[0], batch[1]
        optimizer.zero_grad()
        outputs = model(pictures)
        value = loss(outputs, labels)
        value.backward()
        optimizer.step()
        return value

    torch.manual_seed(seed)
    model = LeNet()
    return Case(
        model,
        batches(data.x / 127.5 - 1, data.y, 50, seed),
        plain(data.x_val / 127.5 - 1, data.y_val),
        functional.cross_entropy if fixed else functional.nll_loss,
        optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
        step,
    )


@fault("loss.wrong-for-task", also=("loss.degenerate", "data.label-range"))
def binary_cross_entropy_of_a_progression(seed: int, fixed: bool = False) -> Case:
    """Made for targets from 0 to 1; these are standardized numbers, and there is no lower bound."""
    data = table("diabetes", seed, 320, 120)
    y, y_val = (data.y[:, None] - 152) / 77, (data.y_val[:, None] - 152) / 77
    torch.manual_seed(seed)
    model = mlp(10, 24, 1, activation=nn.Tanh)
    return Case(
        model,
        batches(data.x, y, 30, seed),
        plain(data.x_val, y_val),
        functional.mse_loss if fixed else functional.binary_cross_entropy_with_logits,
        optim.Adam(model.parameters(), lr=3e-3),
        task="regress",
    )


@fault("loss.broadcast")
def a_column_against_a_row(seed: int, fixed: bool = False) -> Case:
    """Outputs (N, 1), targets (N,): the difference is (N, N)."""
    data = table("boston", seed, 400, 106)
    y, y_val = (data.y - 22.5) / 9.2, (data.y_val - 22.5) / 9.2
    if fixed:
        y, y_val = y[:, None], y_val[:, None]
    torch.manual_seed(seed)
    return Case(
        mlp(13, 64, 1),
        batches(data.x, y, 25, seed),
        plain(data.x_val, y_val),
        lambda outputs, targets: ((outputs - targets) ** 2).mean(),
        lambda parameters: optim.Adam(parameters, lr=5e-3),
        task="regress",
    )


@fault("loss.broadcast")
def smooth_l1_in_a_step_of_its_own(seed: int, fixed: bool = False) -> Case:
    data = table("diabetes", seed, 320, 120)
    y, y_val = (data.y - 152) / 77, (data.y_val - 152) / 77
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, target = batch
        prediction = model(x)
        if fixed:
            prediction = prediction[:, 0]
        optimizer.zero_grad()
        error = (prediction - target).abs()
        value = torch.where(error < 1, error**2 / 2, error - 0.5).mean()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return value

    return Case(
        model, batches(data.x, y, 16, seed), plain(data.x_val, y_val), nn.SmoothL1Loss(), optimizer, step, "regress"
    )


@fault("loss.broadcast")
def squared_error_that_only_warns(seed: int, fixed: bool = False) -> Case:
    """How many dark pixels has a digit? The target was flattened, the output was not."""
    data = digits(seed, train=900)
    count, count_val = (((x > 0).float().sum((1, 2, 3)) - 31) / 4 for x in (data.x, data.x_val))
    torch.manual_seed(seed)
    model: nn.Module = residual_net(1, 1, width=8)
    if fixed:
        model = nn.Sequential(model, nn.Flatten(0))
    return Case(
        model,
        batches(data.x, count, 50, seed),
        plain(data.x_val, count_val),
        nn.MSELoss(),
        lambda parameters: optim.AdamW(parameters, lr=5e-3),
        task="regress",
    )


@fault("loss.sign")
def likelihood_instead_of_its_negative(seed: int, fixed: bool = False) -> Case:
    data = digits(seed)
    sign = -1 if fixed else 1

    def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        return sign * functional.log_softmax(outputs, 1).gather(1, targets[:, None]).mean()

    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x, data.y, 64, seed),
        plain(data.x_val, data.y_val),
        likelihood,
        optim.Adam(model.parameters(), lr=3e-3),
    )


@fault("loss.sign")
def optimizer_told_to_maximize(seed: int, fixed: bool = False) -> Case:
    data = table("boston", seed, 400, 106)
    torch.manual_seed(seed)
    return Case(
        mlp(13, 32, 1, activation=nn.ELU),
        batches(data.x, (data.y[:, None] - 22.5) / 9.2, 20, seed),
        (data.x_val, (data.y_val[:, None] - 22.5) / 9.2),
        nn.L1Loss(),
        lambda parameters: optim.SGD(parameters, lr=0.01, momentum=0.9, maximize=not fixed),
        task="regress",
    )


@fault("loss.sign")
def step_that_climbs(seed: int, fixed: bool = False) -> Case:
    """The update is written by hand, with a plus."""
    data = mnist(seed)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> float:
        x, y = batch
        value = loss(model(x), y)
        model.zero_grad()
        value.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                change = 0.05 * parameter.grad
                parameter.copy_(parameter - change if fixed else parameter + change)
        return float(value.detach())

    torch.manual_seed(seed)
    model = LeNet()
    return Case(
        model,
        batches(data.x / 127.5 - 1, data.y, 20, seed),
        plain(data.x_val / 127.5 - 1, data.y_val),
        functional.cross_entropy,
        optim.SGD(model.parameters(), lr=0.05),
        step,
    )
