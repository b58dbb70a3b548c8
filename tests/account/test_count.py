"""Counts agree with the arithmetic of the lectures."""

from __future__ import annotations

import torch
from torch import nn

from striate.account.count import count_macs, count_parameters, layer_rows
from striate.models.build import build_model


def test_mnist_cnn_costs_what_its_arithmetic_says() -> None:
    module = build_model("mnist-cnn", (1, 28, 28), 10)
    assert count_parameters(module) == 416 + 9624 + 24640 + 650 == 35330
    assert count_macs(module, (1, 28, 28)) == 24 * 24 * 16 * 25 + 8 * 8 * 24 * 25 * 16 + 384 * 64 + 64 * 10


def test_macs_of_groups_dilation_signals_and_volumes() -> None:
    grouped = nn.Conv2d(8, 16, 3, groups=4, padding=2, dilation=2)
    assert count_macs(grouped, (8, 10, 10)) == 10 * 10 * 16 * 2 * 9
    assert count_macs(nn.Conv1d(3, 5, 7), (3, 20)) == 14 * 5 * 3 * 7
    assert count_macs(nn.Conv3d(1, 2, 3), (1, 5, 6, 7)) == 3 * 4 * 5 * 2 * 27


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(5, 5)
    assert count_parameters(nn.Sequential(layer, layer)) == 30


def test_rows_are_in_the_order_of_execution_with_shapes() -> None:
    module = build_model("conv(4,3) relu pool(2) fc(3)", (1, 8, 8), 3)
    rows = layer_rows(module, (1, 8, 8))
    assert [row[2] for row in rows] == ["4×6×6", "4×6×6", "4×3×3", "36", "3"]
    assert [row[3] for row in rows] == [40, 0, 0, 0, 111]


def test_looking_changes_nothing() -> None:
    module = build_model("conv(4,3) bn relu dropout(0.5) fc(3)", (1, 8, 8), 3)
    module.train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    random = torch.get_rng_state()
    count_macs(module, (1, 8, 8))
    layer_rows(module, (1, 8, 8))
    assert module.training
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not any(m._forward_hooks for m in module.modules())
