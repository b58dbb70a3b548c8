"""Signal and gradient of each layer against hand-made figures; nothing in the network changes."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from striate.account.signal.trace import SignalRow, measure_signal, signal_from_json, signal_to_json, trace_signal
from striate.data.dataset import Split
from striate.models.build import build_model
from striate.tasks.classify.task import Classify

X = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 4


def loss(outputs):
    return functional.cross_entropy(outputs.flatten(1)[:, :4], Y)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.inplace = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 5)
        self.out = nn.Linear(5, 4)

    def forward(self, x):
        x = functional.relu(self.inplace(self.conv(x))).mean((2, 3))
        return self.out(torch.tanh(self.fc(x).sigmoid()).relu())


def test_figures_are_those_of_the_tensors():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
    conv, relu, fc = trace_signal(network, X, loss)
    z = network[0](X)
    z.retain_grad()
    a = z.relu()
    a.retain_grad()
    out = network[3](a.flatten(1))
    out.retain_grad()
    loss(out).backward()
    for row, tensor, name, kind in ((conv, z, "0", "weights"), (relu, a, "1", "relu"), (fc, out, "3", "weights")):
        assert (row.name, row.kind, row.size) == (name, kind, tensor[0].numel())
        assert row.mean == pytest.approx(float(tensor.detach().mean()), abs=1e-6)
        assert row.std == pytest.approx(float(tensor.detach().std(correction=0)), rel=1e-5)
        per_sample = 32 * tensor.grad
        assert row.gradient == pytest.approx(float((per_sample**2).mean().sqrt()), rel=1e-4)
        norms = (per_sample.flatten(1) ** 2).sum(1).mean().sqrt()
        assert row.gradient_norm == pytest.approx(float(norms), rel=1e-4)
    assert (conv.dead, conv.saturated, relu.saturated) == (None, None, None)
    assert relu.dead == float((a.transpose(0, 1).flatten(1) == 0).all(1).float().mean())


def test_activations_are_seen_as_modules_functions_and_methods():
    rows = trace_signal(Functional(), X, loss)
    assert [(row.name, row.kind) for row in rows] == [
        ("conv", "weights"), ("inplace", "relu"), ("relu", "relu"), ("fc", "weights"), ("sigmoid", "sigmoid"),
        ("tanh", "tanh"), ("relu (2)", "relu"), ("out", "weights"),
    ]  # fmt: skip
    assert all(row.gradient is not None and row.gradient > 0 for row in rows)


def test_a_layer_before_an_activation_in_place_keeps_its_own_figures():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(216, 4))
    rows = trace_signal(network, X, loss)
    network[1].inplace = False
    assert rows == trace_signal(network, X, loss)
    assert rows[0].mean != rows[1].mean


@pytest.mark.parametrize(
    ("kind", "outputs", "share"),
    [(nn.Tanh(), 2.2, 1), (nn.Tanh(), 1.9, 0), (nn.Sigmoid(), 3.6, 1), (nn.Sigmoid(), -3.6, 1), (nn.Sigmoid(), 3.3, 0)],
)
def test_saturation_begins_where_it_says(kind, outputs, share):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), kind)
    nn.init.zeros_(network[1].weight)
    nn.init.constant_(network[1].bias, outputs)
    assert trace_signal(network, X, loss)[1].saturated == share


def test_dead_units_are_channels_that_are_zero_for_every_sample():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    network[0].bias.data[:] = torch.tensor([-100.0, 0, 0, -100.0])
    assert trace_signal(network, X, loss)[1].dead == 0.5


@pytest.mark.parametrize("training", [True, False])
def test_nothing_changes(training):
    torch.manual_seed(0)
    network = build_model("conv(4,3) bn relu dropout(0.5) fc(4)", (3, 8, 8), 4).train(training)
    network.fc1.weight.requires_grad_(False)
    network.conv1.weight.grad = torch.ones_like(network.conv1.weight)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state, inputs = torch.get_rng_state(), X.clone()
    first = trace_signal(network, inputs, loss)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert network.training is training
    assert network.conv1.weight.grad.eq(1).all()
    assert network.conv1.bias.grad is None
    assert not network.fc1.weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    torch.testing.assert_close(inputs, X, rtol=0, atol=0)
    torch.rand(3)
    assert trace_signal(network, inputs, loss) == first


def test_hooks_are_gone_when_the_network_raises():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        trace_signal(network, X, loss)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(checkpoint(self.conv, x, use_reentrant=True).mean((2, 3)))


def test_where_no_gradient_can_be_had_there_is_none():
    rows = trace_signal(Checkpointed(), X, loss)
    assert [row.name for row in rows] == ["conv", "fc"]
    assert rows[0].gradient is None
    with torch.no_grad():
        frozen = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert trace_signal(frozen, X, lambda out: loss(out.detach()))[0].gradient is None


def test_a_task_is_measured_on_samples_from_the_whole_split():
    made = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (500, 1, 12, 12), dtype=torch.uint8, generator=made)
    split = Split(inputs, torch.arange(500) // 125, torch.arange(500))
    task = Classify(("a", "b", "c", "d"))
    network = build_model("mlp(8)", (1, 12, 12), 4)
    seen = []

    def normalize(batch):
        seen.append(batch)
        return batch.float() / 128 - 1

    rows = measure_signal(network, task, split, normalize)
    assert [row.kind for row in rows] == ["weights", "relu", "weights"]
    assert len(seen[0]) == 64
    assert torch.equal(seen[0][0], inputs[0])
    assert torch.equal(seen[0][-1], inputs[-1])
    measure_signal(network, task, split, normalize, samples=5)
    assert len(seen[1]) == 5


def test_rows_come_back_from_strict_json():
    rows = (SignalRow("conv1", "weights", 8, 0.5, 1.0, 0.1), SignalRow("relu1", "relu", 8, 0.5, 1.0, None, None, 0.25))
    assert signal_from_json(json.loads(json.dumps(signal_to_json(rows)))) == rows
    (broken,) = signal_from_json([{"name": "a", "kind": "weights", "size": 3, "mean": None, "std": None, "more": 1}])
    assert broken.std != broken.std
    assert broken.gradient_norm is None


class Gated(nn.Module):
    """Gates of its own, a number and one a channel; and a layer that sees each row of an image as a sample."""

    def __init__(self):
        super().__init__()
        self.gate, self.gates = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(6))
        self.rows = nn.Linear(8, 6)
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        x = self.rows(x.flatten(0, 2)).unflatten(0, (32, 24)).mean(1)
        return self.out(x * torch.sigmoid(self.gate) * torch.tanh(self.gates))


def test_gates_that_are_the_same_for_every_sample_are_passed_over():
    rows = trace_signal(Gated(), X, loss)
    assert [(row.name, row.kind, row.size) for row in rows] == [("rows", "weights", 24 * 6), ("out", "weights", 4)]


@pytest.mark.parametrize("called", [functional.celu, torch.celu, torch.celu_, nn.CELU()])
def test_celu_is_an_activation(called):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(192, 4)
            self.called = called

        def forward(self, x):
            return self.called(self.out(x.flatten(1)))

    assert [row.kind for row in trace_signal(Network(), X, loss)] == ["weights", "celu"]
