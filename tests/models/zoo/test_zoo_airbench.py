"""airbench: its published form, the identities that it begins as, sizes that it takes."""

import re

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.convolution import WhiteningConv2d
from striate.models.build import build_model


def trainable(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_parameters_are_those_of_the_paper():
    # Bias of whitening 24; 24→64, 64→64, 64→256, three times 256→256 kernels of 3×3; shifts; the output matrix.
    kernels = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert trainable(build_model("airbench")) == 24 + kernels + 2 * (64 + 256 + 256) + 2560 == 1_971_352


@pytest.mark.parametrize("shape", [(1, 9, 9), (1, 28, 28), (3, 24, 40), (5, 64, 64), (3, 65, 96), (1, 160, 160)])
def test_it_takes_images_of_any_channels_and_sizes(shape):
    network = build_model("airbench(width=4)", shape, 7).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 7)
    patch = 4 if max(shape[1:]) > 64 else 2
    assert network.whiten.kernel_size == (patch, patch)
    assert network.whiten.out_channels == 2 * shape[0] * patch**2


def test_smaller_maps_than_those_it_was_built_for_work():
    network = build_model("airbench(width=4)", (3, 32, 32), 10).eval()
    assert network(torch.zeros(2, 3, 20, 24)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 50), (13,), (3, 8, 40), (1, 12, 12, 12)])
def test_what_does_not_fit_gets_a_model_that_does(shape):
    with pytest.raises(ModelError) as caught:
        build_model("airbench", shape, 3)
    other = re.search(r"--model ([\w-]+)", caught.value.remedy).group(1)
    build_model(other, shape, 3)


def test_every_convolution_but_the_first_passes_its_input_on_exactly():
    network = build_model("airbench(width=6)")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and not isinstance(m, WhiteningConv2d)]
    assert len(convolutions) == 6
    for layer in convolutions:
        x = torch.randn(2, layer.in_channels, 5, 6)
        passed = min(layer.in_channels, layer.out_channels)
        with torch.no_grad():
            assert torch.equal(layer(x)[:, :passed], x[:, :passed])
        assert layer.weight.detach()[passed:].abs().sum() > 0 or layer.out_channels <= layer.in_channels


def test_normalizations_shift_and_do_not_scale():
    for module in build_model("airbench(width=4)").modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not module.weight.requires_grad
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert module.bias.requires_grad
            assert module.momentum == 0.4
