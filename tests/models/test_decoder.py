"""A decoder turns a classifier into a network for masks, of images of any size, exactly the same in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.inference.any_size import any_size
from striate.inference.tiles import reach_of, tiles
from striate.models.build import build_model
from striate.models.decoder import MaskNetwork, enlarged
from striate.models.weights.take_weights import take_weights
from striate.models.weights.weights_file import read_weights

SHAPE = (3, 96, 128)


def busy(network: nn.Module) -> nn.Module:
    """In eval mode, with statistics and scales that are not those of a beginning."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.running_mean, 0, 0.1)
    return network.eval()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", ["small-resnet(width=4)", "resnet18(width=8)"])
def test_a_classifier_gets_a_decoder_and_loses_its_output_layer(name: str) -> None:
    network = build_model(name, SHAPE, 5, dense=True)
    assert isinstance(network, MaskNetwork)
    assert not [key for key in network.state_dict() if key.startswith("backbone.fc")]
    outputs = network(torch.randn(2, *SHAPE))
    assert outputs.shape == (2, 5, 96, 128)
    outputs.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.eval()(torch.randn(1, 3, 75, 101)).shape == (1, 5, 75, 101)


def test_a_module_of_ones_own_is_a_backbone_and_one_for_masks_stays_as_it_is() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
            self.last = nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.two(self.one(x).relu()).relu().mean((2, 3)))

    network = build_model(Own(), SHAPE, 4, dense=True)
    assert network(torch.randn(2, *SHAPE)).shape == (2, 4, 96, 128)
    masks = nn.Conv2d(3, 4, 1)
    assert build_model(masks, SHAPE, 4, dense=True) is masks


def test_weights_of_a_classifier_become_those_of_the_backbone(tmp_path: Path) -> None:
    classifier = build_model("resnet18(width=8)", SHAPE, 10)
    torch.save(classifier.state_dict(), tmp_path / "weights.pt")
    network = build_model("resnet18(width=8)", SHAPE, 4, dense=True)
    note = take_weights(network, read_weights(str(tmp_path / "weights.pt")), 4)
    assert "the decoder is new" in note
    own, given = network.backbone.state_dict(), classifier.state_dict()
    assert all(torch.equal(own[key], given[key]) for key in own)
    other = build_model("resnet18(width=16)", SHAPE, 4, dense=True)
    with pytest.raises(ModelError, match="conv1"):
        take_weights(other, read_weights(str(tmp_path / "weights.pt")), 4)


def test_a_network_without_smaller_maps_is_no_backbone() -> None:
    with pytest.raises(ModelError, match="no feature map smaller"):
        build_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 128, 4)), SHAPE, 4, dense=True)


@pytest.mark.parametrize("size", [(160, 224), (163, 235)])
def test_parts_give_what_the_whole_gives(size: tuple[int, int]) -> None:
    network = busy(build_model("conv(8,3,stride=2,pad=1) relu conv(8,3,stride=2,pad=1) relu gap fc(3)", (3, 64, 64)))
    network = build_model(network, (3, 64, 64), 3, dense=True).eval()
    reach = reach_of(network, (3, 64, 64))
    assert reach.everywhere == ()
    assert reach.step == 32
    x = torch.randn(1, 3, *size)
    with torch.inference_mode():
        whole = network(x)
        stitched = torch.full_like(whole, torch.nan)
        parts = list(tiles(size, 32, reach))
        for tile in parts:
            top, left, height, width = tile.read
            part = network(x[..., top : top + height, left : left + width])
            (row, column, tall, wide), inside = tile.core, tile.inside
            stitched[..., row : row + tall, column : column + wide] = part[0][(slice(None), *inside)]
    assert len(parts) >= 35
    assert parts[16].read[2:] < size
    assert float((stitched - whole).abs().max()) < 1e-4


def test_a_mean_over_the_picture_is_named() -> None:
    network = build_model("conv(4,3,pad=1) relu conv(2,1)", (3, 16, 16), 2, dense=True)
    assert reach_of(network, (3, 16, 16)).everywhere == ()

    class Global(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.conv = nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x - self.pool(x))

    assert reach_of(Global(), (3, 16, 16)).everywhere


def test_networks_of_one_size_or_of_multiples_get_any_size() -> None:
    unet = build_model("small-unet(width=4)", (3, 32, 32), 2).eval()
    with torch.inference_mode():
        assert any_size(unet, (32, 32), torch.randn(1, 3, 37, 50)).shape == (1, 2, 37, 50)
        fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2 * 64), nn.Unflatten(1, (2, 8, 8)))
        assert any_size(fixed, (8, 8), torch.randn(1, 3, 20, 11)).shape == (1, 2, 20, 11)


def test_maps_are_enlarged_by_whole_factors_from_the_corner() -> None:
    x = torch.randn(1, 2, 5, 4)
    assert torch.equal(enlarged(x, (9, 8)), nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")[..., :9, :])
    assert torch.equal(enlarged(x, (5, 4)), x)
    assert enlarged(x, (6, 4)).shape == (1, 2, 6, 4)
