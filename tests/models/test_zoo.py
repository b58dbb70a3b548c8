"""The zoo: published numbers, shapes, sizes that fit and sizes that do not."""

import math
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from striate.account.summarize import count_macs
from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.registry import MODELS, describe_model
from striate.models.zoo.small_resnet import SmallResidualBlock

LIGHT = [name for name, info in MODELS.items() if info.published_macs < 10**8]
"""Networks whose published form runs in a moment; all of them, small, are in test_families.py."""
FOR_DIGITS = [
    name
    for name in LIGHT
    if MODELS[name].reduction == 1 and len(MODELS[name].input_shape) == 3 and name != "autoencoder"  # it has no classes
]


def parameters(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.each_nth(9)
@pytest.mark.parametrize("name", MODELS)
def test_published_form(name):
    info = MODELS[name]
    with torch.device("meta"):
        network = build_model(name)
        assert all(t.is_meta for t in network.state_dict().values())
        out = network.eval()(torch.zeros(2, *info.input_shape))
    expected = info.input_shape if name == "autoencoder" else (info.outputs, *info.input_shape[1:] * info.dense)
    assert out.shape == (2, *expected)
    assert parameters(network) == info.published_parameters
    assert count_macs(network, info.input_shape) == info.published_macs


WITH_FORMS = [(name, p) for name, info in MODELS.items() for p in info.parameters if p.name in ("stem", "head")]


@pytest.mark.each_nth(5)
@pytest.mark.parametrize(("name", "parameter"), WITH_FORMS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_stem_or_head_is_published_or_small_whatever_the_network(name, parameter):
    assert (parameter.choices, parameter.default) == (("published", "small"), "published")
    assert MODELS[name].small_form == f"{name}({parameter.name}=small)"
    with torch.device("meta"):
        written = build_model(f"{name}({parameter.name}=published)")
    assert parameters(written) == MODELS[name].published_parameters


@pytest.mark.parametrize(
    ("name", "top1", "top5"),
    [
        ("alexnet", 43.478, 20.934),
        ("vgg16", 28.408, 9.618),
        ("resnet18", 30.242, 10.922),
        ("googlenet", 30.222, 10.470),
        ("densenet121", 25.566, 8.028),
    ],
)
def test_errors_of_weights_have_the_three_decimals_of_their_source(name, top1, top5):
    (error,) = (e for e in MODELS[name].errors if "IMAGENET1K_V1" in e.source)
    assert (error.top1, error.top5, error.of) == (top1, top5, "ImageNet validation, one crop of 224")


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", LIGHT)
def test_every_parameter_has_a_gradient(name):
    network = build_model(name)
    network(torch.zeros(2, *MODELS[name].input_shape)).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize(
    "model",
    [*FOR_DIGITS, "mlp(25,15,activation=tanh)", "{conv(16,5) relu pool(2) fc}", "{2*[conv(9,3) relu] gap dropout fc}"],
)
def test_the_loss_begins_near_that_of_a_guess(model, classes):
    torch.manual_seed(0)
    info = MODELS.get(model.partition("(")[0])
    name = f"{model[1:-1]}({classes})" if model.startswith("{") else model
    network = build_model(name, (1, 28, 28), classes, dense=info is not None and info.dense)
    with torch.no_grad():
        logits = network(torch.randn(64, 1, 28, 28))
    targets = torch.randint(classes, (64, *logits.shape[2:]))
    loss = float(nn.functional.cross_entropy(logits, targets))
    assert loss == pytest.approx(math.log(classes), rel=0.2)


@pytest.mark.parametrize("name", LIGHT)
def test_biases_and_normalization_are_told_by_name_or_axes(name):
    for layer in build_model(name).modules():
        for kind, p in layer.named_parameters(recurse=False):
            assert kind == "bias" or (p.ndim == 1) == isinstance(
                layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
            )


@pytest.mark.parametrize(
    ("name", "count"),
    [("perceptron", 7_850), ("mlp(128,64)", 109_386), ("mlp", 109_386), ("lenet5", 61_706), ("mnist-cnn", 35_330)],
)
def test_parameter_counts_on_digits(name, count):
    assert parameters(build_model(name, (1, 28, 28), 10)) == count


def test_lenet5_has_the_same_weights_for_28_and_32_pixels():
    assert parameters(build_model("lenet5", (1, 32, 32), 10)) == 61_706


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 30), (3, 64, 64), (1, 65, 33), (3, 96, 80)])
def test_small_resnet_takes_any_image_from_8_pixels(shape):
    network = build_model("small-resnet(width=8,blocks=1)", shape, 5).eval()
    assert network(torch.zeros(1, *shape)).shape == (1, 5)
    assert hasattr(network, "layer4") == (max(shape[1:]) > 64)


def test_residual_blocks_start_as_their_shortcut():
    block = next(m for m in build_model("small-resnet").modules() if isinstance(m, SmallResidualBlock))
    x = torch.rand(2, 32, 8, 8)
    torch.testing.assert_close(block(x), x)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("shape", [(2, 1000), (2, 1), (1, 8, 8), (1, 1, 1), (3, 1000, 2), (1, 8, 8, 8), (2, 3, 4, 5)])
def test_small_cnn_and_small_dilated_take_any_grid(shape):
    assert build_model("small-cnn(width=4)", shape, 3).eval()(torch.zeros(1, *shape)).shape == (1, 3)
    masks = build_model("small-dilated(width=4)", shape, 3, dense=True).eval()
    assert masks(torch.zeros(1, *shape)).shape == (1, 3, *shape[1:])


def test_small_unet_says_which_sizes_it_takes():
    network = build_model("small-unet(width=4)", (1, 12, 20), 3, dense=True).eval()
    assert network(torch.zeros(1, 1, 8, 16)).shape == (1, 3, 8, 16)
    with pytest.raises(ModelError) as caught:
        network(torch.zeros(1, 1, 9, 16))
    assert "--size 12x16" in caught.value.remedy
    build_model(re.search(r"--model (\S+?),", caught.value.remedy).group(1), (1, 9, 16), 3, dense=True)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("small-resnet", (3, 7, 30)), ("small-resnet", (13,)), ("small-resnet", (1, 50)), ("small-unet", (13,))],
)
def test_inputs_that_do_not_fit_get_a_model_that_does(name, shape):
    with pytest.raises(ModelError) as caught:
        build_model(name, shape, 3)
    other = re.search(r"--model ([\w-]+)", caught.value.remedy).group(1)
    build_model(other, shape, 3)


@pytest.mark.parametrize("name", ["lenet5", "mnist-cnn"])
def test_an_image_too_small_gets_a_layer_string_that_fits(name):
    with pytest.raises(ModelError) as caught:
        build_model(name, (1, 8, 8), 7)
    assert name in caught.value.where
    mended = re.search(r'"(.*)"', caught.value.remedy).group(1)
    assert build_model(mended, (1, 8, 8), 7)(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


def test_mlp_takes_sizes_activation_and_dropout():
    network = build_model("mlp(25,15,activation=tanh,dropout=0.2)", (4,), 3)
    assert [name for name, _ in network.named_children()] == [
        "fc1", "tanh1", "dropout1", "fc2", "tanh2", "dropout2", "fc3",
    ]  # fmt: skip
    assert parameters(network) == 5 * 25 + 26 * 15 + 16 * 3


def test_describe_model():
    assert describe_model("lenet5") == [MODELS["lenet5"]]
    assert {info.name for info in describe_model()} == set(MODELS)
    assert MODELS["small-resnet"].signature == "small-resnet(width=32, blocks=2)"
    with pytest.raises(ModelError) as caught:
        describe_model("lenet")
    assert caught.value.remedy.startswith("striate models lenet5")


def test_the_registry_and_layer_strings_do_not_load_torch():
    inner = "layer_string shapes outputs spec".split()  # noqa: SIM905
    modules = ["registry", "choose", "config", *(f"layer_strings.{name}" for name in inner)]
    imports = "; ".join(f"import striate.models.{name}" for name in modules)
    code = f"{imports}; import sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
