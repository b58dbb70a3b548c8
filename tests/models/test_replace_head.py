"""Another output layer: only it changes, wherever it lies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.weights.replace_head import replace_head

CASES = [
    ("mnist-cnn", (1, 28, 28), False, "fc2"),
    ("small-resnet(width=4)", (3, 16, 16), False, "fc"),
    ("small-unet(width=4)", (3, 8, 8), True, "head"),
    ("conv(4,3) relu conv(10,1) gap", (2, 9), False, "conv2"),
    ("conv(4,3) relu conv(10,3,pad=1,stride=1,bias=false) gap", (1, 6, 6, 6), False, "conv2"),
]


@pytest.mark.parametrize(("name", "shape", "dense", "head"), CASES, ids=[c[0][:20] for c in CASES])
def test_only_the_output_layer_is_new(name, shape, dense, head) -> None:
    network = build_model(name, shape, 10, dense=dense)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert replace_head(network, 7) is network
    after = network.state_dict()
    assert list(after) == list(before)
    changed = [
        key for key in after if after[key].shape != before[key].shape or not torch.equal(after[key], before[key])
    ]
    assert {key.rpartition(".")[0] for key in changed} == {head}
    assert network.eval()(torch.randn(2, *shape)).shape[:2] == (2, 7)
    # Small first outputs, so that the loss begins near ln 7.
    weight = network.get_submodule(head).get_parameter("weight")
    assert 0.3 < weight.std() * weight[0].numel() ** 0.5 / 0.1 < 2


def test_a_network_that_is_its_output_layer() -> None:
    fresh = replace_head(nn.Linear(4, 10, bias=False).double(), 3)
    assert isinstance(fresh, nn.Linear)
    assert (fresh.in_features, fresh.out_features, fresh.bias, fresh.weight.dtype) == (4, 3, None, torch.float64)


def test_inner_names_and_random_state_decide() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return replace_head(nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(4, 10))), 3)[0][1].weight

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.ReLU(), "no output layer with weights"),
        (nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3)), "a LazyLinear"),
        (nn.Sequential(nn.ConvTranspose2d(2, 4, 2)), "a ConvTranspose2d"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "a Conv2d"),
        (nn.LSTM(3, 4), "an LSTM"),
    ],
)
def test_what_cannot_be_replaced_is_told(network, words) -> None:
    with pytest.raises(ModelError) as caught:
        replace_head(network, 3)
    assert words.replace("an LSTM", "a LSTM") in caught.value.got
    assert "cannot be replaced" in caught.value.got
