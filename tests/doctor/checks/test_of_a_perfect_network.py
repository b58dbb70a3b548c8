"""A script's evaluation, run with a network whose predictions are all right."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
from asked import digits, perceptron
from test_source_checks import found
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.eval.wrong_count import WRONG_COUNT

LOOP = """
for epoch in range(5):
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    {call}
"""


def codes(function: str, call: str, names: dict[str, Any]) -> list[str]:
    text = textwrap.dedent(function)
    exec(text, names)
    return list(found(text + LOOP.format(call=call), names, [WRONG_COUNT]))


def of(model: nn.Module, train: Any, val: Any, loss: Any, lr: float = 0.1) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    names = {"model": model, "loader": train, "val_loader": val, "criterion": loss, "optimizer": optimizer}
    return {**names, "torch": torch, "nn": nn}


def classes() -> dict[str, Any]:
    x, y = next(iter(DataLoader(digits().dataset, 600)))
    val = DataLoader(TensorDataset(x[400:], y[400:]), 100)
    return of(perceptron(), DataLoader(TensorDataset(x[:400], y[:400]), 32), val, nn.CrossEntropyLoss(), 0.01)


F1 = """
def evaluate(model, loader):
    model.eval()
    hits = torch.zeros(10); told = torch.zeros(10); there = torch.zeros(10)
    with torch.no_grad():
        for x, y in loader:
            predicted = model(x).argmax(1)
            for k in range(10):
                hits[k] += ((predicted == k) & (y == k)).sum()
                told[k] += (predicted == k).sum()
                there[k] += (y == k).sum()
    model.train()
    return {{"f1": ({of}).mean(), "loss": 0.1}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "wrong"),
    [("2 * hits / (told + there).clamp(min=1)", False), ("hits / (told + there).clamp(min=1)", True)],
)
def test_a_score_of_a_perfect_network_is_one(share: str, wrong: bool) -> None:
    assert codes(F1.format(of=share), "found = evaluate(model, val_loader)", classes()) == ["eval.wrong-count"] * wrong


def depths() -> dict[str, Any]:
    x = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * 3 + x[:, 1:2]
    val = DataLoader(TensorDataset(x[160:], y[160:]), 40)
    return of(nn.Linear(6, 1), DataLoader(TensorDataset(x[:160], y[:160]), 16), val, nn.MSELoss())


ERROR = """
def validate(net, data):
    errors = []
    with torch.no_grad():
        for x, y in data:
            errors.append(({of}).abs())
    mae = torch.cat(errors).mean().item()
    print(f"val mae {{mae:.4f}}")
    return mae
"""


@pytest.mark.parametrize(("difference", "wrong"), [("net(x) - y", False), ("net(x) - y.flatten()", True)])
def test_an_error_of_a_perfect_network_is_nothing(difference: str, wrong: bool) -> None:
    names = depths()
    assert codes(ERROR.format(of=difference), "validate(model, val_loader)", names) == ["eval.wrong-count"] * wrong


def test_targets_of_validation_in_other_units_are_not_compared() -> None:
    names = depths()
    x, y = next(iter(DataLoader(names["val_loader"].dataset, 80)))
    names["val_loader"] = DataLoader(TensorDataset(x, 100 + 50 * y), 40)
    assert codes(ERROR.format(of="100 + 50 * net(x) - y"), "validate(model, val_loader)", names) == []


MASKS = """
def evaluate(net, data):
    total = 0.0
    with torch.no_grad():
        for x, y in data:
            told = net(x){told}
            total += (told & (y > 0.5)).sum().item() / (told | (y > 0.5)).sum().item()
    return {{"val_iou": total / len(data)}}
"""


@pytest.mark.parametrize(("told", "wrong"), [(" > 0", False), (".flip(-1) > 0", True), (" > 0.5", False)])
def test_masks_of_a_perfect_network_have_an_overlap_of_one(told: str, wrong: bool) -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x > 0.3).float()
    val = DataLoader(TensorDataset(x[64:], y[64:]), 16)
    train = DataLoader(TensorDataset(x[:64], y[:64]), 16)
    names = of(nn.Conv2d(1, 1, 1), train, val, nn.BCEWithLogitsLoss())
    assert codes(MASKS.format(told=told), "score = evaluate(model, val_loader)", names) == ["eval.wrong-count"] * wrong


class TwoHeads(nn.Module):
    """Masks, and how far they reach."""

    def __init__(self) -> None:
        super().__init__()
        self.masks, self.reach = nn.Conv2d(1, 1, 1), nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.masks(x), self.reach(x.flatten(1))


def test_of_several_outputs_none_is_put_right_alone() -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x > 0.3).float()
    loaders = (DataLoader(TensorDataset(x[a:b], y[a:b]), 16) for a, b in ((0, 64), (64, 96)))
    names = of(TwoHeads(), *loaders, lambda out, y: nn.functional.binary_cross_entropy_with_logits(out[0], y))
    told = MASKS.format(told="[1].gt(0)[:, :, None, None].expand_as(y)")
    assert codes(told, "score = evaluate(model, val_loader)", names) == []
