"""Networks whose last layer, or whose prediction, is wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.networks import diabetes, digits, mnist, prices, table


@fault("model.double-softmax")
def softmax_at_the_end_of_a_sequential(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 16, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    ]
    model = nn.Sequential(*layers, *([] if fixed else [nn.Softmax(dim=1)]))
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.05, momentum=0.9))


class ProbabilityNet(nn.Module):
    def __init__(self, probabilities: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5)
        self.conv2 = nn.Conv2d(8, 16, 5)
        self.fc = nn.Linear(256, 10)
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.fc(x.flatten(1))
        return F.softmax(x, dim=-1) if self.probabilities else x


@fault("model.double-softmax")
def functional_softmax_in_forward(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = ProbabilityNet(not fixed)
    train, val = mnist(seed).loaders(32, seed)

    def step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer, loss: object) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = F.cross_entropy(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, 1e-3), step)


@fault("model.double-softmax")
def softmax_before_log_softmax_of_a_table(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    end = [] if fixed else [nn.Softmax(1)]
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3), *end)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.nll_loss(F.log_softmax(outputs, dim=1), targets)

    train, val = table("wine", seed).loaders(16, seed)
    return Case(model, train, val, loss, torch.optim.AdamW(model.parameters(), lr=3e-3))


@fault("model.double-softmax", also=["model.last-layer-clipped"])
def sigmoid_before_a_loss_with_logits(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    end = [] if fixed else [nn.Sigmoid()]
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1), *end, nn.Flatten(0))
    train, val = table("breast_cancer", seed).loaders(32, seed)
    criterion = nn.BCEWithLogitsLoss()
    return Case(
        model,
        train,
        val,
        lambda outputs, targets: criterion(outputs, targets.float()),
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    )


@fault("model.last-layer-clipped")
def relu_after_every_linear_layer(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    sizes = [64, 64, 32, 10]
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(3):
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        if not fixed or i < 2:
            layers.append(nn.ReLU())
    model = nn.Sequential(*layers)
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))


@fault("model.last-layer-clipped")
def sigmoid_for_standardized_prices(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 1), nn.Identity() if fixed else nn.Sigmoid())
    train, val = prices(seed).pairs()
    return Case(model, train, val, nn.MSELoss(), lambda params: torch.optim.Adam(params, lr=0.01), task="regress")


class Bounded(nn.Module):
    def __init__(self, bounded: bool) -> None:
        super().__init__()
        self.bounded = bounded
        self.body = nn.Sequential(nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 24, 3), nn.ReLU())
        self.head = nn.Linear(24 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.head(torch.flatten(self.body(x), 1))
        return torch.tanh(out) if self.bounded else out


@fault("model.last-layer-clipped")
def tanh_on_logits(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = Bounded(not fixed)
    train, val = digits(seed).loaders(50, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@fault("model.last-layer-clipped")
def outputs_clamped_at_zero_though_targets_are_centered(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Progress(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(10, 24)
            self.out = nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.out(F.elu(self.hidden(x)))
            return y if fixed else y.clamp(min=0)

    model = Progress()
    train, val = diabetes(seed).loaders(20, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return Case(model, train, val, nn.SmoothL1Loss(), optimizer, task="regress")


@fault("model.collapsed")
def group_norm_of_single_values(seed: int, fixed: bool = False) -> Case:
    """After global pooling each group holds one number; minus its mean it is 0."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.GroupNorm(8 if fixed else 32, 32),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


class WrongAxis(nn.Module):
    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.project = nn.Linear(30, 48)
        self.norm = nn.LayerNorm(1 if wrong else 48)
        self.out = nn.Linear(48, 2)
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.project(x))
        h = self.norm(h.unsqueeze(-1)).squeeze(-1) if self.wrong else self.norm(h)
        return self.out(h)


@fault("model.collapsed")
def layer_norm_over_an_axis_of_one(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = WrongAxis(not fixed)
    train, val = table("breast_cancer", seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=2e-3))


@fault("model.collapsed", also=["model.double-softmax", "model.last-layer-clipped"])
def softmax_over_a_single_output(seed: int, fixed: bool = False) -> Case:
    """The softmax of one number is 1, whatever it is."""
    torch.manual_seed(seed)
    end = nn.Sigmoid() if fixed else nn.Softmax(dim=1)
    model = nn.Sequential(nn.Linear(30, 20), nn.LeakyReLU(0.1), nn.Linear(20, 1), end)
    train, val = table("breast_cancer", seed).loaders(40, seed)
    return Case(
        model,
        train,
        val,
        lambda outputs, targets: F.binary_cross_entropy(outputs, targets.float()[:, None]),
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    )
