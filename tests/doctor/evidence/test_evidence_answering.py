"""Whether the network's outputs are predictions that the loader's targets can be compared with."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, stepped
from for_checks.networks import TwoHeads
from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize("predicted", [False, True])
def test_a_code_beside_its_probe_predicts_no_classes(predicted: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 6)
    model, decoder, probe = nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(4, 2)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, classes = batch
        code = model(x)
        scores = code if predicted else probe(code.detach())
        loss = functional.mse_loss(decoder(code), x) + functional.cross_entropy(scores, classes)
        return stepped(loss, optimizer)

    told = []
    check = Check(("data.leak",), lambda evidence: told.append(predicts_targets(evidence)) or ())
    asked_in_script(check, model, DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 32), step=step)
    assert told == [predicted]


def test_points_are_no_targets_of_logits_beside_them() -> None:
    """Though there are as many of both."""
    said: list[bool] = []
    x, points, kinds = torch.randn(64, 1, 8, 8), torch.rand(64, 3), torch.arange(64) % 3

    class Heads(TwoHeads):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.body(x)
            return self.first(hidden), self.second(hidden)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, kinds, points = batch
        logits, found = model(image)
        return stepped(functional.cross_entropy(logits, kinds) + functional.mse_loss(found, points), optimizer)

    def run(evidence: Any) -> Iterator[Any]:
        said.append(predicts_targets(evidence))
        yield from ()

    model = Heads(3, 3)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    asked(SimpleNamespace(run=run), model, DataLoader(TensorDataset(x, kinds, points), 16), **options)
    assert said == [False]


class Rebuilt(nn.Module):
    """Rebuilds points by way of a noisy code, and gives them beside the points: two outputs, as there are classes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x + torch.randn_like(x)), x


@pytest.mark.parametrize("asks", [False, True])
def test_outputs_are_no_classes_where_the_loss_uses_none(asks: bool) -> None:
    def loss(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        told, x = outputs
        return functional.cross_entropy(told, y) if asks else functional.mse_loss(told, x)

    torch.manual_seed(0)
    x = torch.randn(200, 2)
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 25)
    assert predicts_targets(Evidence(make_setup(Rebuilt(), data, None, loss=loss), Clock(20.0))) == asks
