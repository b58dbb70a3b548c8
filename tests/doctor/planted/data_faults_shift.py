"""Training and validation preprocessed differently."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from planted.case import Case, fault
from planted.parts import (
    LeNet,
    batches,
    channels_first,
    digits,
    mlp,
    mnist,
    photos,
    plain,
    residual_net,
    small_cnn,
    table,
)


@fault("data.shift")
def validation_divided_by_255_twice(seed: int, fixed: bool = False) -> Case:
    data = mnist(seed)
    torch.manual_seed(seed)
    model = LeNet()
    return Case(
        model,
        batches(data.x / 255, data.y, 50, seed),
        plain(data.x_val / 255 / (1 if fixed else 255), data.y_val),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    )


@fault("data.shift")
def blue_first_in_validation(seed: int, fixed: bool = False) -> Case:
    """Read by another library: BGR instead of RGB."""
    data = photos(seed)
    x, x_val = channels_first(data.x), channels_first(data.x_val)
    torch.manual_seed(seed)
    return Case(
        residual_net(3, 5, width=8),
        batches(x, data.y, 32, seed),
        plain(x_val if fixed else x_val.flip(1), data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
    )


@fault("data.shift")
def validation_not_standardized(seed: int, fixed: bool = False) -> Case:
    """A table: the scaler was applied to the training part only."""
    data, raw = table("breast_cancer", seed, 400, 160), table("breast_cancer", seed, 400, 160, scaled=False)
    x_val = data.x_val if fixed else raw.x_val
    torch.manual_seed(seed)
    model = mlp(30, 32, 1)
    return Case(
        model,
        batches(data.x, data.y.float()[:, None], 20, seed),
        plain(x_val, data.y_val.float()[:, None]),
        nn.BCEWithLogitsLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )


class _Resized(Dataset):
    """Pictures brought to `size` pixels."""

    def __init__(self, x: Tensor, y: Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, size

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = functional.interpolate(self.x[index][None], size=(self.size, self.size), mode="bilinear")[0]
        return picture, self.y[index]


@fault("data.shift")
def validation_is_of_another_size(seed: int, fixed: bool = False) -> Case:
    """Trained at 12 × 12, validated at 36 × 36: digits look three times as large to the filters."""
    data = digits(seed, train=800, val=200)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        model.train()
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value

    torch.manual_seed(seed)
    return Case(
        residual_net(1, 10, width=8),
        DataLoader(_Resized(data.x, data.y, 12), batch_size=32, shuffle=True),
        DataLoader(_Resized(data.x_val, data.y_val, 12 if fixed else 36), batch_size=100),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=2e-3),
        step,
    )


@fault("data.shift")
def black_on_white_in_validation(seed: int, fixed: bool = False) -> Case:
    """The validation set was scanned from paper, and not inverted as the training set was."""
    data = digits(seed, scaled=False)
    x, x_val = data.x / 16, data.x_val / 16
    torch.manual_seed(seed)
    model = small_cnn(1, 10, norm=True)
    return Case(
        model,
        batches(x, data.y, 64, seed),
        plain(x_val if fixed else 1 - x_val, data.y_val),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        optim.RMSprop(model.parameters(), lr=1e-3),
    )
