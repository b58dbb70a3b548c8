"""Heads that only training has: how they are sized, what they see, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.errors import ConfigError
from striate.models.build import build_model
from striate.training.auxiliary import make_heads, turned
from striate.training.config import AuxiliaryConfig

NETWORK = "conv(4,3) bn relu pool(2) fc(5) relu fc(3)"


def network(shape: tuple[int, ...] = (1, 8, 8)) -> nn.Module:
    return build_model(NETWORK, shape, 3)


def sample(*shape: int) -> torch.Tensor:
    return torch.randn(2, *(shape or (1, 8, 8)))


def test_turns_are_quarters_counterclockwise_and_a_function_of_their_key() -> None:
    x = torch.randn(40, 2, 5, 5)
    images, quarters = turned(x, 0, 3, 1)
    for image, original, k in zip(images, x, quarters.tolist(), strict=True):
        assert torch.equal(image, torch.rot90(original, k, (1, 2)))
    assert set(quarters.tolist()) == {0, 1, 2, 3}
    again, other = turned(x, 0, 3, 1), turned(x, 0, 4, 1)
    assert torch.equal(again[0], images)
    assert not torch.equal(other[1], quarters)


def test_heads_are_sized_by_what_they_see_and_only_those_asked_for_are_made() -> None:
    module = network()
    both = make_heads(module, AuxiliaryConfig(rotation=1.0, layers=("conv1", "fc1")), "vector", 3, sample())
    assert (both.rotation.in_features, both.rotation.out_features) == (5, 4)
    assert [(c.in_features, c.out_features) for c in both.classifiers] == [(4, 3), (5, 3)]
    assert make_heads(module, AuxiliaryConfig(), "vector", 3, sample()) is None
    assert len(make_heads(module, AuxiliaryConfig(rotation=1.0), "vector", 1, sample()).classifiers) == 0
    assert make_heads(module, AuxiliaryConfig(layers=("relu1",)), "vector", 3, sample()).rotation is None


def test_sizing_leaves_the_network_as_it_was() -> None:
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    make_heads(module, AuxiliaryConfig(rotation=1.0), "vector", 3, sample())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


class Unusual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(8, 6, batch_first=True)
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.memory(x[:, 0])[0][:, -1])


@pytest.mark.parametrize(
    ("config", "needs", "shape", "said"),
    [
        (AuxiliaryConfig(layers=("conv9",)), "vector", (), "conv1, bn1, relu1"),
        (AuxiliaryConfig(layers=("fc2",)), "vector", (), "an inner layer"),
        (AuxiliaryConfig(layers=("conv1", "fc1", "conv1")), "vector", (), "--auxiliary.layers '[conv1,fc1]'"),
        (AuxiliaryConfig(rotation=1.0), "vector", (1, 8, 9), "8×9"),
        (AuxiliaryConfig(layers=("fc1",)), "map", (), "not a batch of maps"),
        (AuxiliaryConfig(layers=("conv1",)), "pyramid", (), "needs a pyramid"),
    ],
)
def test_what_cannot_be_is_refused(config, needs, shape, said) -> None:
    with pytest.raises(ConfigError) as caught:
        make_heads(network(shape or (1, 8, 8)), config, needs, 3, sample(*shape))
    assert said in str(caught.value)
    assert caught.value.where.startswith("auxiliary")


@pytest.mark.parametrize(
    ("layer", "said"), [("memory", "not a batch of features"), ("unused", "never run"), ("head", "the output layer")]
)
def test_layers_of_any_module_are_looked_at(layer: str, said: str) -> None:
    module = Unusual()
    with pytest.raises(ConfigError, match=said):
        make_heads(module, AuxiliaryConfig(layers=(layer,)), "vector", 3, sample(1, 5, 8))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_table_has_nothing_to_turn() -> None:
    with pytest.raises(ConfigError, match="a table"):
        make_heads(build_model("fc(4) relu fc(3)", (4,), 3), AuxiliaryConfig(rotation=1.0), "vector", 3, sample(4))


def test_a_network_without_kernels_has_no_layers_to_share() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))[:, None] * self.scale

    with pytest.raises(ConfigError, match="without kernels"):
        make_heads(Scale(), AuxiliaryConfig(rotation=1.0), "vector", 3, sample())


def test_inner_classifiers_of_a_task_that_needs_a_map_give_maps_of_the_size_of_the_input() -> None:
    module = build_model("conv(4,3,pad=1) relu pool(2) conv(6,3,pad=1) relu up(2) conv(3,1)", (1, 8, 8), 3, dense=True)
    heads = make_heads(module, AuxiliaryConfig(rotation=1.0, layers=("conv1", "relu2")), "map", 3, sample())
    assert heads is not None
    assert [tuple(c.weight.shape) for c in heads.classifiers] == [(3, 4, 1, 1), (3, 6, 1, 1)]
    with heads.watching(module) as found:
        module(sample(1, 8, 8))
    assert found["relu2"].shape == (2, 6, 4, 4)
    whole, enlarged = heads.inner_outputs(found, 1, (8, 8))
    assert whole.shape == enlarged.shape == (1, 3, 8, 8)
    assert torch.equal(whole, heads.classifiers[0](found["conv1"][:1]))
    expected = nn.functional.interpolate(heads.classifiers[1](found["relu2"][:1]), (8, 8), mode="bilinear")
    assert torch.equal(enlarged, expected)
