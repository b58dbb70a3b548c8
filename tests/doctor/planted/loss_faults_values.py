"""Losses that are not finite, that start far off, or that something trivial minimizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from planted.case import Case, fault
from planted.parts import LeNet, batches, digits, mlp, mnist, plain, signals, small_cnn, table, wave_net


@fault("loss.not-finite")
def logarithm_of_a_negative_prediction(seed: int, fixed: bool = False) -> Case:
    """The squared logarithmic error of prices; nothing keeps the prediction positive."""
    data = table("boston", seed, 400, 106)
    torch.manual_seed(seed)
    model: nn.Module = mlp(13, 32, 1)
    if fixed:
        model = nn.Sequential(model, nn.Softplus())

    def logarithmic(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((torch.log(outputs) - torch.log(targets)) ** 2).mean()

    return Case(
        model,
        batches(data.x, data.y[:, None] / 20, 20, seed),
        plain(data.x_val, data.y_val[:, None] / 20),
        logarithmic,
        optim.Adam(model.parameters(), lr=3e-3),
        task="regress",
    )


@fault("loss.not-finite")
def class_weights_of_a_batch_that_lacks_a_class(seed: int, fixed: bool = False) -> Case:
    """The weights are one over the counts in the batch, and the loss is their product with zeros."""
    data = digits(seed)

    def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
        counts = torch.bincount(targets, minlength=10).float()
        weights = 1 / (counts.clamp(min=1) if fixed else counts)
        chosen = functional.one_hot(targets, 10) * weights
        return -(chosen * functional.log_softmax(outputs, 1)).sum(1).mean()

    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 10),
        batches(data.x, data.y, 16, seed),
        plain(data.x_val, data.y_val),
        weighted,
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
    )


class _Coder(nn.Module):
    """An autoencoder whose last layer starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 12))
        self.decoder = nn.Sequential(nn.ReLU(), nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 64))
        nn.init.zeros_(self.decoder[-1].weight)
        nn.init.zeros_(self.decoder[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x)).view_as(x)


@fault("loss.not-finite")
def root_whose_slope_at_zero_is_infinite(seed: int, fixed: bool = False) -> Case:
    """Finite at first; its gradient is not, where a pixel is met exactly."""
    data = digits(seed, scaled=False)
    x, x_val = data.x / 16, data.x_val / 16
    least = 1e-4 if fixed else 0.0
    torch.manual_seed(seed)
    return Case(
        _Coder(),
        batches(x, x, 32, seed),
        plain(x_val, x_val),
        lambda outputs, targets: torch.sqrt((outputs - targets) ** 2 + least).mean(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
        task="reconstruct",
    )


@fault("loss.initial-off")
def head_drawn_from_a_wide_normal(seed: int, fixed: bool = False) -> Case:
    """`nn.init.normal_(head.weight)`, whose default deviation is 1: outputs in the tens."""
    data = mnist(seed)
    torch.manual_seed(seed)
    model = LeNet()
    for layer in (model.conv1, model.conv2, model.fc1):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    nn.init.normal_(model.fc2.weight, std=0.05 if fixed else 1.0)
    return Case(
        model,
        batches(data.x / 127.5 - 1, data.y, 50, seed),
        plain(data.x_val / 127.5 - 1, data.y_val),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=1e-3),
    )


class _Cosine(nn.Module):
    """Cosines between features and one direction a class, over a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.features = mlp(64, 64, 32, activation=nn.GELU)
        self.directions = nn.Parameter(torch.randn(10, 32))
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        h = functional.normalize(self.features(x), dim=1)
        return h @ functional.normalize(self.directions, dim=1).T / self.temperature


@fault("loss.initial-off")
def temperature_of_a_thousandth(seed: int, fixed: bool = False) -> Case:
    """Cosines divided by 0.001: outputs in the hundreds."""
    data = digits(seed, train=800)
    torch.manual_seed(seed)
    return Case(
        _Cosine(0.1 if fixed else 0.001),
        batches(data.x, data.y, 40, seed),
        plain(data.x_val, data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=1e-3),
    )


@fault("loss.initial-off")
def bias_for_one_class(seed: int, fixed: bool = False) -> Case:
    """The last bias is set to the count of each class where the logarithm of its share was meant."""
    x, y = signals(seed, [300, 60, 60, 180])
    counts = torch.bincount(y[:450], minlength=4).float()
    torch.manual_seed(seed)
    model = wave_net(1, 4)
    with torch.no_grad():
        model[-1].bias.copy_((counts / counts.sum()).log() if fixed else counts)
    return Case(
        model,
        batches(x[:450], y[:450], 32, seed),
        plain(x[450:], y[450:]),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
    )


@fault("loss.degenerate")
def mask_that_is_the_wrong_way_round(seed: int, fixed: bool = False) -> Case:
    """The mean over the samples without a label, of which there are none: the loss is always 0."""
    data = digits(seed)

    def masked(outputs: Tensor, targets: Tensor) -> Tensor:
        known = (targets >= 0) if fixed else (targets < 0)
        each = functional.cross_entropy(outputs, targets, reduction="none")
        return (each * known).sum() / known.sum().clamp(min=1)

    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x, data.y, 32, seed),
        plain(data.x_val, data.y_val),
        masked,
        optim.Adam(model.parameters(), lr=3e-3),
    )


def _together(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances of all pairs, and which of them are of one class."""
    distances = (outputs[:, None] - outputs[None]).pow(2).sum(-1)
    return distances, targets[:, None] == targets[None]


@fault("loss.degenerate", also=("model.collapsed",))
def embedding_without_negatives(seed: int, fixed: bool = False) -> Case:
    """Pairs of one class are pulled together and nothing is pushed apart: one point for all is the best."""
    data = digits(seed)

    def contrastive(outputs: Tensor, targets: Tensor) -> Tensor:
        distances, same = _together(outputs, targets)
        pulled = distances[same].mean()
        return pulled + functional.relu(2 - distances[~same]).mean() if fixed else pulled

    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 8),
        batches(data.x, data.y, 60, seed),
        plain(data.x_val, data.y_val),
        contrastive,
        lambda parameters: optim.Adam(parameters, lr=3e-3),
        task="embed",
    )


class _TwoHeads(nn.Module):
    """A mean and the logarithm of its variance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 48), nn.ReLU())
        self.mean, self.spread = nn.Linear(48, 1), nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return torch.cat([self.mean(h), self.spread(h)], 1)


@fault("loss.degenerate")
def variance_that_costs_nothing(seed: int, fixed: bool = False) -> Case:
    """The Gaussian likelihood without its second term: an infinite variance makes the loss 0."""
    data = table("boston", seed, 400, 106)

    def gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
        mean, spread = outputs.unbind(1)
        value = torch.exp(-spread) * (targets - mean) ** 2
        return (value + spread).mean() if fixed else value.mean()

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        value = loss(model(x), y)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return value.detach()

    torch.manual_seed(seed)
    return Case(
        _TwoHeads(),
        batches(data.x, (data.y - 22.5) / 9.2, 20, seed),
        plain(data.x_val, (data.y_val - 22.5) / 9.2),
        gaussian,
        lambda parameters: optim.Adam(parameters, lr=3e-3),
        step,
        task="regress",
    )
