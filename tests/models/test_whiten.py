"""First weights that whiten patches, measured on real photographs."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from striate.errors import ConfigError
from striate.layers.convolution import WhiteningConv2d
from striate.models.build import build_model
from striate.models.initialization.whiten import is_made_for_whitening, patch_covariance, whiten


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """48 pieces of two photographs, (N, 3, 32, 32), standardized by channel."""
    pictures = [torch.tensor(picture).permute(2, 0, 1).float() for picture in load_sample_images().images]
    pieces = [p[:, t : t + 32, 3 * t : 3 * t + 32] for p in pictures for t in range(0, 192, 8)]
    x = torch.stack(pieces)
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def outputs(layer: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """(K, N·places) float64."""
    with torch.no_grad():
        return layer(images).double().transpose(0, 1).flatten(1)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (4, 4)])
def test_the_outputs_have_the_covariance_of_white_noise(images, kernel, stride) -> None:
    layer = WhiteningConv2d(3, kernel, stride)
    whiten(layer, [images])
    half = layer.out_channels // 2
    values = torch.linalg.eigvalsh(patch_covariance([images], layer)).flip(0)
    covariance = torch.cov(outputs(layer, images)[:half], correction=0)
    # What hardly varies is damped by the floor of the variance; all else is white.
    expected = torch.diag(values / (values + 5e-4))
    assert torch.allclose(covariance, expected, atol=2e-3)
    clear = values > 0.05
    assert clear.sum() >= 3
    assert torch.allclose(covariance.diag()[clear], torch.ones(int(clear.sum()), dtype=torch.float64), atol=0.011)


def test_each_direction_comes_with_either_sign_and_no_bias(images) -> None:
    layer = WhiteningConv2d(3, 2)
    whiten(layer, [images])
    assert torch.equal(layer.weight[12:], -layer.weight[:12])
    assert not layer.bias.any()
    assert layer.bias.requires_grad
    assert not layer.weight.requires_grad


def test_batches_are_only_a_way_to_save_memory(images) -> None:
    layers = [WhiteningConv2d(3, 2) for _ in range(2)]
    whiten(layers[0], [images])
    whiten(layers[1], images.split(7))
    # Directions of small variance are those of small differences: to a hundredth of their size.
    assert torch.allclose(layers[0].weight, layers[1].weight, atol=0.01 * float(layers[0].weight.detach().abs().max()))


def test_the_same_images_give_the_same_kernels_whatever_was_there(images) -> None:
    layers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        layers.append(WhiteningConv2d(3, 2))
        whiten(layers[-1], [images])
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_a_wider_first_layer_keeps_its_other_filters_and_a_narrower_one_gets_the_largest_directions(images) -> None:
    wide, narrow, full = nn.Conv2d(3, 30, 2), nn.Conv2d(3, 6, 2), WhiteningConv2d(3, 2)
    before = wide.weight.detach().clone()
    for layer in (wide, narrow, full):
        whiten(layer, [images])
    assert torch.equal(wide.weight[:24], full.weight)
    assert torch.equal(wide.weight[24:], before[24:])
    assert torch.equal(narrow.weight[:3], full.weight[:3])
    assert torch.equal(narrow.weight[3:], -full.weight[:3])


def test_only_networks_that_begin_with_such_a_layer_are_made_for_it() -> None:
    assert is_made_for_whitening(build_model("airbench(width=4)"))
    assert not is_made_for_whitening(build_model("small-resnet(width=4)"))
    assert not is_made_for_whitening(build_model("mlp"))


@pytest.mark.parametrize(
    "network", [nn.Linear(3, 2), nn.Conv1d(3, 8, 2), nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(3, 1, 3)]
)
def test_what_cannot_whiten_is_refused_with_a_network_that_can(network) -> None:
    with pytest.raises(ConfigError) as caught:
        whiten(network, [])
    assert caught.value.where == "model.whiten"
    assert "--model airbench" in caught.value.remedy


def test_patches_are_whitened_in_fp32_where_the_rest_is_computed_in_bfloat16(images) -> None:
    """Rounded to eight bits, pixels of smooth images differ by nothing but the rounding, and whitening enlarges it."""
    smooth = 2 + 0.05 * images
    layer = WhiteningConv2d(3, 2)
    whiten(layer, [smooth])
    expected = layer(smooth)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(smooth)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())
    plain = nn.functional.conv2d(smooth.bfloat16().float(), layer.weight, layer.bias)
    varying = expected - expected.mean((0, 2, 3), keepdim=True)
    assert (plain - expected).norm() > 0.05 * varying.norm(), "or the case shows nothing"
