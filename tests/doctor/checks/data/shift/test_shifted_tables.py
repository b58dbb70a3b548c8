"""`data.shift` of tables: columns, codes and numeric targets with another meaning or range in validation."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, read, said
from striate.doctor.checks.data.shift.shifted_tables import SHIFTED_TABLES
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def sold(*, anew: bool) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Shops by number, each with its chance of a sale; `anew`: numbered otherwise for validation."""
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(20, generator=generator)
    shop = torch.randint(0, 20, (1200, 1), generator=generator)
    y = (torch.rand(1200, generator=generator) < chance[shop[:, 0]]).float()
    codes = torch.where(torch.arange(1200)[:, None] >= 800, torch.randperm(20, generator=generator)[shop], shop)
    x = codes if anew else shop
    sets = TensorDataset(x[:800], y[:800]), TensorDataset(x[800:], y[800:])
    return DataLoader(sets[0], 32, shuffle=True, generator=generator), DataLoader(sets[1], 100)


class Shops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.chance = nn.Embedding(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.chance(x).flatten()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("anew", [True, False])
def test_codes_stand_for_the_same_on_both_sides(anew: bool) -> None:
    train, val = sold(anew=anew)
    told = said(SHIFTED_TABLES, Shops(), train, val=val, loss=nn.BCEWithLogitsLoss())
    assert [finding.code for finding in told] == ["data.shift"] * anew


@pytest.mark.parametrize("shuffled", [False, True])
def test_targets_of_validation_are_none_that_training_never_has(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=generator)
    y = x.sum(1, keepdim=True)
    order = torch.randperm(300, generator=generator) if shuffled else y[:, 0].argsort()
    (x, x_val), (y, y_val) = x[order].split((240, 60)), y[order].split((240, 60))
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(SHIFTED_TABLES, model, loader, val=(x_val, y_val), loss=nn.MSELoss(), task="regress")
    assert [one.where for one in said] == ["validation targets"] * (not shuffled)


@pytest.mark.parametrize(
    ("evaluation", "severity"),
    [
        ("error = loss(model(x), y)", "warning"),
        ("error = loss(scaler.inverse_transform(model(x)), y)", "note"),
        ("error = loss(model(x) * std + mean, y)", "note"),
        ("r2 = r2_score(model(x).squeeze(1).numpy() * std + mean, y)", "note"),
        ("error = loss(model(x), y); x = 3 * z + w", "warning"),
        (None, "note"),
    ],
)
@pytest.mark.parametrize("standardized", ["training", "validation"])
def test_targets_of_validation_in_another_unit(evaluation: str | None, severity: str, standardized: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=generator)
    y = 150 + 20 * x.sum(1, keepdim=True)
    scaled = (y - y.mean()) / y.std()
    train, val = (scaled, y) if standardized == "training" else (y, scaled)
    loader = DataLoader(TensorDataset(x[:240], train[:240]), 32, shuffle=True)
    options: dict[str, Any] = {"val": (x[240:], val[240:]), "loss": nn.MSELoss(), "task": "regress"}
    if evaluation is None:
        found = asked(SHIFTED_TABLES, nn.Linear(5, 1), loader, **options)
    else:
        text = f"for x, y in loader:\n    pass\nfor x, y in val:\n    {evaluation}\n"
        found = read(text, SHIFTED_TABLES, nn.Linear(5, 1), loader, **options)
    assert [one.severity for one in found] == [severity]
    assert "different units" in found[0].why


@pytest.mark.parametrize("far", [True, False])
def test_a_column_far_beyond_training(far: bool) -> None:
    x, image, y = torch.randn(96, 3), torch.randn(96, 1, 4, 4), torch.arange(96) % 2

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(19, 2)

        def forward(self, image: Tensor, columns: Tensor) -> Tensor:
            out: Tensor = self.last(torch.cat([image.flatten(1), columns], 1))
            return out

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0], batch[1]), batch[2])
        value.backward()
        optimizer.step()
        return value.detach()

    train = DataLoader(TensorDataset(image[:64], x[:64], y[:64]), 16)
    val = DataLoader(TensorDataset(image[64:], (x[64:] + (500 if far else 0.5)), y[64:]), 16)
    told = asked(SHIFTED_TABLES, Both(), train, val=val, step=step, loss=nn.CrossEntropyLoss())
    assert [finding.code for finding in told] == ["data.shift"] * far
