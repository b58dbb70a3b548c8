"""Networks in the wrong mode, with batch norm of tiny batches, or whose samples mix with one another."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.learning import usual_step
from planted.networks import digits, mnist, prices, table, waves


@fault("model.mode")
def eval_after_looking_at_validation(seed: int, fixed: bool = False) -> Case:
    """A look at validation before each step; the way back to train() was forgotten."""
    torch.manual_seed(seed)
    data = digits(seed)
    layers: list[nn.Module] = []
    for width in (8, 8, 8, 12, 12):
        layers += [nn.LazyConv2d(width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten(), nn.LazyLinear(10))
    model.eval()(data.x[:2])  # lazy layers learn their size
    model.train()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        model.eval()
        with torch.no_grad():
            loss(model(data.x_val[:32]), data.y_val[:32])
        if fixed:
            model.train()
        return usual_step(model, batch, optimizer, loss)

    train, val = data.loaders(32, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


class AlwaysDropping(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.fc1 = nn.Linear(144, 64)
        self.fc2 = nn.Linear(64, 10)
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, 0.6) if self.always else F.dropout(x, 0.6, training=self.training)
        return self.fc2(x)


@fault("model.mode")
def dropout_that_knows_no_eval(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = AlwaysDropping(not fixed)
    train, val = digits(seed).loaders(50, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=2e-3))


@fault("model.mode")
def batch_norm_whose_figures_never_move(seed: int, fixed: bool = False) -> Case:
    """momentum=0 leaves the running statistics at 0 and 1, so eval() computes something else than was trained."""
    torch.manual_seed(seed)
    momentum = 0.1 if fixed else 0.0
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, bias=False),
        nn.BatchNorm2d(12, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, bias=False),
        nn.BatchNorm2d(24, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(600, 10),
    )
    for layer in (model[0], model[3]):
        nn.init.normal_(layer.weight, std=1.0)
    train, val = mnist(seed).loaders(40, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=1e-3))


@fault("model.mode")
def train_overridden_to_stay_in_eval(seed: int, fixed: bool = False) -> Case:
    """Copied from a script that fine-tunes; here nothing was trained before."""
    torch.manual_seed(seed)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks = [
                nn.Sequential(nn.Linear(13 if i == 0 else 32, 32), nn.BatchNorm1d(32), nn.ReLU()) for i in range(8)
            ]
            self.body = nn.Sequential(*blocks, nn.Dropout(0.1))
            self.head = nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

        def train(self, mode: bool = True) -> Self:
            return super().train(mode and fixed)

    model = Network().train()
    train, val = table("wine", seed).loaders(32, seed, drop_last=True)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))


@fault("model.batch-norm-small-batch")
def batch_norm_of_two_rows(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(13, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()
    )
    model.append(nn.Linear(32, 1))
    train, val = prices(seed).loaders(40 if fixed else 2, seed)
    return Case(
        model, train, val, nn.MSELoss(), torch.optim.SGD(model.parameters(), 0.01, momentum=0.9), task="regress"
    )


class NormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b1(self.c1(x)))
        x = F.relu(self.b2(self.c2(x)))
        return self.fc(x.flatten(1))


@fault("model.batch-norm-small-batch")
def batch_norm_of_two_digits(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = NormNet()
    train, val = digits(seed).loaders(50 if fixed else 2, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=3e-3))


@fault("model.batch-norm-small-batch")
def batch_norm_of_one_signal_at_a_time(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 9, stride=4), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 16, 5), nn.BatchNorm1d(16)
    )
    model.extend([nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 3)])
    train, val = waves(seed).loaders(30 if fixed else 1, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))


@fault("model.batch-mixing")
def softmax_over_the_batch(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1 if fixed else 0)
    )
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.NLLLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


class Attending(nn.Module):
    """Rows of an image as a sequence; without `batch_first` attention goes over the images."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 24)
        self.position = nn.Parameter(0.5 * torch.randn(8, 24))
        self.attention = nn.MultiheadAttention(24, 4, batch_first=batch_first)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.squeeze(1)) + self.position
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.head(x.amax(dim=1))


@fault("model.batch-mixing")
def attention_among_images(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = Attending(batch_first=fixed)
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.AdamW(params, lr=5e-3))


@fault("model.batch-mixing")
def maps_reshaped_across_images(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Reshaping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, stride=2)
            self.fc1 = nn.Linear(72, 64)
            self.fc2 = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(x))
            if not fixed:
                x = x.transpose(0, 1)  # channels first, for no reason
            x = x.reshape(-1, 72)
            return self.fc2(torch.relu(self.fc1(x)))

    model = Reshaping()
    train, val = digits(seed).loaders(56, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


@fault("model.batch-mixing")
def recurrence_from_row_to_row_of_the_batch(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(4, 24, batch_first=fixed)
            self.out = nn.Linear(24, 3)

        def forward(self, x: Tensor) -> Tensor:
            steps, _ = self.gru(x.reshape(len(x), 16, 4))
            return self.out(steps[:, -1])

    model = Recurrent()
    train, val = waves(seed).loaders(20, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=0.01))


@fault("model.batch-mixing")
def features_normalized_along_the_batch(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(30, 24)
            self.out = nn.Linear(24, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = F.normalize(self.hidden(x), dim=1 if fixed else 0)
            return self.out(torch.relu(h))

    model = Normalized()
    train, val = table("breast_cancer", seed).loaders(16, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), lambda params: torch.optim.Adam(params, lr=5e-3))
