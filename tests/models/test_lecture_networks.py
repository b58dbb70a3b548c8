"""The networks of five lecture decks, accounted for as a user would: shapes, sizes and parameters of their pages.

Where a page is wrong or unclear, the test states the right value and says so.
"""

from __future__ import annotations

from math import prod

import pytest
from torch import nn

import striate
from striate.models.registry import MODELS

TABLE = [  # layer, activation shape (channels first), activation size, parameters, all as printed
    ("conv", (96, 55, 55), 290_400, 34_944),
    ("pool", (96, 27, 27), 69_984, 0),
    ("conv", (256, 27, 27), 186_624, 614_656),
    ("pool", (256, 13, 13), 43_264, 0),
    ("conv", (384, 13, 13), 64_896, 885_120),
    ("conv", (384, 13, 13), 64_896, 1_327_488),
    ("conv", (256, 13, 13), 43_264, 884_992),
    ("pool", (256, 6, 6), 9_216, 0),
    ("fc", (4096,), 4_096, 37_748_737),
    ("fc", (4096,), 4_096, 16_777_217),
    ("fc", (1000,), 1_000, 4_096_001),
]


def rows_of(ledger, *kinds):
    return [row for row in ledger.rows if row.kind in kinds]


def ledger_of(model, shape):
    return striate.summarize(model, shape)


@pytest.fixture(scope="module")
def one_column():
    """AlexNet without groups, the network of the table."""
    return ledger_of("alexnet-2012(groups=1)", (3, 227, 227))


@pytest.fixture(scope="module")
def two_groups():
    return ledger_of("alexnet-2012", (3, 227, 227))


def test_the_table_of_alexnet(one_column):
    rows = rows_of(one_column, "conv", "pool", "fc")
    assert prod(one_column.input) == 154_587
    assert [row.kind for row in rows] == [kind for kind, *_ in TABLE]
    assert [row.out_shape for row in rows] == [shape for _, shape, *_ in TABLE]
    assert [prod(row.out_shape) for row in rows] == [size for _, _, size, _ in TABLE]
    # The page's fully connected layers carry one bias in all; each of their units has one.
    right = [page - 1 + shape[0] if kind == "fc" else page for kind, shape, _, page in TABLE]
    assert [row.params for row in rows] == right
    assert right[-3:] == [37_752_832, 16_781_312, 4_097_000]
    assert one_column.params == sum(right) == 62_378_344


def test_the_order_of_layers_in_alexnet(two_groups):
    # One page pools after convolutions 2, 3 and 5 and has a ReLU after every layer; another normalizes after pooling.
    kinds = [row.kind for row in two_groups.rows if row.kind not in ("flatten", "dropout")]
    assert " ".join(kinds) == (
        "conv relu lrn pool conv relu lrn pool conv relu conv relu conv relu pool fc relu fc relu fc"
    )
    assert len(rows_of(two_groups, "conv", "fc")) == 8


def test_sixty_million_parameters_and_35k(two_groups, one_column):
    assert two_groups.params == 60_965_224  # "60M parameters"
    first = rows_of(one_column, "conv")[0]
    assert first.params == 34_944  # "35K", which on the page is the product without biases: 34,848
    assert first.params - first.out_shape[0] == 11 * 11 * 3 * 96 == 34_848


def test_64_filters_are_those_of_the_one_column_network():
    # "AlexNet: 64 filters, each 3×11×11" is the network of 2014 that torchvision has; that of 2012 has 96.
    first = rows_of(ledger_of("alexnet", (3, 224, 224)), "conv")[0]
    assert (first.out_shape, first.params) == ((64, 55, 55), 64 * (3 * 11 * 11 + 1))


def test_832_million_flops_are_macs_with_some_of_the_groups(two_groups, one_column):
    # With groups in convolutions 2 and 5 but not in 4, and every layer cut to whole millions, 832M comes out.
    layers = zip(rows_of(two_groups, "conv", "fc"), rows_of(one_column, "conv", "fc"), strict=True)
    grouped, joined = (list(macs) for macs in zip(*((a.macs, b.macs) for a, b in layers), strict=True))
    mixed = [*grouped[:3], joined[3], *grouped[4:]]
    assert [macs // 10**6 for macs in mixed] == [105, 223, 149, 224, 74, 37, 16, 4]
    assert sum(macs // 10**6 for macs in mixed) == 832
    # Right, in multiply–accumulates; floating-point operations are twice as many.
    assert (two_groups.macs, one_column.macs) == (724_406_816, 1_135_256_096)
    assert two_groups.flops == 1_448_813_632


def test_where_the_parameters_and_the_computation_of_alexnet_are(two_groups, one_column):
    # "Convolutional layers … about 90–95 % of computation, only about 5 % of the parameters."
    def share(ledger, field):
        return sum(getattr(row, field) for row in rows_of(ledger, "conv")) / getattr(ledger, field)

    assert share(one_column, "params") == pytest.approx(0.060, abs=5e-4)
    assert share(two_groups, "params") == pytest.approx(0.0383, abs=5e-4)
    assert share(one_column, "macs") == pytest.approx(0.948, abs=5e-4)
    assert share(two_groups, "macs") == pytest.approx(0.919, abs=5e-4)


@pytest.mark.parametrize(("size", "out", "unseen"), [(227, 55, 0), (244, 59, 1), (224, 54, 1)])
def test_which_input_fits_alexnet(size, out, unseen):
    # "244×244×3" on a page should be 224 or 227; the paper's own 224 fits only with padding.
    first = rows_of(ledger_of("alexnet-2012", (3, size, size)), "conv")[0]
    assert (first.out_shape, first.leftover) == ((96, out, out), (unseen, unseen))
    with_padding = rows_of(ledger_of("conv(64,11,4,pad=2)", (3, 224, 224)), "conv")[0]
    assert with_padding.out_shape == (64, 55, 55)


def test_the_network_for_handwritten_digits():
    ledger = ledger_of("mnist-cnn", (1, 28, 28))
    shapes = [row.out_shape for row in rows_of(ledger, "conv", "pool", "fc")]
    assert shapes == [(16, 24, 24), (16, 12, 12), (24, 8, 8), (24, 4, 4), (64,), (10,)]
    hidden, out = rows_of(ledger, "fc")
    assert (prod(hidden.in_shape), prod(out.in_shape)) == (384, 64)
    assert [row.params for row in rows_of(ledger, "conv", "fc")] == [416, 9_624, 24_640, 650]
    assert ledger.params == 35_330
    assert [m.p for m in striate.build("mnist-cnn").modules() if isinstance(m, nn.Dropout)] == [0.5]
    string = "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu dropout(0.5) fc(10)"
    assert ledger_of(string, (1, 28, 28)).params == ledger.params


@pytest.mark.parametrize(
    ("model", "shape", "params"),
    [
        ("mlp(128,64)", (1, 28, 28), 109_386),  # 784-128-64-10, "109.386K"
        ("fc(8) relu fc(6) relu fc(1)", (13,), 173),  # 13-8-6-1
        ("fc(25) relu fc(15) relu fc(3)", (4,), 563),  # 4-25-15-3
        ("fc(10)", (3, 32, 32), 30_730),  # 32×32×3 stretched to 3,072
        ("fc(100)", (1, 200, 200), 4_000_100),  # "~4M parameters": 4·10⁴ · 100, and the biases
    ],
)
def test_fully_connected_networks(model, shape, params):
    assert ledger_of(model, shape).params == params


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "shape", "out", "params"),
    [
        ("conv(10,5,pad=2)", (3, 32, 32), (10, 32, 32), 760),
        ("conv(6,5)", (3, 32, 32), (6, 28, 28), 456),
        ("conv(4,5)", (3, 32, 32), (4, 28, 28), 304),
        ("conv(1,5)", (3, 32, 32), (1, 28, 28), 76),
        ("conv(10,5)", (6, 28, 28), (10, 24, 24), 1_510),
        ("conv(32,1)", (64, 56, 56), (32, 56, 56), 2_080),
        ("conv(16,5)", (1, 28, 28), (16, 24, 24), 416),
        ("conv(8,5)", (16, 24, 24), (8, 20, 20), 3_208),
        ("conv(256,5,pad=2)", (96, 27, 27), (256, 27, 27), 614_656),
        ("conv(1,3)", (1, 7, 7), (1, 5, 5), 10),
        ("conv(1,3,2)", (1, 7, 7), (1, 3, 3), 10),
        ("conv(1,3,pad=1)", (1, 7, 7), (1, 7, 7), 10),
        ("conv(1,3,3,pad=1)", (1, 7, 7), (1, 3, 3), 10),
        ("conv(1,3,2,pad=1)", (1, 5, 5), (1, 3, 3), 10),
        ("conv(1,1x2,bias=false)", (1, 280, 320), (1, 280, 319), 2),
        ("conv(100,10,bias=false)", (1, 200, 200), (100, 191, 191), 10_000),
        ("conv(100,3,bias=false)", (1, 200, 200), (100, 198, 198), 900),
        ("local(1,10,bias=false)", (1, 200, 200), (1, 191, 191), 3_648_100),
        ("pool(2)", (64, 224, 224), (64, 112, 112), 0),
        ("pool(3,2)", (96, 55, 55), (96, 27, 27), 0),
    ],
)
def test_one_layer(model, shape, out, params):
    (row,) = ledger_of(model, shape).rows
    assert (row.out_shape, row.params) == (out, params)
    assert row.macs == (params - (out[0] if params and "bias" not in model else 0)) * (
        1 if row.kind == "local" else prod(out[1:])
    )


def test_the_fully_connected_layer_of_1_6_billion_takes_no_memory():
    layer = nn.Linear(200 * 200, 40_000, bias=False, device="meta")
    ledger = ledger_of(nn.Sequential(nn.Flatten(), layer), (1, 200, 200))
    assert ledger.params == ledger.macs == 1_600_000_000  # the page rounds to "~2B"


@pytest.mark.parametrize(
    ("model", "unseen", "out"),
    [("conv(1,3,3)", 1, 2), ("conv(1,3,2)", 0, 3), ("conv(1,3,3,pad=1)", 0, 3), ("conv(1,1,2)", 3, 4)],
)
def test_what_does_not_fit_is_dropped_and_counted(model, unseen, out):
    # (7 − 3)/3 + 1 = 2.33: "doesn't fit"; the floor, 2, leaves the last row and column unseen.
    (row,) = ledger_of(model, (1, 7, 7)).rows
    assert (row.out_shape, row.leftover) == ((1, out, out), (unseen, unseen))


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("conv(1,3) conv(1,3)", [3, 5]),
        ("3*[conv(1,3)]", [3, 5, 7]),
        ("conv(1,3) avgpool(2,1)", [3, 2 + 3 - 1]),
        ("conv(1,5) pool(4,1)", [5, 4 + 5 - 1]),
        ("conv(1,5)", [5]),
    ],
)
def test_receptive_fields_grow(model, fields):
    ledger = ledger_of(model, (1, 28, 28))
    assert [row.receptive_field for row in ledger.rows] == [(size, size) for size in fields]
    assert ledger.receptive_field == (fields[-1], fields[-1])


def test_every_output_of_a_fully_connected_layer_sees_the_whole_input():
    (row,) = rows_of(ledger_of("fc(10)", (1, 28, 28)), "fc")
    assert row.receptive_field == (28, 28)


@pytest.mark.slow
def test_deep_networks_of_the_decks():
    # Their architectures by year, and the layers with weights by which they are known.
    for name, layers in {"zfnet": 8, "vgg16": 16, "vgg19": 19, "resnet50": 50, "resnet152": 152}.items():
        ledger = ledger_of(name, MODELS[name].input_shape)
        assert (ledger.params, ledger.macs) == (MODELS[name].published_parameters, MODELS[name].published_macs)
        assert len([row for row in rows_of(ledger, "conv", "fc") if "downsample" not in row.name]) == layers
    order = ["perceptron", "lenet5", "alexnet-2012", "zfnet", "vgg16", "resnet50", "resnext50_32x4d"]
    years = [MODELS[name].year for name in order]
    assert years == sorted(years)
    assert {"googlenet", "densenet121", "senet154"} <= set(MODELS)


def test_the_classifier_of_convolution_contrast_normalization_and_pooling():
    # "[Convolution → LCN → pooling]* + fully connected layer", with the non-linearity that the pages ask for.
    kinds = [row.kind for row in ledger_of("lcn-net", (1, 28, 28)).rows if row.kind != "flatten"]
    assert kinds == [*["conv", "relu", "lcn", "pool"] * 3, "fc"]


@pytest.mark.parametrize("shape", [(1, 20), (1, 20, 20), (1, 20, 20, 20)])
def test_any_grid(shape):
    # "Applicable to any input that is laid out on a grid (1-D, 2-D, 3-D, …)."
    ledger = ledger_of("conv(4,3) relu pool(2) fc(2)", shape)
    axes = len(shape) - 1
    assert ledger.rows[0].out_shape == (4, *[18] * axes)
    assert ledger.params == 4 * (3**axes + 1) + 2 * (4 * 9**axes + 1)


def test_pooling_saves_parameters_only_of_the_fully_connected_layer_behind():
    # "Pooling … reduces the number of parameters": those of convolutions do not depend on the size of the map.
    pooled, plain = (ledger_of(f"conv(4,3) {pool} conv(4,3,pad=1) fc(10)", (1, 20, 20)) for pool in ("pool(2)", ""))
    assert [row.params for row in rows_of(pooled, "conv")] == [row.params for row in rows_of(plain, "conv")]
    assert rows_of(pooled, "fc")[0].params < rows_of(plain, "fc")[0].params
    assert rows_of(pooled, "conv")[1].macs < rows_of(plain, "conv")[1].macs
