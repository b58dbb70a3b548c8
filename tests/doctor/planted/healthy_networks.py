"""Healthy networks of many architectures, mostly on small digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from planted.case import Case, healthy
from planted.healthy_sources import digits, loader, loaders, mnist, prototypes, split


@healthy
def plain_convolutions_with_momentum(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


class ResidualBlock(nn.Module):
    """Two convolutions around which the input goes; the last scale starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))))


@healthy
def residual_blocks_with_zero_scale(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 32)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        ResidualBlock(12), ResidualBlock(12), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


class ReZero(nn.Module):
    """x + scale · f(x), the scale zero at first: f gets no gradient until the scale has moved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x)


@healthy
def branches_scaled_by_zero_at_first(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 32)
    blocks = [ReZero(48) for _ in range(4)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.GELU(), *blocks, nn.LayerNorm(48), nn.Linear(48, 10))
    return Case(model, train, val, functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=1e-3))


@healthy
def group_norm_with_batches_of_eight(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed, train=400, val=200), 8)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.Adam(params, lr=1e-3))


class LeNet(nn.Module):
    """The network of 1998: tanh, average pooling, three full layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = functional.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(x.flatten(1)))
        return self.fc3(torch.tanh(self.fc2(x)))


@healthy
def lenet_with_tanh(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = mnist(seed, train=1000, val=200)
    train = loader(parts.x.float() / 127.5 - 1, parts.y, 32)
    val = loader(parts.x_val.float() / 127.5 - 1, parts.y_val, 100, shuffle=False)
    model = LeNet()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """One filter a channel, then a mixture of channels."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6(),
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6(),
    )  # fmt: skip


@healthy
def depthwise_separable_convolutions(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 10))
    model = nn.Sequential(stem, separable(8, 16), nn.MaxPool2d(2), separable(16, 32), head)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.RMSprop(model.parameters(), lr=4e-3))


class Dense(nn.Module):
    """Each layer sees all feature maps before it."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels + i * growth, growth, 3, padding=1, bias=False),
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


@healthy
def dense_blocks(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 32)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), Dense(8, 4, 3), nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 12, 1),
        nn.AvgPool2d(2), Dense(12, 6, 2), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(96, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


class Maxout(nn.Module):
    """The largest of some linear functions; no other nonlinearity."""

    def __init__(self, inputs: int, outputs: int, pieces: int = 3) -> None:
        super().__init__()
        self.linear, self.pieces = nn.Linear(inputs, outputs * pieces), pieces

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(dim=2)


@healthy
def maxout_layers(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = nn.Sequential(nn.Flatten(), Maxout(64, 32), nn.Dropout(0.2), Maxout(32, 32), nn.Linear(32, 10))
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9))


class Gate(nn.Module):
    """Channels weighted by a sigmoid of their averages (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.sigmoid(self.up(functional.relu(self.down(x.mean(dim=(2, 3))))))
        return x * weight[:, :, None, None]


@healthy
def channels_weighted_by_their_averages(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.SiLU(), Gate(12), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.SiLU(), Gate(24),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=3e-3))


@healthy
def a_hundred_classes(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(split(*prototypes(seed), 1000, 200, seed))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 100))
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


@healthy
def self_normalizing_layers(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (64, 40, 40, 40):
        linear = nn.Linear(inputs, 40)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="linear")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.SELU(), nn.AlphaDropout(0.05)]
    model = nn.Sequential(*layers, nn.Linear(40, 10))
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))


@healthy
def weights_of_learned_length(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(1, 16, 3)), nn.LeakyReLU(0.1),
        parametrizations.weight_norm(nn.Conv2d(16, 16, 3)), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


class Parallel(nn.Module):
    """Filters of three sizes beside each other."""

    def __init__(self, inputs: int, each: int) -> None:
        super().__init__()
        self.paths = nn.ModuleDict({f"k{k}": nn.Conv2d(inputs, each, k, padding=k // 2) for k in (1, 3, 5)})
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(torch.cat([path(x) for path in self.paths.values()], dim=1))


@healthy
def filters_of_three_sizes(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 50)
    pool = nn.LPPool2d(2, 2)
    model = nn.Sequential(Parallel(1, 5), pool, Parallel(15, 5), nn.Flatten(), nn.Linear(240, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)
