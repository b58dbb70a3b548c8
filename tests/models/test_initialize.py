"""The default initialization: signal and gradient as strong in the last layer as in the first."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from striate.account.signal.trace import trace_signal
from striate.layers.axis_windows import AxisWindows
from striate.models.from_spec import build_network
from striate.models.initialization.moments import kept_by_padding, moments, wanted_variance
from striate.models.layer_strings.spec import Layer

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = torch.tensor(IMAGES, dtype=torch.float32).reshape(-1, 1, 8, 8)
IMAGES, LABELS = (IMAGES - IMAGES.mean()) / IMAGES.std(), torch.tensor(LABELS)

DEEP = [
    "20*[fc(100) tanh] fc(10)",
    "20*[fc(100) relu] fc(10)",
    "20*[fc(100) sigmoid] fc(10)",
    "20*[fc(100) elu] fc(10)",
    "20*[fc(100) swish] fc(10)",
    "20*[fc(100) leaky(0.5)] fc(10)",
    "20*[fc(100) prelu] fc(10)",
    "20*[fc(100) maxout(2)] fc(10)",
    "20*[fc(200) maxout(4)] fc(10)",
    "20*[conv(32,3,pad=1) relu] gap fc(10)",
    "20*[conv(16,3,pad=1) tanh] gap fc(10)",
    "20*[conv(16,3,pad=1) sigmoid] gap fc(10)",
    "conv(16,3,stride=2,pad=1) relu pool(2) 18*[conv(16,3,pad=1) relu] fc(10)",
    "20*[fc(100) relu dropout(0.2)] fc(10)",
    "2*[3*[conv(24,3,pad=1) relu] pool(2)] 3*[fc(64) relu dropout] fc(10)",
    "2*[3*[conv(24,3,pad=1) tanh] avgpool(2)] 3*[fc(64) tanh dropout] fc(10)",
    "2*[3*[conv(24,3,pad=1) relu] l2pool(2)] chpool(4) fc(64) relu fc(10)",
    "10*[conv(16,3,pad=1) bn relu] gap 10*[fc(64) sigmoid] fc(10)",
    "4*[local(8,3,pad=1) sigmoid] fc(64) relu fc(10)",
]
RESIDUAL = [
    "conv(16,3,pad=1) 20*[res[conv(16,3,pad=1) relu conv(16,3,pad=1)] relu] gap fc(10)",
    "conv(16,3,pad=1) 20*[res[relu conv(16,3,pad=1) relu conv(16,3,pad=1)]] relu gap fc(10)",
    "flatten 25*[res[fc(64) tanh fc(64)]] fc(10)",
    "fc(64) 20*[res[fc(128) relu fc(64) relu]] fc(10)",
    "conv(16,3,pad=1) 12*[res[conv(16,3,pad=1) bn relu conv(16,3,pad=1) bn] relu] gap fc(10)",
    "conv(8,3,pad=1) 8*[res[2*[res[relu conv(8,3,pad=1)]] relu conv(8,3,pad=1)]] relu gap fc(10)",
]


def rows_of(text, seed=0, count=128):
    torch.manual_seed(seed)
    network = build_network(text, (1, 8, 8))
    return trace_signal(network, IMAGES[:count], lambda out: nn.functional.cross_entropy(out, LABELS[:count]))


def spread(values):
    return max(values) / min(values)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("text", DEEP)
def test_signal_and_gradient_are_as_strong_in_the_last_layer_as_in_the_first(text):
    hidden = [row for row in rows_of(text) if row.kind == "weights"][:-1]
    assert spread([row.std for row in hidden]) < 3
    assert spread([row.gradient_norm for row in hidden]) < 10


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("text", RESIDUAL)
def test_residual_sums_neither_grow_nor_shrink(text):
    rows = rows_of(text)
    sums = [row for row in rows if row.kind == "sum" and "." not in row.name]
    assert spread([row.std for row in sums]) < 3
    assert spread([row.gradient_norm for row in sums]) < 3


def test_the_ratio_would_notice_a_worse_start():
    torch.manual_seed(0)
    network = build_network("20*[fc(100) relu] fc(10)", (1, 8, 8))
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
    rows = trace_signal(network, IMAGES[:64], lambda out: nn.functional.cross_entropy(out, LABELS[:64]))
    assert spread([row.std for row in rows if row.kind == "weights"][:-1]) > 100


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("word", "arguments", "function"),
    [
        ("relu", (), nn.ReLU()),
        ("leaky", (("slope", 0.3),), nn.LeakyReLU(0.3)),
        ("prelu", (), nn.PReLU()),
        ("elu", (("alpha", 0.7),), nn.ELU(0.7)),
        ("sigmoid", (), nn.Sigmoid()),
        ("tanh", (), nn.Tanh()),
        ("swish", (), nn.SiLU()),
    ],
)
@settings(deadline=None, max_examples=15)
@given(variance=st.floats(0.01, 20))
def test_moments_are_those_of_many_draws(word, arguments, function, variance):
    torch.manual_seed(0)
    with torch.no_grad():
        out = function(torch.randn(200_000) * math.sqrt(variance)).double()
    mean, power = moments(Layer(word, arguments), variance)
    assert mean == pytest.approx(float(out.mean()), abs=0.02 * math.sqrt(power))
    assert power == pytest.approx(float((out**2).mean()), rel=0.03)


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_moments_of_maxout(pieces):
    torch.manual_seed(0)
    out = torch.randn(200_000, pieces).max(1).values
    mean, power = moments(Layer("maxout", (("pieces", pieces),)), 1.0)
    assert mean == pytest.approx(float(out.mean()), abs=0.01)
    assert power == pytest.approx(float((out**2).mean()), rel=0.02)


def test_wanted_variances_that_are_known():
    assert wanted_variance(Layer("relu")) == pytest.approx(2)
    assert wanted_variance(Layer("leaky", (("slope", 0.5),))) == pytest.approx(1.6)
    assert wanted_variance(Layer("maxout", (("pieces", 2),))) == pytest.approx(1)
    assert wanted_variance(Layer("softmax")) == 1


@pytest.mark.parametrize("text", ["leaky(1000000)", "elu(1000000)", "maxout(1000)", "elu(0)", "leaky(0)"])
def test_extreme_arguments_have_a_wanted_variance(text):
    from striate.models.layer_strings.layer_string import parse_layers

    (layer,) = parse_layers(text).items
    assert moments(layer, wanted_variance(layer))[1] == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(("size", "kernel"), [(4, 3), (8, 5), (28, 3)])
def test_the_share_that_padding_leaves_is_that_of_a_deep_stack(size, kernel):
    """Power through many convolutions with independent weights: the expected square is a sum of squares."""
    power = torch.ones(1, 1, size)
    weight = torch.full((1, 1, kernel), 1 / kernel)
    for _ in range(60):
        before, power = power, nn.functional.conv1d(power, weight, padding=kernel // 2)
    share = kept_by_padding(AxisWindows(size, kernel, 1, kernel // 2, kernel // 2))
    assert share == pytest.approx(float(power.sum() / before.sum()), rel=1e-3)
    assert kept_by_padding(AxisWindows(size, kernel)) == 1


def test_a_bias_behind_a_sigmoid_takes_away_its_mean():
    torch.manual_seed(0)
    network = build_network("fc(200) sigmoid fc(300) sigmoid fc(4)", (64,))
    torch.testing.assert_close(network.fc2.bias, -0.5 * network.fc2.weight.sum(1), atol=1e-5, rtol=1e-4)
    plain = build_network("fc(200) sigmoid fc(300,bias=false) sigmoid fc(4)", (64,))
    assert plain.fc2.bias is None
    assert float(plain.fc2.weight.detach().std()) < 0.5 * float(network.fc2.weight.detach().std())


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEEP[0], marks=pytest.mark.slow),
        pytest.param(DEEP[1], marks=pytest.mark.slow),
        "flatten 25*[res[fc(64) tanh fc(64)]] fc(10)",
    ],
)
def test_twenty_layers_learn_the_digits(text):
    """A few passes of plain Adam; the same network that begins too small learns nothing."""

    def accuracy(shrink):
        torch.manual_seed(0)
        network = build_network(text, (1, 8, 8))
        if shrink:
            for p in network.parameters():
                p.data.mul_(0.2)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(5):
            for part in train[torch.randperm(len(train))].split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(IMAGES[part]), LABELS[part]).backward()
                optimizer.step()
        with torch.no_grad():
            return float((network(IMAGES[::5]).argmax(1) == LABELS[::5]).float().mean())

    train = torch.arange(len(LABELS))[torch.arange(len(LABELS)) % 5 > 0]

    assert accuracy(False) > 0.85
    assert "res" in text or accuracy(True) < 0.3
