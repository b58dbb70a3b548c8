"""Pixels without a class, embeddings beside a probe, crops of next to nothing, decibels: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

import pytest
import torch
from test_of_a_perfect_network import codes, of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

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
