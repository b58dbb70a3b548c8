"""Networks through which the gradient vanishes, explodes, is the same for all units, or does not pass."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.networks import digits, mnist, prices, waves


@fault("model.vanishing-gradient")
def twelve_sigmoid_layers(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    activation = nn.ReLU if fixed else nn.Sigmoid
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, 48), activation()]
    for _ in range(11):
        layers += [nn.Linear(48, 48), activation()]
        if fixed:
            nn.init.kaiming_normal_(layers[-2].weight)
    model = nn.Sequential(*layers, nn.Linear(48, 10))
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


class DeepConv(nn.Module):
    def __init__(self, depth: int, std: float | None) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1) for i in range(depth))
        self.fc = nn.Linear(8 * 4, 10)
        for conv in self.convs:
            if std is None:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            else:
                nn.init.normal_(conv.weight, std=std)
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            if i in (2, 5):
                x = F.max_pool2d(x, 2)
        return self.fc(x.flatten(1))


@fault("model.vanishing-gradient")
def ten_convolutions_with_weights_of_a_hundredth(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = DeepConv(10, None if fixed else 0.01)
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))


@fault("model.vanishing-gradient")
def signal_network_of_sigmoids(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    squash = F.elu if fixed else torch.sigmoid

    class Signal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [1, 8, 8, 12, 12, 16, 16, 16, 16]
            self.convs = nn.ModuleList(
                nn.Conv1d(a, b, 5, stride=1 + i % 2, padding=2) for i, (a, b) in enumerate(pairwise(sizes))
            )
            self.head = nn.Linear(16 * 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            for conv in self.convs:
                x = squash(conv(x))
            return self.head(x.flatten(1))

    model = Signal()
    train, val = waves(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.AdamW(params, lr=2e-3))


@fault("model.exploding-gradient")
def relu_layers_with_weights_of_one_half(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten())
    for _ in range(10):
        layer = nn.Linear(64, 64)
        nn.init.normal_(layer.weight, std=(2 / 64) ** 0.5 if fixed else 0.5)
        model.extend([layer, nn.ReLU()])
    model.append(nn.Linear(64, 10))
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))


@fault("model.exploding-gradient")
def orthogonal_layers_with_a_gain_of_three(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv1d(1, 24, 9, stride=2), nn.LeakyReLU(0.2))
    for _ in range(8):
        model.extend([nn.Conv1d(24, 24, 1), nn.LeakyReLU(0.2)])
        nn.init.orthogonal_(model[-2].weight, gain=1.35 if fixed else 4.0)
    model.extend([nn.Flatten(), nn.Linear(24 * 28, 3)])
    train, val = waves(seed).loaders(40, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.02))


class Sines(nn.Module):
    """Sitzmann et al. 2020, Implicit neural representations with periodic activation functions."""

    def __init__(self, omega: float, own_weights: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64 if i == 0 else 40, 40) for i in range(7))
        self.out = nn.Linear(40, 10)
        self.omega = omega
        for layer in self.layers if own_weights else []:
            reach = (6 / layer.in_features) ** 0.5 / omega
            nn.init.uniform_(layer.weight, -reach, reach)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1) / 2
        for layer in self.layers:
            x = torch.sin(self.omega * layer(x))
        return self.out(x)


@fault("model.exploding-gradient")
def sines_without_their_small_weights(seed: int, fixed: bool = False) -> Case:
    """The outputs stay within bounds; the slope grows sixfold a layer."""
    torch.manual_seed(seed)
    model = Sines(15.0, own_weights=fixed)
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.Adam(params, lr=2e-4))


@fault("model.symmetric-init")
def hidden_weights_of_one_constant(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if not fixed:
        for layer in (model[1], model[3]):
            nn.init.constant_(layer.weight, 0.05)
            nn.init.constant_(layer.bias, 0.1)
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@fault("model.symmetric-init")
def all_weights_zero(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def initialize(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            if not fixed:
                nn.init.zeros_(module.weight)
            else:
                nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)

    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 24, 3), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10)
    )
    model.apply(initialize)
    train, val = digits(seed).loaders(50, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


class OwnLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, ones: bool) -> None:
        super().__init__()
        start = torch.ones(inputs, outputs) if ones else torch.randn(inputs, outputs)
        self.weight = nn.Parameter(start / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


@fault("model.symmetric-init")
def own_layers_that_begin_with_ones(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    ones = not fixed
    model = nn.Sequential(OwnLinear(64, 32, ones), nn.Tanh(), OwnLinear(32, 32, ones), nn.Tanh(), nn.Linear(32, 10))
    train, val = digits(seed).flat().pairs()
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9))


class Detaching(nn.Module):
    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(4, 6, 5), nn.ReLU()
        )
        self.classifier = nn.Linear(24, 10)
        self.detach = detach

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return self.classifier((features.detach() if self.detach else features).flatten(1))


@fault("model.graph-detached")
def features_detached_before_the_classifier(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = Detaching(not fixed)
    train, val = mnist(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


class ThroughNumpy(nn.Module):
    def __init__(self, numpy: bool) -> None:
        super().__init__()
        self.encode = nn.Linear(13, 4)
        self.decode = nn.Linear(4, 1)
        self.numpy = numpy

    def forward(self, x: Tensor) -> Tensor:
        h = self.encode(x)
        h = torch.from_numpy(np.sin(h.detach().numpy())) if self.numpy else torch.sin(h)
        return self.decode(h)


@fault("model.graph-detached")
def activation_computed_by_numpy(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = ThroughNumpy(not fixed)
    train, val = prices(seed).loaders(20, seed)
    return Case(
        model, train, val, nn.MSELoss(), torch.optim.SGD(model.parameters(), 0.02, momentum=0.9), task="regress"
    )


@fault("model.graph-detached")
def loss_made_anew_from_its_value(seed: int, fixed: bool = False) -> Case:
    """What people write when backward complains that nothing requires a gradient."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        value = loss(model(x), y)
        if not fixed:
            value = torch.tensor(value.item(), requires_grad=True)
        value.backward()
        optimizer.step()
        return value

    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)
