"""Totals of known networks, a fake pass against a real one, what shape errors say."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate import Ledger, summarize
from striate.account.observing import observation
from striate.account.observing.make_ledger import make_ledger
from striate.account.observing.observation import trying
from striate.account.summarize import observe
from striate.errors import ModelError, NoInputShape
from striate.models.build import build_model


@pytest.mark.parametrize(
    ("network", "shape"), [("conv(64,3) fc(9)", (3, 700, 600)), ("conv(8,3) relu fc(3)", (9, 99999))]
)
def test_a_flattened_map_takes_no_memory_and_nothing_of_a_pass_is_left(network: str, shape: tuple[int, ...]) -> None:
    summarize("conv(2,3) fc(2)", (1, 9, 9))  # what torch and NumPy load at the first use
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        ledger = summarize(network, shape)
        left, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    rows = {row.kind: row for row in ledger.rows}
    assert (rows["flatten"].receptive_field[0], rows["fc"].receptive_field) == (3, shape[1:])
    assert left < 1e6
    assert most < 2e7


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


class TwoOutputs(nn.Module):
    """Two layers on one input; `form` makes the output of theirs."""

    def __init__(self, form: type) -> None:
        super().__init__()
        self.a, self.b, self.form = nn.Linear(4, 3), nn.Linear(4, 2), form

    def forward(self, x: torch.Tensor) -> object:
        return self.form({"a": self.a(x), "b": self.b(x)}.items())


@pytest.mark.parametrize(("form", "name"), [(dict, "b"), (list, "1")])
def test_all_outputs_are_named(form: type, name: str) -> None:
    ledger = summarize(TwoOutputs(form), (4,))
    assert (ledger.output, ledger.other_outputs) == ((3,), {name: (2,)})
    assert "TwoOutputs: 4 → 3 and 2\n" in str(ledger)


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


def test_memory_of_dropout_is_that_of_training() -> None:
    network = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, 10))
    before = torch.get_rng_state()
    ledger = observe(network, (100,))
    # The input, the output of the activation, the mask, and what the second layer gets.
    assert ledger.training_bytes == 400 + 200 + 200 + 200
    assert all(module.training for module in network.modules())
    assert torch.equal(before, torch.get_rng_state())
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


@pytest.mark.slow
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


@pytest.mark.each_nth(3)
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
