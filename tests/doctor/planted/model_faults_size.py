"""Networks too small for the task, that shrink too early, see too little, or whose filters are all alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.networks import digits, mnist, pairs_of_spots, prices, pulses, waves


@fault("model.too-small", also=["fit.underfit"])
def hidden_layer_of_one_unit(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    units = 32 if fixed else 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, units), nn.Tanh())
    model.append(nn.Linear(units, 10))
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3))


class Narrow(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, stride=2)
        self.conv2 = nn.Conv2d(width, width, 5, stride=2)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv1(x), 0.1)
        x = F.leaky_relu(self.conv2(x), 0.1)
        return self.fc(F.adaptive_max_pool2d(x, 1)[:, :, 0, 0])


@fault("model.too-small", also=["fit.underfit"])
def convolutions_of_one_filter(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = Narrow(24 if fixed else 1)
    train, val = mnist(seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.AdamW(params, lr=5e-3))


@fault("model.too-small", also=["fit.underfit"])
def classes_squeezed_through_two_units(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    width = 24 if fixed else 2
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


@fault("model.shrinks-too-fast", also=["model.too-small"])
def maps_of_one_pixel_after_the_first_layer(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    stride = 1 if fixed else 4
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=stride, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256 if fixed else 16, 10),
    )
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


class Pooled(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 5, padding=2)
        self.blocks = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(4))
        self.pool = nn.AvgPool2d(size)
        self.head = nn.LazyLinear(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.stem(x)))
        for block in self.blocks:
            x = F.relu(block(x)) + x
        return self.head(x.flatten(1))


@fault("model.shrinks-too-fast", also=["model.too-small"])
def everything_averaged_before_four_convolutions(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = Pooled(4 if fixed else 28)
    data = mnist(seed)
    model(data.x[:2])  # the lazy layer learns its size
    train, val = data.loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.Adam(params, lr=2e-3))


@fault("model.receptive-field")
def two_small_convolutions_for_two_spots_far_apart(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    model = nn.Sequential()
    for inputs, outputs in ((1, 4), (4, 8), (8, 12)):
        stride = 2 if fixed else 1
        model.extend([nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()])
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2)])
    train, val = pairs_of_spots(seed).loaders(16, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3))


class SignalNet(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv1d(1, 12, 3, stride=stride, padding=1)
        self.b = nn.Conv1d(12, 16, 3, stride=stride, padding=1)
        self.c = nn.Conv1d(16, 16, 3, stride=stride, padding=1)
        self.d = nn.Conv1d(16, 16, 3, stride=stride, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in (12, 16, 16, 16))
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip((self.a, self.b, self.c, self.d), self.norms, strict=True):
            x = F.elu(norm(layer(x)))
        return self.out(x.mean(dim=2))


@fault("model.receptive-field")
def nine_steps_of_a_signal_seen_at_once(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = SignalNet(2 if fixed else 1)
    train, val = pulses(seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, torch.optim.AdamW(model.parameters(), lr=5e-3))


@fault("model.redundant-filters", also=["model.symmetric-init"])
def sixteen_copies_of_one_filter(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    if not fixed:
        with torch.no_grad():
            model[0].weight.copy_(model[0].weight[:1] + 1e-3 * torch.randn(16, 1, 5, 5))
            model[0].bias.fill_(0.05)
    train, val = mnist(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))


class Gabor(nn.Module):
    """First filters of one's own: meant are 12 directions; the angle was forgotten."""

    def __init__(self, turn: float) -> None:
        super().__init__()
        y, x = torch.meshgrid(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5), indexing="ij")
        angles = torch.arange(12) * turn
        along = x * angles.cos()[:, None, None] + y * angles.sin()[:, None, None]
        filters = torch.cos(3 * along) * torch.exp(-(x**2) - y**2)
        self.filters = nn.Parameter(filters[:, None] - filters.mean((1, 2))[:, None, None, None])
        self.mix = nn.Conv2d(12, 16, 3)
        self.out = nn.Linear(16 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(F.conv2d(x, self.filters, padding=2))
        x = F.max_pool2d(torch.relu(self.mix(x)), 3)
        return self.out(x.flatten(1))


@fault("model.redundant-filters", also=["model.symmetric-init"])
def gabor_filters_of_one_direction(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = Gabor(torch.pi / 12 if fixed else 0.0)
    train, val = digits(seed).loaders(50, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9))


@fault("model.redundant-filters", also=["model.dead-units"])
def most_filters_pruned_to_nothing(seed: int, fixed: bool = False) -> Case:
    """Feature maps of no variance: 22 of 24 filters of both layers were set to zero."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv1d(1, 24, 9, stride=2), nn.Tanh(), nn.Conv1d(24, 24, 5, stride=2), nn.Tanh(), nn.AdaptiveMaxPool1d(1)
    )
    model.extend([nn.Flatten(), nn.Linear(24, 3)])
    if not fixed:
        with torch.no_grad():
            for layer in (model[0], model[2]):
                layer.weight[2:] = 0
                layer.bias[2:] = 0
    train, val = waves(seed).loaders(32, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("model.dropout-too-high")
def dropout_given_the_share_to_keep(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    p = 0.05 if fixed else 0.95
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p)
    )
    model.append(nn.Linear(64, 10))
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("model.dropout-too-high")
def maps_dropped_nine_times_of_ten(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    rate = 0.1 if fixed else 0.92

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 12, 5, stride=2)
            self.conv2 = nn.Conv2d(12, 24, 3, stride=2)
            self.fc = nn.Linear(24 * 25, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.dropout2d(F.relu(self.conv1(x)), rate, self.training)
            x = F.dropout2d(F.relu(self.conv2(x)), rate, self.training)
            return self.fc(x.flatten(1))

    model = Maps()
    train, val = mnist(seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.SGD(params, lr=0.02, momentum=0.9))


@fault("model.dropout-too-high")
def regression_with_nearly_everything_dropped(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    p = 0.05 if fixed else 0.97
    model = nn.Sequential(nn.Linear(13, 48), nn.GELU(), nn.Dropout(p), nn.Linear(48, 1))
    train, val = prices(seed).loaders(32, seed)
    return Case(model, train, val, nn.MSELoss(), torch.optim.AdamW(model.parameters(), lr=5e-3), task="regress")
