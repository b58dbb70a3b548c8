"""Faults as other people's scripts have them, in the scale of targets, precision, accumulation, what is evaluated, and
augmentation; each with a healthy twin."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from planted.case import Case, fault, healthy
from planted.parts import LeNet, batches, digits, mlp, mnist, plain, small_cnn, table


def prices(seed: int, scaled: bool, size: int = 32) -> Case:
    """House prices in dollars, or standardized."""
    torch.manual_seed(seed)
    data = table("boston", seed, 380, 120)
    y, y_val = 1000 * data.y[:, None], 1000 * data.y_val[:, None]
    if scaled:
        mean, deviation = y.mean(), y.std()
        y, y_val = (y - mean) / deviation, (y_val - mean) / deviation
    model = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    return Case(
        model,
        batches(data.x, y, size, seed),
        plain(data.x_val, y_val),
        nn.MSELoss(),
        torch.optim.Adam(model.parameters(), lr=1e-3),
        task="regress",
    )


@fault("data.target-scale")
def house_prices_in_dollars(seed: int) -> Case:
    return prices(seed, scaled=False)


@healthy
def house_prices_standardized(seed: int) -> Case:
    return prices(seed, scaled=True)


@fault("data.target-scale")
def disease_progression_as_it_comes(seed: int) -> Case:
    torch.manual_seed(seed)
    data = table("diabetes", seed, 330, 100)

    def train_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _loss: Any) -> Tensor:
        features, target = batch
        prediction = model(features)
        loss = F.l1_loss(prediction.squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return Case(
        model,
        batches(data.x, data.y, 32, seed),
        plain(data.x_val, data.y_val),
        optimizer=optimizer,
        step=train_step,
        task="regress",
    )


def in_half(seed: int, kind: torch.dtype, rate: float) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = mlp(64, 64, 10).to(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    return Case(
        model, batches(data.x.to(kind), data.y, 64, seed), plain(data.x_val.to(kind), data.y_val), optimizer=optimizer
    )


@fault("optim.low-precision")
def half_with_adam(seed: int) -> Case:
    return in_half(seed, torch.float16, 1e-3)


@fault("optim.low-precision")
def bfloat16_with_small_steps(seed: int) -> Case:
    return in_half(seed, torch.bfloat16, 1e-4)


def automatic_precision(seed: int) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = mlp(64, 64, 10)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(model(batch[0]), batch[1])
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return value

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Case(
        model, batches(data.x, data.y, 64, seed), plain(data.x_val, data.y_val), nn.CrossEntropyLoss(), optimizer, step
    )


healthy(automatic_precision)


def accumulated(seed: int, divided: bool, every: int = 32, rate: float = 0.1, size: int = 8) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = small_cnn(1, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    seen = [0]

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, criterion: Any) -> Tensor:
        images, labels = batch
        loss = criterion(model(images), labels)
        (loss / every if divided else loss).backward()
        seen[0] += 1
        if seen[0] % every == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    return Case(
        model,
        batches(data.x, data.y, size, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        optimizer,
        step,
    )


@fault("optim.accumulation", ["optim.lr-too-high"])
def thirty_two_batches_added_up(seed: int) -> Case:
    return accumulated(seed, divided=False)


@fault("optim.accumulation", ["optim.lr-too-high"])
def sixteen_batches_added_up(seed: int) -> Case:
    return accumulated(seed, divided=False, every=16, rate=0.2)


@healthy
def thirty_two_batches_averaged(seed: int) -> Case:
    return accumulated(seed, divided=True, size=32, every=4)


class WithAverage(nn.Module):
    """Evaluates an average of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(64, 64, 10)
        self.ema = copy.deepcopy(self.body).requires_grad_(False)

    def update(self, decay: float) -> None:
        with torch.no_grad():
            for average, parameter in zip(self.ema.parameters(), self.body.parameters(), strict=True):
                average.mul_(decay).add_(parameter, alpha=1 - decay)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.training else self.ema(x)


def averaged(seed: int, updated: bool) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = WithAverage()
    optimizer = torch.optim.Adam(model.body.parameters(), lr=2e-3)

    def step(model: Any, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        model.train()
        value = loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if updated:
            model.update(0.9)
        return value

    return Case(
        model, batches(data.x, data.y, 64, seed), plain(data.x_val, data.y_val), nn.CrossEntropyLoss(), optimizer, step
    )


@fault("model.evaluates-untrained")
def an_average_that_is_never_updated(seed: int) -> Case:
    return averaged(seed, updated=False)


@healthy
def an_average_that_follows(seed: int) -> Case:
    return averaged(seed, updated=True)


@fault("model.evaluates-untrained")
def an_averaged_model_that_is_left_behind(seed: int) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = mlp(64, 64, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    ema = torch.optim.swa_utils.AveragedModel(model)
    seen = [0]

    def step(model: Any, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seen[0] += 1
        if seen[0] > 100_000:
            ema.update_parameters(model)
        return value

    return Case(
        model, batches(data.x, data.y, 64, seed), plain(data.x_val, data.y_val), nn.CrossEntropyLoss(), optimizer, step
    )


class RandomCrops(Dataset[tuple[Tensor, Tensor]]):
    """Random parts of images, at the size of the whole image again."""

    def __init__(self, x: Tensor, y: Tensor, side: int) -> None:
        self.x, self.y, self.side = x, y, side

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, size = self.x[index], self.x.shape[-1]
        top, left = (int(torch.randint(0, size - self.side + 1, ())) for _ in range(2))
        part = image[:, top : top + self.side, left : left + self.side]
        return F.interpolate(part[None], size=(size, size), mode="bilinear")[0], self.y[index]


def cropped(seed: int, side: int) -> Case:
    torch.manual_seed(seed)
    data = mnist(seed)
    x, x_val = (part.float() / 255 - 0.13 for part in (data.x, data.x_val))
    model = LeNet()
    loader = DataLoader(RandomCrops(x / 0.31, data.y, side), batch_size=50, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Case(model, loader, plain(x_val / 0.31, data.y_val), nn.CrossEntropyLoss(), optimizer)


@fault("data.augmentation")
def crops_of_six_pixels(seed: int) -> Case:
    return cropped(seed, 6)


@healthy
def crops_of_most_of_the_image(seed: int) -> Case:
    return cropped(seed, 25)


@fault("data.augmentation")
def noise_in_the_step_that_drowns_the_image(seed: int) -> Case:
    torch.manual_seed(seed)
    data = mnist(seed)
    x, x_val = (part.float() / 255 for part in (data.x, data.x_val))
    model = LeNet()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        images, labels = batch
        value = loss(model(images + 3 * torch.randn_like(images)), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Case(model, batches(x, data.y, 50, seed), plain(x_val, data.y_val), nn.CrossEntropyLoss(), optimizer, step)


@fault("model.frozen-parameters")
def a_random_backbone_that_is_frozen(seed: int) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = small_cnn(1, 10)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("9")
    optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-2)
    return Case(model, batches(data.x, data.y, 64, seed), plain(data.x_val, data.y_val), optimizer=optimizer)


@fault("model.frozen-parameters")
def a_switch_on_a_module(seed: int) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = small_cnn(1, 10)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model[9].requires_grad = True
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, batches(data.x, data.y, 64, seed), plain(data.x_val, data.y_val), optimizer=optimizer)


@fault("data.label-map")
def another_order_of_folders(seed: int) -> Case:
    """Validation numbers its classes by their names, training as they came."""
    torch.manual_seed(seed)
    data = digits(seed)
    order = torch.tensor([3, 0, 1, 2, 7, 4, 5, 6, 9, 8])
    model = small_cnn(1, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return Case(model, batches(data.x, data.y, 64, seed), plain(data.x_val, order[data.y_val]), optimizer=optimizer)
