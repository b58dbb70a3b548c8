"""Networks that fit too well, not well enough, no longer, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from planted.case import Case, fault
from planted.learning import learn
from planted.parts import batches, digits, draw, mlp, plain, small_cnn, table


@fault("fit.overfit")
def every_patient_learned_by_heart(seed: int, fixed: bool = False) -> Case:
    """A trained network: 250 rows, 70,000 parameters, no regularization."""
    data = table("diabetes", seed, 250, 190)
    y, y_val = (data.y > 140).float()[:, None], (data.y_val > 140).float()[:, None]
    torch.manual_seed(seed)
    model = mlp(10, 8, 1) if fixed else mlp(10, 256, 256, 1)
    optimizer = optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-2 if fixed else 0.0)
    case = Case(model, batches(data.x, y, 32, seed), plain(data.x_val, y_val), nn.BCEWithLogitsLoss(), optimizer)
    learn(case, 12 if fixed else 60)
    return case


@fault("fit.overfit", also=("data.too-few",))
def two_hundred_columns_for_a_hundred_rows(seed: int, fixed: bool = False) -> Case:
    """Six columns matter; nothing is trained yet."""
    rng = draw(seed)
    x = rng.normal(size=(2500, 200)).astype(np.float32)
    y = ((x[:, :6] * [1.5, -1.2, 1, 1, -0.8, 0.8]).sum(1) + rng.normal(0, 0.5, 2500) > 0).astype(np.int64)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    rows = 2000 if fixed else 120
    torch.manual_seed(seed)
    return Case(
        mlp(200, 128, 2),
        batches(inputs[:rows], targets[:rows], 24, seed),
        plain(inputs[2000:], targets[2000:]),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.AdamW(parameters, lr=3e-3, weight_decay=0.0),
    )


@fault("fit.overfit")
def a_regression_trained_for_too_long(seed: int, fixed: bool = False) -> Case:
    data = table("diabetes", seed, 260, 180)
    y, y_val = (data.y[:, None] - 152) / 77, (data.y_val[:, None] - 152) / 77
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 200), nn.Tanh(), nn.Linear(200, 100), nn.Tanh(), nn.Linear(100, 1))
    optimizer = optim.Adam(model.parameters(), lr=1e-3 if fixed else 3e-3)
    case = Case(model, batches(data.x, y, 26, seed), (data.x_val, y_val), nn.MSELoss(), optimizer, task="regress")
    learn(case, 3 if fixed else 80)
    return case


def _spirals(seed: int, count: int) -> tuple[Tensor, Tensor]:
    rng = draw(seed, 9)
    y = rng.integers(0, 2, count)
    radius = np.sqrt(rng.uniform(0.05, 1, count))
    angle = 10 * radius + np.pi * y
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) + rng.normal(0, 0.02, (count, 2))
    return torch.from_numpy((2 * x).astype(np.float32)), torch.from_numpy(y)


@fault("fit.underfit", also=("model.too-small", "model.no-nonlinearity"))
def a_straight_line_between_two_spirals(seed: int, fixed: bool = False) -> Case:
    x, y = _spirals(seed, 1000)
    torch.manual_seed(seed)
    model = mlp(2, 64, 64, 2) if fixed else nn.Linear(2, 2)
    return Case(
        model,
        batches(x[:700], y[:700], 32, seed),
        plain(x[700:], y[700:]),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=1e-2),
    )


@fault("fit.underfit", also=("model.too-small",))
def two_units_for_a_landscape(seed: int, fixed: bool = False) -> Case:
    """Hills and valleys over a square."""
    rng = draw(seed)
    x = rng.uniform(-1, 1, (1200, 2)).astype(np.float32)
    y = (np.sin(3 * x[:, 0]) + np.cos(4 * x[:, 1])).astype(np.float32)[:, None]
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    if not fixed:
        model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    return Case(
        model,
        batches(inputs[:900], targets[:900], 50, seed),
        (inputs[900:], targets[900:]),
        nn.MSELoss(),
        optim.AdamW(model.parameters(), lr=1e-2),
        task="regress",
    )


@fault("fit.underfit", also=("model.too-small",))
def three_numbers_for_ten_digits(seed: int, fixed: bool = False) -> Case:
    """Three filters, and only their means are kept."""
    data = digits(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10)
    )
    if fixed:
        model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x, data.y, 40, seed),
        plain(data.x_val, data.y_val),
        functional.cross_entropy,
        optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    )


@fault("fit.plateau", also=("optim.lr-too-high",))
def prices_that_no_longer_improve(seed: int, fixed: bool = False) -> Case:
    """Trained at a constant rate until the noise of the steps is all that is left; a tenth of it goes on."""
    data = table("boston", seed, 400, 106)
    y, y_val = (data.y[:, None] - 22.5) / 9.2, (data.y_val[:, None] - 22.5) / 9.2
    torch.manual_seed(seed)
    model = mlp(13, 32, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    case = Case(
        model, batches(data.x, y, 8, seed), plain(data.x_val, y_val), nn.SmoothL1Loss(), optimizer, task="regress"
    )
    learn(case, 16)
    if fixed:
        optimizer.param_groups[0]["lr"] /= 20
    return case


@fault("fit.plateau", also=("optim.lr-too-high",))
def digits_at_a_constant_rate(seed: int, fixed: bool = False) -> Case:
    data = digits(seed, train=800)
    torch.manual_seed(seed)
    model = mlp(64, 32, 10, activation=nn.Tanh)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    case = Case(
        model,
        batches(data.x, data.y, 8, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        optimizer,
    )
    learn(case, 8)
    if fixed:
        optimizer.param_groups[0]["lr"] /= 20
    return case


def _both_labels(samples: list[Any]) -> tuple[Tensor, Tensor]:
    """Each picture once for each of its labels."""
    x, y = torch.stack([x for x, _ in samples]), torch.stack([y for _, y in samples])
    return x.repeat_interleave(2, 0), y.flatten()


def _left_label(samples: list[Any]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in samples]), torch.stack([y[0] for _, y in samples])


@fault("fit.cannot-overfit-batch", also=("data.label-noise", "data.duplicates", "loss.wrong-for-task"))
def two_labels_for_a_picture(seed: int, fixed: bool = False) -> Case:
    """Pairs of digits; each picture is given twice, with either label."""
    data = digits(seed, train=1200, val=400)
    sets = []
    for x, y in ((data.x, data.y), (data.x_val, data.y_val)):
        sets.append(TensorDataset(torch.cat([x[0::2], x[1::2]], 3), torch.stack([y[0::2], y[1::2]], 1)))
    collate = _left_label if fixed else _both_labels
    torch.manual_seed(seed)
    return Case(
        mlp(128, 128, 10),
        DataLoader(sets[0], batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(sets[1], batch_size=100, collate_fn=collate),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
    )


class _NoisyCode(nn.Module):
    """Noise is added to a normalized code, in evaluation too."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 8), nn.LayerNorm(8, elementwise_affine=False)
        )
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 10))
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        return self.decoder(code + self.noise * torch.randn_like(code))


@fault("fit.cannot-overfit-batch", also=("fit.underfit", "model.mode", "model.dropout-too-high"))
def noise_larger_than_the_code(seed: int, fixed: bool = False) -> Case:
    data = digits(seed)
    torch.manual_seed(seed)
    model = _NoisyCode(0.1 if fixed else 3.0)
    return Case(
        model,
        batches(data.x, data.y, 32, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )
