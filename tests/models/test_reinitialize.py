"""Each initialization against its formula, torch's own function, and what it must leave alone."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from striate.errors import ConfigError
from striate.layers.convolution import LocallyConnected
from striate.models.build import build_model, refuse_init
from striate.models.config import Initialization
from striate.models.initialization.reinitialize import fans, reinitialize
from striate.models.registry import MODELS

WAYS = [way for way in Initialization.__args__ if way not in ("auto", "dirac")]
LAYERS = {
    "linear": (lambda: nn.Linear(300, 200), 300, 200),
    "conv": (lambda: nn.Conv2d(32, 48, 5, stride=2), 32 * 25, 48 * 25),
    "grouped": (lambda: nn.Conv2d(64, 96, 3, groups=4), 16 * 9, 24 * 9),
    "transposed": (lambda: nn.ConvTranspose2d(40, 60, 4), 40 * 16, 60 * 16),
    "local": (lambda: LocallyConnected(12, 20, (9, 9), 3), 12 * 9, 20 * 9),
}
TORCH = {
    "he-normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "he-uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "glorot-normal": nn.init.xavier_normal_,
    "glorot-uniform": nn.init.xavier_uniform_,
    "lecun-normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"),
    "orthogonal": nn.init.orthogonal_,
    "normal": lambda w: nn.init.normal_(w, 0.0, 0.01),
    "uniform": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
}


def variance(way, n, m):
    return {
        "he": 2 / n, "glorot": 2 / (n + m), "lecun": 1 / n, "normal": 1e-4, "uniform": 1 / (3 * n),
        "orthogonal": 1 / max(n, m),
    }[way.split("-")[0]]  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "orthogonal"])
def test_the_variance_is_that_of_the_formula(way, kind):
    make, n, m = LAYERS[kind]
    torch.manual_seed(0)
    layer = make()
    assert fans(layer) == (n, m)
    reinitialize(layer, way)
    weight = layer.weight.detach()
    assert float(weight.var()) == pytest.approx(variance(way, n, m), rel=0.05)
    assert abs(float(weight.mean())) < 0.05 * float(weight.std())
    if way.endswith("uniform"):
        assert float(weight.abs().max()) <= math.sqrt(3 * variance(way, n, m)) * (1 + 1e-6)
    if way == "uniform":
        assert float(layer.bias.detach().std()) == pytest.approx(1 / math.sqrt(3 * n), rel=0.15)
    else:
        assert not layer.bias.any()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [LAYERS["linear"][0], LAYERS["conv"][0]])
def test_the_same_random_state_gives_the_weights_of_torch(way, make):
    layer, peer = make(), make()
    torch.manual_seed(5)
    reinitialize(layer, way)
    torch.manual_seed(5)
    TORCH[way](peer.weight)
    torch.testing.assert_close(layer.weight, peer.weight)


@pytest.mark.parametrize("kind", ["linear", "conv", "local"])
def test_orthogonal_matrices_are_orthonormal(kind):
    layer = LAYERS[kind][0]()
    reinitialize(layer, "orthogonal")
    matrices = layer.weight.detach().reshape(
        -1, *((20, 108) if kind == "local" else (layer.weight.shape[0], LAYERS[kind][1]))
    )
    for matrix in matrices[:3]:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-5)
    assert kind != "local" or not torch.equal(matrices[0], matrices[1])


@pytest.mark.each_nth(5)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "model", ["mnist-cnn", "small-resnet(width=8)", "conv(4,5) relu local(3,3) fc(10)", nn.Linear(784, 10)]
)
def test_every_way_changes_every_layer_and_nothing_else(way, model):
    def built(init):
        torch.manual_seed(1)
        made = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)) if isinstance(model, nn.Module) else model
        return build_model(made, (1, 28, 28), 10, init=init)

    before, network = built("auto").state_dict(), built(way)
    kernels = {name for name, p in network.named_parameters() if p.ndim > 1 and not name.endswith("bias")}
    for name, tensor in network.state_dict().items():
        if name in kernels:
            assert not torch.equal(tensor, before[name]), name
        elif "bn" in name:
            assert torch.equal(tensor, before[name]), name


def test_auto_leaves_a_module_of_ones_own_as_it_is():
    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    before = {name: p.clone() for name, p in module.state_dict().items()}
    assert build_model(module, (1, 3, 3), 2) is module
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.LazyLinear(3)),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
    ],
    ids=["no layer", "lazy", "parametrized"],
)
def test_networks_that_a_way_cannot_be_applied_to_are_refused(module):
    with pytest.raises(ConfigError) as caught:
        reinitialize(module, "he-normal")
    assert caught.value.where == "model.init"
    reinitialize(module, "auto")


def test_first_weights_beside_weights_of_a_file_are_refused():
    with pytest.raises(ConfigError, match=r"model\.init"):
        refuse_init("orthogonal", "weights of net.pt")
    refuse_init("auto", "weights of net.pt")


OF_THEIR_OWN = ("lenet5-1998", "neocognitron")


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_layers_that_begin_in_their_own_way_are_not_left_out_silently(name):
    with pytest.raises(ConfigError, match="has its own initialization"), torch.device("meta"):
        build_model(name, init="he-normal")


@pytest.mark.each_nth(9)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in OF_THEIR_OWN])
def test_the_zoo_takes_a_way_also_on_the_meta_device(name):
    with torch.device("meta"):
        network = build_model(name, init="orthogonal" if name == "mlp" else "he-normal")
    assert all(p.is_meta for p in network.parameters())


@pytest.mark.parametrize(
    ("layer", "groups"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 1),
        (nn.Conv2d(6, 4, 5, padding=2), 1),
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), 2),
    ],
)
def test_dirac_passes_channels_on_exactly_as_far_as_there_are_filters_and_channels(layer, groups):
    reinitialize(layer, "dirac")
    x = torch.randn(2, layer.in_channels, 6, 5)
    with torch.no_grad():
        out = layer(x)
    own = out.unflatten(1, (groups, -1)), x.unflatten(1, (groups, -1))
    passed = min(own[0].shape[2], own[1].shape[2])
    assert torch.equal(own[0][:, :, :passed], own[1][:, :, :passed])
    others = layer.weight.detach().unflatten(0, (groups, -1))[:, passed:]
    assert others.numel() == 0 or float(others.std()) == pytest.approx(1 / math.sqrt(3 * fans(layer)[0]), rel=0.2)


def test_dirac_leaves_matrices_random():
    layer = nn.Linear(300, 200)
    reinitialize(layer, "dirac")
    assert float(layer.weight.detach().std()) == pytest.approx(1 / math.sqrt(3 * 300), rel=0.05)
    assert not layer.bias.any()
