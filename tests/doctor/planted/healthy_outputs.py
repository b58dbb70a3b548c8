"""Healthy networks for other inputs and other outputs than images and classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from planted.case import Case, healthy
from planted.healthy_sources import digits, loader, loaders, scenes, signals, split, volumes

Batch = list[Tensor]
Optimizer = torch.optim.Optimizer


@healthy
def filters_over_a_signal(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(split(*signals(seed), 600, 200, seed), 50)
    model = nn.Sequential(
        nn.Conv1d(1, 12, 7, padding=3), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(12, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3))


@healthy
def filters_over_a_volume(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(split(*volumes(seed), 300, 100, seed), 25)
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(12, 2),
    )  # fmt: skip
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


class RowByRow(nn.Module):
    """A recurrent network that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 40, batch_first=True)
        self.head = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.rnn(x.squeeze(1))
        return self.head(last[-1])


@healthy
def recurrent_network_over_rows(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = RowByRow()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3))


class Attention(nn.Module):
    """Rows of an image as words, each looking at all others."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(torch.randn(8, width) * 0.1)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 64, dropout=0.1, batch_first=True, norm_first=True) for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        words = self.embed(x[:, 0]) + self.place
        for block in self.blocks:
            words = block(words)
        return self.head(self.norm(words).mean(dim=1))


@healthy
def attention_over_rows(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = Attention()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=3e-3))


@healthy
def autoencoder_with_pairs_of_the_same(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed, standardize=False)
    x, x_val = parts.x.flatten(1), parts.x_val.flatten(1)
    model = nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16), nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid()
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train, val = loader(x, x, 50), loader(x_val, x_val, 100, shuffle=False)
    return Case(model, train, val, nn.MSELoss(), optimizer, task="reconstruct")


class Tied(nn.Module):
    """An autoencoder that decodes with the transpose of what it encodes with."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(64, 24)
        self.bias = nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        code = functional.relu(self.encoder(x.flatten(1)))
        return functional.linear(code, self.encoder.weight.t(), self.bias).view_as(x)


@healthy
def autoencoder_with_tied_weights(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 50)
    model = Tied()

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        images, _ = batch
        optimizer.zero_grad()
        error = loss(model(images), images)
        error.backward()
        optimizer.step()
        return error

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Case(model, train, val, nn.MSELoss(), optimizer, step, "reconstruct")


class DownAndUp(nn.Module):
    """A class for each pixel: half the size and back, with what was seen at full size beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 20, 3, padding=1), nn.BatchNorm2d(20), nn.ReLU())
        self.up = nn.ConvTranspose2d(20, 12, 2, stride=2)
        self.leave = nn.Conv2d(24, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.enter(x)
        return self.leave(torch.cat([wide, self.up(self.down(wide))], dim=1))


@healthy
def a_class_for_each_pixel(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(split(*scenes(seed), 240, 60, seed), 16)
    model = DownAndUp()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, task="segment")


class Embedding(nn.Module):
    """A direction in 16 dimensions for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layers(x), dim=1)


@healthy
def triplets_of_images(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 60)
    model = Embedding()

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: object) -> Tensor:
        x, y = batch
        z = model(x)
        far = torch.cdist(z, z)
        same = y[:, None] == y[None]
        hardest = (far + 0).masked_fill(~same, -1).amax(1) - far.masked_fill(same, 9).amin(1)
        error = functional.softplus(4 * hardest).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        return error

    return Case(model, train, val, None, torch.optim.Adam(model.parameters(), lr=2e-3), step, "embed")


class TwoHeads(nn.Module):
    """While training, a second head in the middle gives its opinion as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.aside = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(96, 10))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        middle = self.first(x)
        answer = self.head(self.second(middle))
        return (answer, self.aside(middle)) if self.training else answer


@healthy
def auxiliary_head_while_training(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = TwoHeads()

    def step(model: nn.Module, batch: Batch, optimizer: Optimizer, loss: nn.Module) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        answer, opinion = model(x)
        error = loss(answer, y) + 0.3 * loss(opinion, y)
        error.backward()
        optimizer.step()
        return error

    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


class Locate(nn.Module):
    """Two coordinates, of where the bright spot is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.out = nn.Linear(16 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.max_pool2d(functional.relu(self.conv(x)), 2).flatten(1))


@healthy
def where_the_spot_is(seed: int) -> Case:
    torch.manual_seed(seed)
    place = torch.rand(700, 2, generator=torch.Generator().manual_seed(seed)) * 5 + 1
    grid = torch.arange(8.0)
    away = (grid[None, :, None] - place[:, 0, None, None]) ** 2 + (grid[None, None] - place[:, 1, None, None]) ** 2
    x = torch.exp(-away / 2) + 0.1 * torch.randn(700, 8, 8)
    x = ((x - x.mean()) / x.std())[:, None]
    train, val = loaders(split(x, (place - 3.5) / 1.45, 500, 200, seed), 50)
    model = Locate()
    return Case(model, train, val, nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=2e-3), task="regress")
