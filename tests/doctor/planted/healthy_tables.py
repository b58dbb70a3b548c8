"""Healthy networks on tables: rows of measured numbers, classes or values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from planted.case import Case, healthy
from planted.healthy_sources import loader, loaders, standardized_targets, table


@healthy
def iris_as_two_tensors(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = table("iris", seed, 110, 40)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return Case(model, (parts.x, parts.y), (parts.x_val, parts.y_val), nn.CrossEntropyLoss(), optimizer)


@healthy
def iris_with_nothing_but_a_network(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = table("iris", seed, 120, 30)
    return Case(nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 3)), (parts.x, parts.y))


@healthy
def wine_as_numpy_arrays(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = table("wine", seed, 130, 48)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    train, val = (parts.x.numpy(), parts.y.numpy()), (parts.x_val.numpy(), parts.y_val.numpy())
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@healthy
def wine_in_double_precision(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = table("wine", seed, 130, 48)
    train, val = loader(parts.x.double(), parts.y, 16), loader(parts.x_val.double(), parts.y_val, 48, shuffle=False)
    model = nn.Sequential(nn.Linear(13, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 3)).double()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


class OneLogit(nn.Module):
    """The logarithm of the odds of the second class, as (N,)."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(columns, 24)
        self.norm = nn.LayerNorm(24)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.relu(self.norm(self.hidden(x)))).squeeze(1)


@healthy
def tumors_by_one_logit(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = table("breast_cancer", seed, 400, 160)
    train = loader(parts.x, parts.y.float(), 32)
    val = loader(parts.x_val, parts.y_val.float(), 160, shuffle=False)
    model = OneLogit(30)
    return Case(model, train, val, nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@healthy
def tumors_by_a_column_of_logits(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = table("breast_cancer", seed, 400, 160)
    train = loader(parts.x, parts.y.float()[:, None], 64)
    val = loader(parts.x_val, parts.y_val.float()[:, None], 160, shuffle=False)
    model = nn.Sequential(nn.Linear(30, 16), nn.ELU(), nn.Linear(16, 1))
    loss = functional.binary_cross_entropy_with_logits
    return Case(model, train, val, loss, torch.optim.SGD(model.parameters(), lr=0.1))


@healthy
def tumors_by_a_linear_model(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(table("breast_cancer", seed, 400, 160), 64)
    model = nn.Linear(30, 2)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))


@healthy
def home_values_in_a_column(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = standardized_targets(table("boston", seed, 400, 106))
    train, val = loader(parts.x, parts.y[:, None], 32), loader(parts.x_val, parts.y_val[:, None], 106, shuffle=False)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Case(model, train, val, nn.MSELoss(), optimizer, task="regress")


class OneValue(nn.Module):
    """One number a row, as (N,)."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(columns, 48), nn.Tanh(), nn.Linear(48, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[:, 0]


@healthy
def home_values_with_a_robust_loss(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(standardized_targets(table("boston", seed, 400, 106)), 50)
    model = OneValue(13)

    def factory(params: object) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.05, momentum=0.9)  # type: ignore[arg-type]

    return Case(model, train, val, nn.SmoothL1Loss(), factory, task="regress")


@healthy
def home_values_as_two_tensors(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = standardized_targets(table("boston", seed, 400, 106))
    model = OneValue(13)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    train, val = (parts.x, parts.y), (parts.x_val, parts.y_val)
    return Case(model, train, val, functional.mse_loss, optimizer, task="regress")


class ColumnsAndKinds(nn.Module):
    """Measured columns, and one column of kinds that has a learned vector each."""

    def __init__(self, columns: int, kinds: int) -> None:
        super().__init__()
        self.kinds = nn.Embedding(kinds, 4)
        self.layers = nn.Sequential(nn.Linear(columns + 4, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, columns: Tensor, kind: Tensor) -> Tensor:
        return self.layers(torch.cat([columns, self.kinds(kind)], dim=1))


@healthy
def home_values_with_a_column_of_kinds(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = standardized_targets(table("boston", seed, 400, 106))

    def rows(x: Tensor, y: Tensor) -> list[dict[str, Tensor]]:
        kinds = (x[:, 3] > 0).long() * 2 + (x[:, 5] > 0).long()  # by the river or not, large or not
        return [{"columns": x[i], "kind": kinds[i], "value": y[i, None]} for i in range(len(x))]

    def step(model: nn.Module, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer, loss: object) -> Tensor:
        optimizer.zero_grad()
        error = functional.mse_loss(model(batch["columns"], batch["kind"]), batch["value"])
        error.backward()
        optimizer.step()
        return error

    train = torch.utils.data.DataLoader(rows(parts.x, parts.y), batch_size=40, shuffle=True)  # type: ignore[arg-type]
    val = torch.utils.data.DataLoader(rows(parts.x_val, parts.y_val), batch_size=53)  # type: ignore[arg-type]
    model = ColumnsAndKinds(13, 4)
    return Case(model, train, val, None, torch.optim.Adam(model.parameters(), lr=5e-3), step, "regress")
