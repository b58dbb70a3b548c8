"""What networks offer to tasks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.check import check_outputs
from striate.models.features import network_features


def test_a_convolutional_classifier_offers_a_vector_and_a_pyramid() -> None:
    network = build_model("conv(8,3,pad=1) relu pool(2) conv(16,3,pad=1) relu pool(2) fc(32) relu fc(5)", (3, 16, 16))
    found = network_features(network, torch.zeros(2, 3, 16, 16))
    assert found.vector == 32
    assert [(part.channels, *part.size) for part in found.pyramid] == [(8, 16, 16), (16, 8, 8), (16, 4, 4)]
    assert found.sequence is None
    assert str(found) == "a vector of 32 numbers, and maps of 8×16×16, 16×8×8, 16×4×4"


def test_a_network_of_a_table_offers_a_vector_alone() -> None:
    found = network_features(build_model("mlp(25,15)", (4,), 3), torch.zeros(2, 4))
    assert (found.vector, found.pyramid, found.sequence) == (15, (), None)


def test_a_network_for_masks_offers_no_vector() -> None:
    found = network_features(build_model("small-unet", (3, 16, 16), 2), torch.zeros(1, 3, 16, 16))
    assert found.vector is None
    assert found.pyramid[-1].size == (16, 16) or any(part.size == (16, 16) for part in found.pyramid)


def test_tokens_are_a_sequence() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.patches(x).flatten(2).transpose(1, 2)).mean(1)

    found = network_features(Tokens(), torch.zeros(2, 3, 8, 8))
    assert (found.vector, found.sequence) == (None, (4, 6))


def test_looking_changes_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network_features(network, torch.randn(4, 1, 8, 8))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_a_network_for_another_task_is_refused_with_what_it_offers() -> None:
    with pytest.raises(ModelError, match=r"the network offers a vector of 32 numbers, and maps of 4×6×6"):
        check_outputs(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 32), nn.Linear(32, 3)),
            (1, 8, 8),
            3,
            dense=True,
        )
