"""Networks whose units are dead or saturated, or that have no nonlinearity."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.networks import digits, mnist, table, waves


@fault("model.dead-units")
def biases_far_below_zero(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    for layer in (model[0], model[3]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.constant_(layer.bias, 0.0 if fixed else -10.0)
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


@fault("model.dead-units")
def weights_around_a_negative_mean_behind_a_relu(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Perceptron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(64, 96)
            self.second = nn.Linear(96, 48)
            self.third = nn.Linear(48, 10)
            nn.init.normal_(self.second.weight, mean=0.0 if fixed else -0.5, std=0.1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x.view(x.size(0), -1)))
            x = torch.relu(self.second(x))
            return self.third(x)

    model = Perceptron()
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=1e-3))


@fault("model.dead-units")
def batch_norm_shifted_far_below_zero(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential()
    for inputs, outputs in ((30, 48), (48, 24)):
        norm = nn.BatchNorm1d(outputs)
        nn.init.constant_(norm.bias, 0.0 if fixed else -8.0)
        model.extend([nn.Linear(inputs, outputs, bias=False), norm, nn.ReLU()])
    model.append(nn.Linear(24, 2))
    train, val = table("breast_cancer", seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


class Thresholded(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.a = nn.Conv1d(1, 16, 9, stride=2)
        self.b = nn.Conv1d(16, 24, 5, stride=2)
        self.c = nn.Linear(24, 3)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = F.relu(self.b(x) - self.threshold)
        return self.c(x.mean(-1))


@fault("model.dead-units")
def threshold_that_no_unit_reaches(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = Thresholded(0.0 if fixed else 5.0)
    train, val = waves(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=5e-3))


@fault("model.saturated")
def tanh_with_weights_of_a_standard_normal(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=64**-0.5 if fixed else 4.0)
    model.append(nn.Linear(64, 10))
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


class SigmoidLeNet(nn.Module):
    def __init__(self, reach: float) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.c2 = nn.Conv2d(6, 16, 5)
        self.f1 = nn.Linear(256, 64)
        self.f2 = nn.Linear(64, 10)
        for layer in (self.c1, self.c2, self.f1):
            fan = layer.weight[0].numel()
            nn.init.uniform_(layer.weight, -reach * fan**-0.5, reach * fan**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.sigmoid(self.c1(x)), 2)
        x = F.avg_pool2d(torch.sigmoid(self.c2(x)), 2)
        return self.f2(torch.sigmoid(self.f1(x.flatten(1))))


@fault("model.saturated")
def sigmoid_lenet_with_huge_weights(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = SigmoidLeNet(4.0 if fixed else 100.0)
    train, val = mnist(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.Adam(params, lr=5e-3))


@fault("model.saturated")
def hard_tanh_of_sums_that_nobody_scaled(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    scale = 0.02 if fixed else 1.0

    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1 = nn.Parameter(torch.randn(32, 1, 9) * 10)
            self.w2 = nn.Parameter(torch.randn(32, 32, 5) * 10)
            self.out = nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.hardtanh(F.conv1d(x, self.w1 * scale, stride=2))
            x = F.hardtanh(F.conv1d(x, self.w2 * scale, stride=2))
            return self.out((x**2).mean(2))

    model = Energy()
    train, val = waves(seed).loaders(50, seed)
    return Case(model, train, val, F.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.03))


@fault("model.no-nonlinearity")
def convolutions_without_an_activation(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    between = nn.ReLU if fixed else nn.Identity
    model = nn.Sequential(
        nn.Conv1d(1, 16, 9, stride=2),
        nn.BatchNorm1d(16),
        between(),
        nn.Conv1d(16, 24, 5, stride=2),
        nn.BatchNorm1d(24),
        between(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    train, val = waves(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


class ForgottenResult(nn.Module):
    def __init__(self, forgotten: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 48), nn.Linear(48, 48), nn.Linear(48, 48)])
        self.head = nn.Linear(48, 3)
        self.forgotten = forgotten

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
            y = F.relu(x)  # its result goes nowhere
            if not self.forgotten:
                x = y
        return self.head(x)


@fault("model.no-nonlinearity")
def result_of_relu_that_goes_nowhere(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = ForgottenResult(not fixed)
    train, val = waves(seed, train=1200).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.AdamW(params, lr=2e-3))


@fault("model.no-nonlinearity")
def deep_perceptron_of_linear_layers_and_dropout(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in ((64, 128), (128, 128), (128, 64)):
        layers += [nn.Linear(wide, narrow), nn.SELU()] if fixed else [nn.Linear(wide, narrow), nn.Dropout(0.1)]
    model = nn.Sequential(*layers, nn.Linear(64, 3)).double()
    data = waves(seed, train=1200).double()
    train, val = data.loaders(100, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))
