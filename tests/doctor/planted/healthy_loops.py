"""Healthy training steps, as different people write them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from planted.case import Case, healthy
from planted.healthy_losses import small_network
from planted.healthy_sources import digits, loader, loaders

Batch = list[Tensor]
Optimizer = torch.optim.Optimizer


@healthy
def gradients_of_four_batches_added(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 16)
    model = small_network()
    calls = 0

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        nonlocal calls
        x, y = batch
        error = loss(model(x), y)
        (error / 4).backward()
        calls += 1
        if calls % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return error

    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


@healthy
def a_cosine_computed_in_the_step(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()
    done = {"steps": 0}
    total = 20 * len(train)

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * min(1.0, done["steps"] / total)))
        done["steps"] += 1
        optimizer.zero_grad()
        error = loss(model(batch[0]), batch[1])
        error.backward()
        optimizer.step()
        return error

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


@healthy
def one_cycle_stepped_at_each_batch(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    cycle = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.08, epochs=40, steps_per_epoch=len(train), pct_start=0.2)

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> float:
        x, y = batch
        optimizer.zero_grad()
        error = loss(model(x), y)
        error.backward()
        optimizer.step()
        cycle.step()
        return error.item()

    return Case(model, train, val, nn.CrossEntropyLoss(), sgd, step)


@healthy
def a_few_steps_of_warmup(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    warmup = torch.optim.lr_scheduler.LambdaLR(adam, lambda k: min(1.0, (k + 1) / 20))

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        error = loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        warmup.step()
        return error

    return Case(model, train, val, nn.CrossEntropyLoss(), adam, step)


@healthy
def gradients_clipped_at_one(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 32)
    model = small_network()

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        inputs, labels = batch
        optimizer.zero_grad()
        error = loss(model(inputs), labels)
        error.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        return error

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


@healthy
def gradients_emptied_after_the_step(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()

    def step(net: nn.Module, batch: Batch, sgd: Optimizer, criterion: nn.Module) -> Tensor:
        net.train()
        x, y = batch
        error = criterion(net(x), y)
        error.backward()
        sgd.step()
        for p in net.parameters():
            p.grad = None
        return error

    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


@healthy
def pairs_of_images_blended(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        x, y = batch
        share = float(torch.distributions.Beta(0.3, 0.3).sample())
        other = torch.randperm(len(x))
        outputs = model(share * x + (1 - share) * x[other])
        error = share * loss(outputs, y) + (1 - share) * loss(outputs, y[other])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        return error

    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


class Swish(torch.autograd.Function):
    """x · sigmoid(x) with its derivative by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s + x * s * (1 - s))


class HandmadeNetwork(nn.Module):
    """Weights as bare parameters, and a nonlinearity with a derivative of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(64, 50) * math.sqrt(2 / 64))
        self.b1 = nn.Parameter(torch.zeros(50))
        self.w2 = nn.Parameter(torch.randn(50, 10) * math.sqrt(1 / 50))
        self.b2 = nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        return Swish.apply(x.reshape(len(x), -1) @ self.w1 + self.b1) @ self.w2 + self.b2  # type: ignore[no-any-return]


@healthy
def bare_parameters_and_a_derivative_by_hand(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = HandmadeNetwork()
    return Case(model, train, val, functional.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


class Lightweight(nn.Module):
    """A module that brings its own training step and its own optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_network()
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        x, y = batch
        return self.criterion(self(x), y)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


@healthy
def a_module_with_its_own_step(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = Lightweight()

    def step(model: Lightweight, batch: Batch, optimizer: Optimizer, loss: object) -> Tensor:
        error = model.training_step(batch, 0)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        return error

    return Case(model, train, val, None, model.configure_optimizers(), step)


@healthy
def two_updates_of_one_batch(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    train, val = loader(parts.x, parts.y, 100), loader(parts.x_val, parts.y_val, 100, shuffle=False)
    model = small_network()

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        for x, y in zip(batch[0].split(50), batch[1].split(50), strict=True):
            optimizer.zero_grad()
            error = loss(model(x), y)
            error.backward()
            optimizer.step()
        return error

    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


@healthy
def an_average_of_the_weights_kept(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        optimizer.zero_grad()
        error = loss(model(batch[0]), batch[1])
        error.backward()
        optimizer.step()
        average.update_parameters(model)
        return error

    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.NAdam(model.parameters(), lr=2e-3), step)
