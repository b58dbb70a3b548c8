"""Pixels without a class, embeddings beside a probe, crops of next to nothing, decibels: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest
import torch
from asked import digits
from test_met_in_residual_denoisers import gratings
from test_met_in_second_heads import asked_or_silent, stepped
from test_of_a_perfect_network import codes, of
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.signal_to_noise import doubled
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.setup.script_source import ScriptSource

VOIDS = """
def evaluate(net, data):
    right = counted = 0
    with torch.no_grad():
        for x, y in data:
            right += int((net(x).argmax(1) == y).sum())
            counted += int(({counted}).sum())
    return {{"acc": right / counted}}
"""


@pytest.mark.parametrize(("counted", "wrong"), [("y != 2", False), ("y >= 0", False), ("y == 1", True)])
@pytest.mark.parametrize("void", [255, 2])
def test_an_accuracy_may_leave_out_what_the_loss_ignores(counted: str, wrong: bool, void: int) -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    y[:, ::3] = void
    val = DataLoader(TensorDataset(x[64:], y[64:]), 16)
    names = of(
        nn.Conv2d(1, 3, 1), DataLoader(TensorDataset(x[:64], y[:64]), 16), val, nn.CrossEntropyLoss(ignore_index=void)
    )
    text = VOIDS.format(counted=counted.replace("2", str(void)))
    assert codes(text, "score = evaluate(model, val_loader)", names) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(
    ("formula", "wrong"),
    [
        ("20 * torch.log10(1 / mse)", True),
        ("20 * math.log10(mse)", True),
        ("20 * torch.log10(peak / F.mse_loss(x, y))", True),
        ("20 * torch.log10(1 / torch.mean((x - y) ** 2))", True),
        ("20 * torch.log10(x ** 2)", False),
        ("10 * torch.log10(1 / mse)", False),
        ("20 * torch.log10(peak) - 10 * torch.log10(mse)", False),
        ("20 * torch.log10(1 / mse.sqrt())", False),
        ("20 * torch.log10(1 / rmse)", False),
        ("psnr(mse)", True),
        ("psnr(rmse)", False),
    ],
)
def test_decibels_of_squares_rise_by_ten(formula: str, wrong: bool) -> None:
    text = f"""
def psnr(error):
    return 20 * torch.log10(1 / error)

for x, y in loader:
    mse = F.mse_loss(model(x), y)
    rmse = mse.sqrt()
    print({formula})
"""
    text = text if "psnr" in formula else text[text.index("for") :]
    source = ScriptSource({"s.py": ast.parse(text)}, {"torch": torch, "math": math}, ("s.py", 2, 3), 5)
    assert len(list(doubled(source))) == wrong


@pytest.mark.parametrize("kind", ["forgotten", "given", "none made"])
def test_a_noisy_copy_of_which_nothing_is_made(kind: str) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        (clean,) = batch
        noisy = clean if kind == "none made" else clean + 0.3 / 0.5 * torch.randn(clean.shape)
        return stepped(model, functional.mse_loss(model(noisy if kind == "given" else clean), clean), optimizer)

    model = nn.Conv2d(1, 1, 3, padding=1)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "step": step}
    said = asked_or_silent(TARGET_IN_INPUT, model, DataLoader(TensorDataset(gratings(64)), 16), **options)
    assert ["a noisy copy" in one.measured for one in said] == [True] * (kind == "forgotten")


class Probed(nn.Module):
    """Embeddings of length 1, and scores of a probe that does not shape them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
        self.probe = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return functional.normalize(h, dim=1), self.probe(h.detach())


def supervised(z: Tensor, positive: Tensor) -> Tensor:
    own = torch.eye(len(z)).bool()
    log_shares = (5 * z @ z.T).masked_fill(own, -1e9).log_softmax(1)
    positive = positive & ~own
    return -((log_shares * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


@pytest.mark.parametrize("kind", ["swapped", "right", "without labels"])
def test_classes_are_pulled_together_beside_a_probe(kind: str) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        z, scores = model(x)
        if kind == "without labels":  # all are to lie apart, those that look alike too
            embedding = (-2 * torch.pdist(z).square()).exp().mean().log()
        else:
            embedding = supervised(z, (y[:, None] == y) ^ (kind == "swapped"))
        return stepped(model, embedding + functional.cross_entropy(scores, y), optimizer)

    model = Probed()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.003), "step": step}
    said = asked_or_silent(PAIRS_SWAPPED, model, digits(), **options)
    assert [one.code for one in said] == ["loss.pairs-swapped"] * (kind == "swapped")
