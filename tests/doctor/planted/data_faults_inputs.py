"""Inputs that are badly scaled, not finite, empty, or scrambled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from planted.case import Case, fault
from planted.parts import (
    LeNet,
    batches,
    channels_first,
    colored,
    digits,
    draw,
    mlp,
    mnist,
    plain,
    signals,
    small_cnn,
    table,
    wave_net,
)


@fault("data.not-normalized")
def bytes_from_0_to_255(seed: int, fixed: bool = False) -> Case:
    """Raw gray levels, as they are read."""
    data = mnist(seed, train=1000)
    scale = 255.0 if fixed else 1.0
    torch.manual_seed(seed)
    model = mlp(784, 64, 32, 10)
    return Case(
        model,
        batches(data.x / scale, data.y, 25, seed),
        plain(data.x_val / scale, data.y_val),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    )


@fault("data.not-normalized")
def columns_of_a_table_in_their_own_units(seed: int, fixed: bool = False) -> Case:
    """Wine: proline is about 750, hue about 1."""
    data = table("wine", seed, 130, 48, scaled=fixed)
    torch.manual_seed(seed)
    return Case(
        mlp(13, 32, 3),
        batches(data.x, data.y, 16, seed),
        plain(data.x_val, data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.SGD(parameters, lr=0.05),
    )


@fault("data.not-normalized")
def readings_of_a_converter_around_32768(seed: int, fixed: bool = False) -> Case:
    """A sensor's counts: an offset a hundred times larger than the signal."""
    x, y = signals(seed, [200] * 4)
    x = x if fixed else 32768 + 300 * x
    torch.manual_seed(seed)
    return Case(
        wave_net(1, 4),
        batches(x[:600], y[:600], 32, seed),
        (x[600:], y[600:]),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=2e-3),
    )


@fault("data.not-finite")
def pixels_without_variance_divided_by_it(seed: int, fixed: bool = False) -> Case:
    """Standardized pixel by pixel: the corners are always black, so 0/0."""
    data = digits(seed, scaled=False)
    mean, deviation = data.x.mean(0), data.x.std(0)
    if fixed:
        deviation = deviation.clamp(min=1.0)
    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches((data.x - mean) / deviation, data.y, 64, seed),
        plain((data.x_val - mean) / deviation, data.y_val),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )


@fault("data.not-finite")
def gaps_in_a_table(seed: int, fixed: bool = False) -> Case:
    """Boston's prices, with one reading in twenty of two columns missing and left as NaN."""
    data = table("boston", seed, 400, 106)
    for part, x in enumerate((data.x, data.x_val)):
        gaps = torch.from_numpy(draw(seed, part).random((len(x), 2)) < 0.05)
        x[:, 4:6] = torch.where(gaps, 0.0 if fixed else torch.nan, x[:, 4:6])
    y, y_val = (data.y - 22.5) / 9.2, (data.y_val - 22.5) / 9.2
    torch.manual_seed(seed)
    return Case(
        mlp(13, 48, 1),
        batches(data.x, y[:, None], 20, seed),
        plain(data.x_val, y_val[:, None]),
        nn.MSELoss(),
        lambda parameters: optim.Adam(parameters, lr=5e-3),
        task="regress",
    )


class _Densities(Dataset):
    """Optical densities: minus the logarithm of the intensity."""

    def __init__(self, x: Tensor, y: Tensor, least: float) -> None:
        self.x, self.y, self.least = x, y, least

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        intensity = self.x[index] / 16
        return {"image": -torch.log(intensity + self.least) - 1.5, "label": self.y[index]}


@fault("data.not-finite")
def logarithm_of_black(seed: int, fixed: bool = False) -> Case:
    data = digits(seed, train=800, scaled=False)
    least = 0.02 if fixed else 0.0
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch["image"]), batch["label"])
        value.backward()
        optimizer.step()
        return value.detach()

    return Case(
        small_cnn(1, 10, width=12),
        DataLoader(_Densities(data.x, data.y, least), batch_size=32, shuffle=True),
        DataLoader(_Densities(data.x_val, data.y_val, least), batch_size=100),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
        step,
    )


class _Files(Dataset):
    """Reads "files": what cannot be read comes back black, as many readers do."""

    def __init__(self, x: Tensor, y: Tensor, readable: np.ndarray) -> None:
        self.x, self.y, self.readable = x.float() / 255, y, readable

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.x[index] if self.readable[index] else torch.zeros(1, 28, 28)
        return (image - 0.13) / 0.31, int(self.y[index])


@fault("data.constant-images")
def unreadable_files_come_back_black(seed: int, fixed: bool = False) -> Case:
    """Two of five, in training and validation."""
    data = mnist(seed, train=1000)
    sets = []
    for part, (x, y) in enumerate(((data.x, data.y), (data.x_val, data.y_val))):
        sets.append(_Files(x, y, draw(seed, part).random(len(y)) > (0.0 if fixed else 0.4)))
    torch.manual_seed(seed)
    model = LeNet()
    return Case(
        model,
        DataLoader(sets[0], batch_size=50, shuffle=True),
        DataLoader(sets[1], batch_size=100),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    )


@fault("data.constant-images", also=("data.duplicates",))
def divided_as_bytes(seed: int, fixed: bool = False) -> Case:
    """`(x / 255).astype(uint8)`: only the few pixels at 255 are left."""
    data = mnist(seed)
    if fixed:
        x, x_val = data.x / 255, data.x_val / 255
    else:
        x, x_val = (data.x // 255).float(), (data.x_val // 255).float()
    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 10, width=8, norm=True),
        batches(x, data.y, 40, seed),
        plain(x_val, data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=5e-3),
    )


@fault("data.scrambled")
def pictures_viewed_as_channels_first(seed: int, fixed: bool = False) -> Case:
    """(N, H, W, C) made (N, C, H, W) by `view`."""
    data = colored(seed)
    if fixed:
        x, x_val = channels_first(data.x), channels_first(data.x_val)
    else:
        x, x_val = (a.float().view(-1, 3, 28, 28) / 127.5 - 1 for a in (data.x, data.x_val))
    torch.manual_seed(seed)
    model = small_cnn(3, 10, width=8, norm=True)
    return Case(
        model,
        batches(x, data.y, 32, seed),
        plain(x_val, data.y_val),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )


@fault("data.scrambled", also=("data.labels-random",))
def samples_last_reshaped(seed: int, fixed: bool = False) -> Case:
    """As MATLAB stores them, (H, W, N), and made (N, 1, H, W) by `reshape`: each picture is a bit of many."""
    data = digits(seed)
    pictures = []
    for x in (data.x, data.x_val):
        stored = x[:, 0].permute(1, 2, 0).contiguous()
        right = stored.permute(2, 0, 1)[:, None]
        pictures.append(right.contiguous() if fixed else stored.reshape(right.shape))
    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 10),
        batches(pictures[0], data.y, 64, seed),
        plain(pictures[1], data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
    )


def _motions(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """An accelerometer's three axes (N, time, 3); the class says which axis swings fastest."""
    rng = draw(seed, 5)
    y = rng.integers(0, 3, count)
    rate = rng.uniform(3, 5, (count, 3))
    rate[np.arange(count), y] = rng.uniform(6, 9, count)
    time = np.linspace(0, 1, 60)[None, :, None]
    x = np.sin(2 * np.pi * (rate[:, None] * time + rng.uniform(0, 1, (count, 1, 3)))) + rng.normal(
        0, 0.2, (count, 60, 3)
    )
    return x.astype(np.float32), y.astype(np.int64)


class _MotionNet(nn.Module):
    """Takes signals (N, time, axes) as they are recorded."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right = right
        self.conv1 = nn.Conv1d(3, 12, 7, stride=2, padding=3)
        self.conv2 = nn.Conv1d(12, 24, 5, stride=2, padding=2)
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, time, axes = x.shape
        x = x.permute(0, 2, 1) if self.right else x.view(n, axes, time)
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        return self.head(x.amax(2))


@fault("data.scrambled")
def axes_of_a_sensor_viewed_inside_forward(seed: int, fixed: bool = False) -> Case:
    """(N, time, axes) made (N, axes, time) by `view`."""
    x, y = (torch.from_numpy(a) for a in _motions(seed, 900))
    torch.manual_seed(seed)
    return Case(
        _MotionNet(fixed),
        batches(x[:600], y[:600], 24, seed),
        (x[600:], y[600:]),
        functional.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=5e-3),
    )
