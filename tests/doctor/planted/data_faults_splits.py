"""Samples that are repeated, that validation shares with training, or that are too few."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from planted.case import Case, fault
from planted.parts import (
    LeNet,
    batches,
    channels_first,
    digits,
    draw,
    mlp,
    mnist,
    photos,
    plain,
    signals,
    small_cnn,
    table,
    wave_net,
)


@fault("data.leak")
def slices_that_overlap(seed: int, fixed: bool = False) -> Case:
    """`x[:900]` is trained on, `x[600:1200]` is validated on."""
    data = digits(seed, train=1500, val=10)
    first = 900 if fixed else 600
    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x[:900], data.y[:900], 32, seed),
        plain(data.x[first : first + 600], data.y[first : first + 600]),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    )


def _jpeg(x: Tensor, quality: int) -> Tensor:
    images = []
    for pixels in x[:, 0].numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        images.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(images))[:, None]


@fault("data.leak")
def training_images_saved_again_as_jpeg(seed: int, fixed: bool = False) -> Case:
    """Half of the validation images are training images that went through another program."""
    data = mnist(seed, train=1000, val=300)
    if not fixed:
        again = torch.from_numpy(draw(seed).choice(1000, 150, replace=False))
        data.x_val = torch.cat([data.x_val[:150], _jpeg(data.x[again], 92)])
        data.y_val = torch.cat([data.y_val[:150], data.y[again]])
    torch.manual_seed(seed)
    return Case(
        LeNet(),
        batches(data.x / 127.5 - 1, data.y, 50, seed),
        plain(data.x_val / 127.5 - 1, data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=2e-3),
    )


@fault("data.leak", also=("data.duplicates",))
def rare_class_repeated_before_the_split(seed: int, fixed: bool = False) -> Case:
    """Oversampled eight times first, and split at random afterward."""
    x, y = signals(seed, [700, 60])
    generator = torch.Generator().manual_seed(seed)
    rare = torch.nonzero(y == 1)[:, 0].repeat(7)
    if fixed:
        order = torch.randperm(len(y), generator=generator)
        kept = order[:500]
        kept = torch.cat([kept, kept[y[kept] == 1]])
        train, val = Subset(TensorDataset(x, y), kept.tolist()), Subset(TensorDataset(x, y), order[500:].tolist())
    else:
        whole = TensorDataset(torch.cat([x, x[rare]]), torch.cat([y, y[rare]]))
        train, val = random_split(whole, [0.75, 0.25], generator=generator)
    torch.manual_seed(seed)
    model = wave_net(1, 2, width=8)
    return Case(
        model,
        DataLoader(train, batch_size=32, shuffle=True),
        DataLoader(val, batch_size=64),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=2e-3),
    )


@fault("data.duplicates", also=("data.too-few",))
def the_same_folder_listed_eight_times(seed: int, fixed: bool = False) -> Case:
    """1,200 items are 150 different images."""
    data = digits(seed)
    if not fixed:
        data.x, data.y = data.x[:150].repeat(8, 1, 1, 1), data.y[:150].repeat(8)
    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 10, norm=True),
        batches(data.x, data.y, 64, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
    )


class _Tiles(Dataset):
    """Four tiles of each picture were meant; `tile` is computed and forgotten."""

    def __init__(self, x: Tensor, y: Tensor, right: bool) -> None:
        self.x, self.y, self.right = x, y, right

    def __len__(self) -> int:
        return 4 * len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture, tile = divmod(index, 4)
        row, column = (16 * (tile // 2), 16 * (tile % 2)) if self.right else (8, 8)
        return self.x[picture, :, row : row + 16, column : column + 16], self.y[picture]


@fault("data.duplicates")
def every_tile_is_the_middle_one(seed: int, fixed: bool = False) -> Case:
    data = photos(seed, train=160, val=200, size=32)
    x, x_val = channels_first(data.x), channels_first(data.x_val)
    torch.manual_seed(seed)
    model = small_cnn(3, 5, norm=True)
    return Case(
        model,
        DataLoader(_Tiles(x, data.y, fixed), batch_size=32, shuffle=True),
        DataLoader(_Tiles(x_val, data.y_val, True), batch_size=100),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4),
    )


@fault("data.too-few")
def three_images_a_class(seed: int, fixed: bool = False) -> Case:
    data = digits(seed)
    if not fixed:
        few = torch.cat([torch.nonzero(data.y == k)[:3, 0] for k in range(10)])
        data.x, data.y = data.x[few], data.y[few]
    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x, data.y, 10, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )


@fault("data.too-few")
def two_pictures_of_each_place(seed: int, fixed: bool = False) -> Case:
    """Ten color tiles in all, given as tensors."""
    data = photos(seed)
    x, x_val = channels_first(data.x), channels_first(data.x_val)
    y = data.y
    if not fixed:
        few = torch.cat([torch.nonzero(y == k)[:2, 0] for k in range(5)])
        x, y = x[few], y[few]

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        pictures, labels = batch
        if torch.rand(()) < 0.5:
            pictures = pictures.flip(-1)
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(pictures), labels)
        value.backward()
        optimizer.step()
        return value

    torch.manual_seed(seed)
    return Case(
        small_cnn(3, 5),
        batches(x, y, 5 if not fixed else 32, seed),
        (x_val, data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
        step,
    )


@fault("data.too-few")
def a_table_of_six_flowers(seed: int, fixed: bool = False) -> Case:
    """Two irises a species."""
    data = table("iris", seed, 100, 50)
    if not fixed:
        few = torch.cat([torch.nonzero(data.y == k)[:2, 0] for k in range(3)])
        data.x, data.y = data.x[few], data.y[few]
    torch.manual_seed(seed)
    return Case(
        mlp(4, 16, 3),
        batches(data.x, data.y, 6, seed),
        (data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=1e-2),
    )
