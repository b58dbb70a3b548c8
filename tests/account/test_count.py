"""Counts agree with the arithmetic of the lectures."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from striate.account.summarize import count_macs, count_parameters
from striate.errors import ModelError
from striate.layers.convolution import LocallyConnected, PartialConvolution
from striate.models.build import build_model
from striate.models.zoo.lenet import CONNECTIONS


def test_mnist_cnn_costs_what_its_arithmetic_says() -> None:
    module = build_model("mnist-cnn", (1, 28, 28), 10)
    assert count_parameters(module) == 416 + 9624 + 24640 + 650 == 35330
    assert count_macs(module, (1, 28, 28)) == 24 * 24 * 16 * 25 + 8 * 8 * 24 * 25 * 16 + 384 * 64 + 64 * 10


def test_macs_of_groups_dilation_signals_and_volumes() -> None:
    grouped = nn.Conv2d(8, 16, 3, groups=4, padding=2, dilation=2)
    assert count_macs(grouped, (8, 10, 10)) == 10 * 10 * 16 * 2 * 9
    assert count_macs(nn.Conv1d(3, 5, 7), (3, 20)) == 14 * 5 * 3 * 7
    assert count_macs(nn.Conv3d(1, 2, 3), (1, 5, 6, 7)) == 3 * 4 * 5 * 2 * 27


def test_absent_connections_of_a_table_are_not_counted() -> None:
    # C3 of LeNet-5: 60 of the 96 pairs of maps; it runs as a convolution with zeros in the place of the others.
    layer = PartialConvolution(6, CONNECTIONS, 5)
    assert count_macs(layer, (6, 14, 14)) == 10 * 10 * 60 * 25 == 150_000
    assert count_macs(build_model("lenet5-1998"), (1, 32, 32)) == 117_600 + 150_000 + 48_000 + 84 * 120 == 325_680


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(5, 5)
    assert count_parameters(nn.Sequential(layer, layer)) == 30


def test_looking_changes_nothing() -> None:
    module = build_model("conv(4,3) bn relu dropout(0.5) fc(3)", (1, 8, 8), 3)
    module.train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    random = torch.get_rng_state()
    count_macs(module, (1, 8, 8))
    assert module.training
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not any(m._forward_hooks for m in module.modules())


class Restless(nn.Module):
    """Prints, changes a buffer, draws random numbers, and cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn, self.lock = nn.Linear(4, 3), nn.BatchNorm1d(3), threading.Lock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("forward")
        torch.rand(2)
        self.bn.running_mean += 1
        return self.bn(self.fc(x))


def test_a_network_that_cannot_be_copied_is_counted_and_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    module, random = Restless(), torch.get_rng_state()
    assert count_macs(module, (4,)) == 12
    assert module.training
    assert module.bn.training
    assert not module.bn.running_mean.any()
    assert torch.equal(random, torch.get_rng_state())
    assert not any(m._forward_hooks for m in module.modules())
    assert capsys.readouterr().out == ""


def test_hooks_go_also_where_the_forward_pass_fails() -> None:
    module = Restless()
    with pytest.raises(ModelError, match="5 features for 4"):
        count_macs(module, (5,))
    assert module.training
    assert not any(m._forward_hooks for m in module.modules())


class Last(nn.Module):
    """The outputs of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (LocallyConnected(3, 5, (7, 8), 3, stride=2), (3, 7, 8), 9 * 5 * 27),
        (LocallyConnected(2, 4, (9,), 3, padding="same"), (2, 9), 9 * 4 * 6),
        (LocallyConnected(1, 2, (4, 5, 6), 2), (1, 4, 5, 6), 60 * 2 * 8),
        (nn.Linear(4, 3).double(), (4,), 12),
        (Last(nn.LSTM(4, 8, batch_first=True)), (6, 4), 6 * 4 * (4 * 8 + 8 * 8)),
        (
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
            (6, 16),
            6 * 16 * 48 + 2 * 6 * 6 * 16 + 6 * 16 * 16 + 2 * 6 * 16 * 32,
        ),
    ],
    ids=["local", "local-1d", "local-3d", "double", "lstm", "attention"],
)
def test_every_product_counts_whichever_kernel_computes_it(
    module: nn.Module, shape: tuple[int, ...], macs: int
) -> None:
    enabled = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, torch.backends.mha.get_fastpath_enabled()
    assert count_macs(module, shape) == macs
    after = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, torch.backends.mha.get_fastpath_enabled()
    assert after == enabled
