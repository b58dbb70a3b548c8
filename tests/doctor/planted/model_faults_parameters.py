"""Networks some of whose parameters are never used, never learn, are not known to the module, or are the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.networks import digits, mnist, prices, table, waves


class ForgottenLayers(nn.Module):
    def __init__(self, used: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(64, 10)
        self.used = used

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        if self.used:
            x = F.relu(self.conv3(x))
        return self.fc(torch.flatten(x, 1))


@fault("model.unused-parameters")
def third_convolution_never_called(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = ForgottenLayers(used=fixed)
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@fault("model.unused-parameters")
def loop_that_leaves_out_the_last_blocks(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs = nn.Linear(30, 32)
            self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.GELU()) for _ in range(4))
            self.outputs = nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.inputs(x)
            for i in range(4 if fixed else 2):
                x = x + self.blocks[i](x)
            return self.outputs(x)

    model = Blocks()
    train, val = table("breast_cancer", seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.AdamW(params, lr=1e-3))


@fault("model.unused-parameters", also=["model.shared-weights"])
def second_branch_computed_from_the_first_twice(seed: int, fixed: bool = False) -> Case:
    """`right` is never asked: both sides come from `left`."""
    torch.manual_seed(seed)

    class TwoBranches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Sequential(nn.Conv1d(1, 12, 5, stride=2), nn.ReLU())
            self.right = nn.Sequential(nn.Conv1d(1, 12, 5, stride=2), nn.ReLU())
            self.head = nn.Linear(24, 3)

        def forward(self, x: Tensor) -> Tensor:
            a = self.left(x).amax(2)
            b = (self.right if fixed else self.left)(x).amax(2)
            return self.head(torch.cat([a, b], dim=1))

    model = TwoBranches()
    train, val = waves(seed).loaders(32, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("model.frozen-parameters")
def random_trunk_frozen_by_name(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential()
    model.add_module("trunk", nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Conv2d(4, 4, 5), nn.ReLU()))
    model.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    for name, parameter in model.named_parameters():
        if not fixed and "head" not in name:
            parameter.requires_grad = False
    train, val = mnist(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


@fault("model.frozen-parameters")
def own_layers_whose_parameters_ask_for_no_gradient(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Dense(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(outputs, inputs) * (2 / inputs) ** 0.5, requires_grad=fixed)
            self.b = nn.Parameter(torch.zeros(outputs), requires_grad=fixed)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.w, self.b)

    model = nn.Sequential(
        Dense(13, 10), nn.ReLU(), Dense(10, 10), nn.ReLU(), Dense(10, 10), nn.ReLU(), nn.Linear(10, 1)
    )
    train, val = prices(seed).loaders(25, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return Case(model, train, val, nn.MSELoss(), optimizer, task="regress")


@fault("model.frozen-parameters")
def all_but_the_last_bias_frozen(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    if not fixed:
        model.requires_grad_(False)
        model[-1].bias.requires_grad_(True)
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))


class ListOfLayers(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        layers = [nn.Linear(64 if i == 0 else 16, 16) for i in range(4)]
        self.layers = layers if plain else nn.ModuleList(layers)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x))
        return self.head(x)


@fault("model.unregistered-parameters")
def layers_in_a_plain_list(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = ListOfLayers(not fixed)
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


@fault("model.unregistered-parameters")
def convolution_made_inside_forward(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, stride=2)
            self.again = nn.Conv2d(8, 16, 3)
            self.fc = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x))
            x = F.relu((self.again if fixed else nn.Conv2d(8, 16, 3))(x))
            return self.fc(x.flatten(1))

    model = Net()
    if not fixed:
        del model.again
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


@fault("model.unregistered-parameters")
def filters_as_plain_tensors(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Filters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kernels = {"narrow": torch.randn(3, 1, 5) / 5**0.5, "wide": torch.randn(3, 1, 15) / 15**0.5}
            if not fixed:
                self.kernels = {name: w.requires_grad_() for name, w in kernels.items()}
            else:
                self.kernels = nn.ParameterDict(kernels)
            self.out = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            maps = [F.conv1d(x, self.kernels[name]).abs().mean(2) for name in ("narrow", "wide")]
            return self.out(torch.cat(maps, 1))

    model = Filters()
    train, val = waves(seed).loaders(25, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=0.02))


@fault("model.shared-weights")
def one_block_three_times_in_a_sequential(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU())

    blocks = [block() for _ in range(3)] if fixed else [block()] * 3
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    )
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@fault("model.shared-weights")
def module_list_of_one_layer_times_four(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Residuals(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(30, 32)
            layer = nn.Linear(32, 32)
            self.middle = nn.ModuleList([nn.Linear(32, 32) for _ in range(4)] if fixed else [layer] * 4)
            self.last = nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for layer in self.middle:
                x = x + F.relu(layer(x))
            return self.last(x)

    model = Residuals()
    train, val = table("breast_cancer", seed).pairs()
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9))


@fault("model.shared-weights")
def layers_multiplied_in_a_list(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def pair() -> list[nn.Module]:
        return [nn.Conv1d(12, 12, 5, padding=2), nn.ELU()]

    middle = pair() + pair() + pair() if fixed else pair() * 3
    model = nn.Sequential(
        nn.Conv1d(1, 12, 7, stride=2), nn.ELU(), *middle, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(48, 3)
    )
    train, val = waves(seed).loaders(30, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))
