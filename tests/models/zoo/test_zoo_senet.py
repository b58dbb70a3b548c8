"""SE-ResNet-50 and SENet-154: where the gates stand and what they do, the stem, the small form."""

import math

import pytest
import torch
from torch import nn

from striate.account.summarize import count_parameters
from striate.layers.blocks import SqueezeExcitation
from striate.models.build import build_model
from striate.models.zoo.resnet import Bottleneck


def on_meta(name):
    with torch.device("meta"):
        return build_model(name).eval()


def without_gates(network):
    return {key: tuple(t.shape) for key, t in network.state_dict().items() if ".se." not in key}


def test_seresnet50_is_resnet50_with_gates_of_a_sixteenth():
    network, plain = on_meta("seresnet50"), on_meta("resnet50")
    assert without_gates(network) == without_gates(plain)
    blocks = zip((3, 4, 6, 3), (256, 512, 1024, 2048), strict=True)
    # Section 4: 2/r · Σ stages · channels², here with the biases.
    gates = sum(count * (2 * channels * channels // 16 + channels + channels // 16) for count, channels in blocks)
    assert count_parameters(network) - count_parameters(plain) == gates


@pytest.mark.slow
def test_open_gates_leave_resnet50():
    torch.manual_seed(0)
    network, plain = (build_model(f"{name}(width=8)", (3, 33, 40), 5).eval() for name in ("seresnet50", "resnet50"))
    for module in network.modules():
        if isinstance(module, Bottleneck):
            nn.init.ones_(module.bn3.weight)
            nn.init.zeros_(module.se.fc2.weight)
            nn.init.constant_(module.se.fc2.bias, 100.0)
    shared = {key: t for key, t in network.state_dict().items() if ".se." not in key}
    plain.load_state_dict(shared)
    x = torch.randn(2, 3, 33, 40)
    assert torch.equal(network(x), plain(x))
    for module in network.modules():
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.se.fc2.bias, -100.0)
            assert module.se(torch.randn(1, module.bn3.num_features, 3, 3)).abs().max() < 1e-30


def test_a_fresh_block_is_its_shortcut():
    block, x = Bottleneck(8, 8, 1, gate=SqueezeExcitation), torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x), x.relu())


def test_senet154_has_the_parts_that_its_appendix_lists():
    network = on_meta("senet154")
    assert [m.weight.shape[0] for m in network.conv1 if isinstance(m, nn.Conv2d)] == [64, 64, 128]
    for number, depth in enumerate((3, 8, 36, 3)):
        stage = getattr(network, f"layer{number + 1}")
        assert len(stage) == depth
        for block in stage:
            assert (block.conv1.out_channels, block.conv2.out_channels) == (128 << number, 256 << number)
            assert block.conv2.groups == 64
        assert stage[0].downsample[0].kernel_size == ((3, 3) if number else (1, 1))


@pytest.mark.slow
def test_the_small_form_of_senet154_keeps_the_size_and_all_tensors():
    small, sizes = on_meta("senet154(stem=small)"), []
    small.layer1.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    small(torch.empty(1, 3, 32, 40, device="meta"))
    assert sizes == [(32, 40)]
    assert without_gates(small) == without_gates(on_meta("senet154"))


@pytest.mark.slow
def test_dropout_stands_before_the_output_layer_and_only_where_asked_for():
    def dropouts(network):
        return [(key, m.p) for key, m in network.named_children() if isinstance(m, nn.Dropout)]

    assert dropouts(on_meta("senet154")) == []
    asked = on_meta("senet154(dropout=0.2)")
    assert dropouts(asked) == [("dropout", 0.2)]
    assert [key for key, _ in asked.named_children()][-3:] == ["avgpool", "dropout", "fc"]


@pytest.mark.parametrize(
    "name", ["seresnet50(width=8)", pytest.param("senet154(width=32,stem=small)", marks=pytest.mark.slow)]
)
def test_the_loss_begins_near_that_of_a_guess_and_every_parameter_has_a_gradient(name):
    torch.manual_seed(0)
    network = build_model(name, (1, 16, 16), 10)
    loss = nn.functional.cross_entropy(network(torch.randn(8, 1, 16, 16)), torch.arange(8))
    assert float(loss.detach()) == pytest.approx(math.log(10), rel=0.1)
    loss.backward()
    assert all(p.grad is not None for p in network.parameters())
