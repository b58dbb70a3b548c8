"""Totals of known networks, a fake pass against a real one, what shape errors say."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate import Ledger, summarize
from striate.account.observing import observation
from striate.account.observing.make_ledger import make_ledger
from striate.account.observing.trial import trying
from striate.account.summarize import observe
from striate.errors import ModelError, NoInputShape
from striate.models.build import build_model


def vgg16_features() -> nn.Module:
    """Thirteen 3×3 convolutions in five groups (Simonyan and Zisserman, 2015), thin."""
    layers: list[nn.Module] = []
    channels = 3
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            layers += [nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(inplace=True)]
            channels = 4
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def test_mnist_cnn_is_that_of_the_lectures() -> None:
    ledger = summarize("mnist-cnn")
    assert isinstance(ledger, Ledger)
    rows = {row.name: row for row in ledger.rows}
    assert (ledger.model, ledger.input, ledger.output) == ("mnist-cnn", (1, 28, 28), (10,))
    assert ledger.params == ledger.trainable == 416 + 9624 + 24640 + 650
    assert ledger.macs == 24 * 24 * 16 * 25 + 8 * 8 * 24 * 25 * 16 + 384 * 64 + 640
    assert rows["pool2"].receptive_field == (16, 16) == ledger.receptive_field
    assert rows["pool2"].jump == (4, 4) == ledger.jump
    assert rows["fc1"].receptive_field == (28, 28)
    assert rows["fc1"].jump == (0, 0)
    assert ledger.weight_bytes == 4 * 35330
    assert ledger.optimizer_bytes == {"sgd": 8 * 35330, "momentum": 12 * 35330, "adam": 16 * 35330}
    assert ledger.other_ops == {
        "bias": 9216 + 1536 + 64 + 10,
        "relu": 9216 + 1536 + 64,
        "max_pool2d": 4 * (2304 + 384),
    }
    assert ledger.uncounted == ()


def test_published_receptive_fields() -> None:
    # Araujo et al., Distill 2019
    vgg = observe(vgg16_features(), (3, 224, 224))
    assert (vgg.receptive_field, vgg.jump) == ((212, 212), (32, 32))
    alexnet = nn.Sequential(
        *(nn.Conv2d(3, 2, 11, 4, 2), nn.MaxPool2d(3, 2), nn.Conv2d(2, 2, 5, padding=2), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)),
        nn.MaxPool2d(3, 2),
    )
    ledger = observe(alexnet, (3, 224, 224))
    assert (ledger.receptive_field, ledger.jump) == ((195, 195), (32, 32))


def bottlenecks(strides_last: bool) -> nn.Module:
    """The 3×3 convolutions of ResNet-50 with the stride in the first unit of a stage, or in the last."""
    layers: list[nn.Module] = [nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    for stage, units in enumerate((3, 4, 6, 3)):
        for unit in range(units):
            strided = (unit == units - 1 and stage < 3) if strides_last else (unit == 0 and stage > 0)
            layers.append(nn.Conv2d(1, 1, 3, 2 if strided else 1, 1))
    return nn.Sequential(*layers)


def test_where_the_stride_is_decides_the_field_of_a_residual_network() -> None:
    # 483 is published for the form with the stride in the last unit of each stage; torchvision's has it in the first.
    assert observe(bottlenecks(True), (1, 224, 224)).receptive_field == (483, 483)
    assert observe(bottlenecks(False), (1, 224, 224)).receptive_field == (427, 427)


def test_a_published_residual_network() -> None:
    ledger = summarize("resnet50", (3, 224, 224))
    assert (ledger.params, ledger.macs) == (25_557_032, 4_089_184_256)
    assert (ledger.receptive_field, ledger.jump) == ((427, 427), (32, 32))
    assert len(ledger.rows) == 1 + 1 + 1 + 1 + 16 * 9 + 4 * 2 + 2
    json = ledger.to_json()
    assert (json["receptive_field"], json["jump"], json["flops"]) == (427, 32, 2 * 4_089_184_256)


def test_a_table_has_one_axis_of_features() -> None:
    ledger = observe("mlp(8)", (13,), outputs=3)
    assert [(row.name, row.receptive_field) for row in ledger.rows] == [
        ("fc1", (13,)),
        ("relu1", (13,)),
        ("fc2", (13,)),
    ]
    assert (ledger.params, ledger.macs, ledger.receptive_field) == (13 * 8 + 8 + 27, 13 * 8 + 24, (13,))


def test_without_an_input_shape_it_is_asked_for() -> None:
    for model in (nn.Linear(3, 2), "conv(3,3) relu"):
        with pytest.raises(NoInputShape) as caught:
            observe(model)
        assert "--input 1x28x28" in caught.value.remedy


def test_a_name_that_means_nothing_needs_another_name_and_no_shape() -> None:
    with pytest.raises(ModelError, match="resnet18") as caught:
        observe("resnet19")
    assert not isinstance(caught.value, NoInputShape)


@pytest.mark.parametrize(
    ("layer", "size", "leftover"),
    [
        (nn.Conv2d(1, 1, 3, stride=3), 7, 1),
        (nn.Conv2d(1, 1, 1, stride=2), 7, 3),
        (nn.Conv2d(1, 1, 3, stride=3, padding=1), 7, 0),
        (nn.Conv2d(1, 1, 2, dilation=3, stride=5), 9, 5),
        (nn.MaxPool2d(2), 7, 1),
        (nn.MaxPool2d(2, ceil_mode=True), 7, 0),
        (nn.AvgPool2d(3, 2), 8, 1),
        (nn.AdaptiveAvgPool2d(3), 7, 0),
        (nn.Conv2d(1, 1, 4, padding="same"), 7, 0),
        (nn.Conv2d(1, 1, 3, stride=3, padding=1, padding_mode="reflect"), 7, 0),
        (nn.ConvTranspose2d(1, 1, 1, stride=2), 5, 0),
        (nn.ReLU(), 7, 0),
    ],
)
def test_positions_that_no_window_covers(layer: nn.Module, size: int, leftover: int) -> None:
    assert observe(layer, (1, size, size)).rows[0].leftover == (leftover, leftover)


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_settings_are_those_of_the_windows() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, (3, 4), stride=(1, 1), padding="same", groups=2, bias=False), nn.ReLU())
    settings_ = observe(network, (2, 9, 9)).rows[0].settings
    assert settings_ == {
        "kernel": (3, 4),
        "stride": (1, 1),
        "padding": (1, 1),
        "padding_after": (1, 2),
        "dilation": (1, 1),
        "groups": 2,
        "bias": False,
        "channels": 2,
        "same": True,
    }


# --- receptive fields against gradients ----------------------------------------------------------------------------

CHAIN = st.lists(
    st.sampled_from(
        [
            "conv(2,3)",
            "conv(2,3,pad=1)",
            "conv(2,2,2)",
            "conv(2,3,pad=2,dilation=2)",
            "conv(4,1,2)",
            "avgpool(2)",
            "avgpool(3,2,1)",
            "local(2,3)",
            "up(2)",
            "res[conv(2,3,pad=1)]",
            "res[conv(3,3,2,pad=1)]",
            "bn",
            "gap fc(3)",
            "fc(3)",
        ]
    ),
    min_size=1,
    max_size=5,
)


def seen_by_gradient(network: nn.Module, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last input position along each axis that the middle output depends on: all weights are positive."""
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point():
            value.data = torch.ones_like(value)
    # Two samples: of one whose batch axis has an odd stride, torch 2.13 gives wrong gradients in batch normalization.
    x = torch.rand(2, *shape, dtype=torch.float64).add_(1).requires_grad_(True)
    out = network.double().eval()(x)
    middle = out[(0, slice(None), *(side // 2 for side in out.shape[2:]))].sum()
    (gradient,) = torch.autograd.grad(middle, x)
    support = gradient[0].sum(0) != 0
    spans = []
    for axis in range(support.ndim):
        along = support.movedim(axis, 0).flatten(1).any(1) if support.ndim > 1 else support
        along = along.nonzero().flatten()
        spans.append((int(along[0]), int(along[-1])))
    return spans


@settings(max_examples=60)
@given(CHAIN, st.sampled_from([(1, 41), (2, 27, 30), (1, 13, 14, 15)]))
def test_fields_are_where_the_gradient_is(words: list[str], shape: tuple[int, ...]) -> None:
    try:
        network = build_model(" ".join(words), shape)
    except ModelError:
        return
    last = observation.observe_network(network, shape).observer.entries.done[-1]
    spans = seen_by_gradient(network, shape)
    out = (1, *last.out_shape)
    for axis, (seen, (first, end)) in enumerate(zip(last.fields, spans, strict=True)):
        middle = (0, slice(None), *(side // 2 for side in out[2:]))
        low = int(np.broadcast_to(seen.lo, out)[middle].min())
        high = int(np.broadcast_to(seen.hi, out)[middle].max())
        assert high - low + 1 <= observe(network, shape).rows[-1].receptive_field[axis]
        if low >= 0 and high < shape[1 + axis]:
            assert (first, end) == (low, high)
        else:  # beyond the border there is nothing, and windows that would begin there do not exist
            assert low <= first <= end <= high


@settings(max_examples=40)
@given(st.integers(4, 20), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2), st.integers(0, 2))
def test_leftover_is_where_no_gradient_is(size: int, kernel: int, stride: int, dilation: int, padding: int) -> None:
    layer = nn.Conv1d(1, 1, kernel, stride, padding, dilation, bias=False)
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return
    nn.init.ones_(layer.weight)
    x = torch.ones(1, 1, size, requires_grad=True)
    layer(x).sum().backward()
    assert observe(layer, (1, size)).rows[0].leftover == (int((x.grad == 0).sum()),)


# --- with shapes only, and for real --------------------------------------------------------------------------------


def real(network: nn.Module, shape: tuple[int, ...]) -> Ledger:
    return make_ledger(type(network).__name__, observation._observe(network, shape, numbers=True), shape)


EVERY_WORD = [
    "conv(4,3,pad=1)",
    "relu",
    "pool(2)",
    "avgpool(3,2)",
    "lrn",
    "lcn(3)",
    "bn",
    "gn(2)",
    "ln",
    "tanh",
    "swish",
    "prelu",
    "elu",
    "leaky",
    "sigmoid",
    "maxout(2)",
    "local(4,3)",
    "l2pool(2)",
    "chpool(3)",
    "dropout",
    "gap",
    "fc(4)",
    "softmax",
    "up(2)",
    "res[conv(4,3,pad=1)]",
]


@settings(max_examples=25)
@given(
    st.lists(
        st.sampled_from(EVERY_WORD),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([(4, 18), (4, 13, 12), (4, 7, 8, 9), (8,)]),
)
def test_a_pass_with_shapes_only_counts_as_a_real_one(words: list[str], shape: tuple[int, ...]) -> None:
    try:
        network = build_model(" ".join(words), shape)
    except ModelError:
        return
    fake, full = observe(network, shape), real(network, shape)
    assert fake.rows == full.rows
    assert fake == full
    with torch.no_grad(), trying(network, numbers=True):
        assert fake.output == tuple(network(torch.zeros(1, *shape)).shape[1:])


def test_memory_of_a_chain_is_that_of_its_arithmetic() -> None:
    network = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    ledger = observe(network, (100,))
    # Autograd keeps the input and the output of the activation, which is the input of the second layer.
    assert [row.saved_bytes for row in ledger.rows] == [400, 200, 0]
    assert ledger.training_bytes == 600
    assert [row.output_bytes for row in ledger.rows] == [200, 200, 40]
    assert ledger.activation_bytes == 440
    # Input, output of the first layer and of the activation, at one time: the caller holds the input.
    assert ledger.inference_bytes == 400 + 200 + 200


def test_intensity_is_operations_for_each_byte() -> None:
    row = observe(nn.Linear(100, 50), (100,)).rows[0]
    assert math.isclose(row.intensity, (2 * 5000 + 50) / (4 * (5000 + 50 + 100 + 50)))


# --- files and other names -----------------------------------------------------------------------------------------

FILES = {
    "looks at numbers": (
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(4, 3)\n"
        "    def forward(self, x):\n        return self.fc(x) if x.sum().item() == 0 else None\n"
        "def build(): return Net()\n",
        True,
    ),
    "looks at numbers while it builds": (
        "def build():\n    width = int(torch.linspace(2, 3, 2)[1].item())\n    return nn.Linear(4, width)\n",
        False,
    ),
    "plain": ("def build(): return nn.Linear(4, 3)\n", False),
}


@pytest.mark.parametrize("name", FILES)
def test_networks_of_files(name: str, tmp_path: Path) -> None:
    code, looks = FILES[name]
    file = tmp_path / "net.py"
    file.write_text("import torch\nfrom torch import nn\n" + code)
    ledger = summarize(f"{file}:build", (4,))
    assert (ledger.params, ledger.macs, ledger.output) == (15, 12, (3,))
    assert (ledger.uncounted, bool(ledger.real_pass)) == ((), looks)


def test_a_network_that_does_not_fit_is_told_where() -> None:
    with pytest.raises(ModelError, match="kernel 5 is larger than the map of 3") as caught:
        observe(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 5)), (1, 5, 5))
    assert caught.value.where == "`1` (Conv2d)"


def test_the_effective_field_is_measured_on_demand() -> None:
    ledger = summarize("conv(4,3,pad=1) relu conv(4,3,pad=1)", (1, 12, 12), effective=True)
    assert ledger.effective_receptive_field is not None
    assert all(1 <= size <= 5 for size in ledger.effective_receptive_field)
    assert summarize("conv(4,3)", (1, 12, 12)).effective_receptive_field is None


def test_nothing_of_torch_that_takes_long_is_loaded() -> None:
    code = (
        "import striate, sys; striate.summarize('resnet18', (3, 64, 64)); "
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (nn.Softmax(1), 5 * 16),
        (nn.LayerNorm(16), 7 * 16),
        (nn.BatchNorm1d(16), 2 * 16),
        (nn.Sigmoid(), 16),
        (nn.Identity(), 0),
        (nn.Dropout(), 0),
        (nn.Linear(16, 3), 3),
    ],
)
def test_other_operations(network: nn.Module, count: int) -> None:
    assert observe(network, (16,)).rows[0].other_ops == count


@pytest.mark.parametrize(
    ("layer", "shape", "field", "jump"),
    [
        (nn.Conv2d(1, 1, 3, dilation=2), (1, 9, 9), (5, 5), (1, 1)),
        (nn.Conv2d(1, 1, (1, 4), (1, 3)), (1, 9, 10), (1, 4), (1, 3)),
        (nn.AdaptiveAvgPool2d(1), (1, 6, 7), (6, 7), (0, 0)),
        (nn.AdaptiveAvgPool1d(2), (1, 6), (3,), (3,)),
        (nn.Upsample(scale_factor=2), (1, 4, 4), (1, 1), (0.5, 0.5)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 4, 4), (2, 2), (0.5, 0.5)),
        (nn.ConvTranspose1d(1, 1, 4, 2, 1), (1, 5), (2,), (0.5,)),
        (nn.PixelShuffle(2), (4, 3, 3), (1, 1), (0.5, 0.5)),
        (nn.PixelUnshuffle(2), (1, 4, 4), (2, 2), (2, 2)),
        (nn.LocalResponseNorm(3), (4, 5, 5), (1, 1), (1, 1)),
        (nn.InstanceNorm2d(2), (2, 5, 6), (5, 6), (1, 1)),
        (nn.Flatten(), (2, 5, 6), (1, 1), (0, 0)),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (1, 3, 4), (3, 4), (0, 0)),
        (nn.Sequential(nn.ZeroPad2d(2), nn.Conv2d(1, 1, 5)), (1, 6, 6), (5, 5), (1, 1)),
    ],
)
def test_fields_of(layer: nn.Module, shape: tuple[int, ...], field: tuple[int, ...], jump: tuple[float, ...]) -> None:
    row = observe(layer, shape).rows[-1]
    assert (row.receptive_field, row.jump) == (field, jump)


def test_neither_padding_nor_its_kind_moves_the_first_unit() -> None:
    for mode in ("zeros", "reflect", "replicate", "circular"):
        row = observe(nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode), (1, 6, 6)).rows[0]
        assert (row.receptive_field, row.center, row.leftover) == ((3, 3), (0, 0), (0, 0)), mode


@pytest.mark.parametrize(
    ("name", "convolutions", "linear"),
    [
        ("alexnet", 655_566_528, 58_621_952),
        ("vgg16", 15_346_630_656, 123_633_664),
        ("googlenet", 1_497_352_192, 1_024_000),
        ("resnet50", 4_087_136_256, 2_048_000),
        ("densenet121", 2_833_137_664, 1_024_000),
    ],
)
def test_products_are_those_that_fvcore_counts(name: str, convolutions: int, linear: int) -> None:
    # fvcore 0.1.5 on torchvision's networks at 224, without what it adds for normalization and average pooling.
    rows = observe(name, (3, 224, 224)).rows
    assert sum(row.macs for row in rows if row.kind == "conv") == convolutions
    assert sum(row.macs for row in rows if row.kind == "fc") == linear
    assert sum(row.macs for row in rows) == convolutions + linear
