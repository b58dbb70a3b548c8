"""`striate.check_gradients`: right networks pass, planted bugs are named, and nothing is changed."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional

import striate
from striate import StriateError
from striate.layers.activations import Maxout
from striate.layers.convolution import LocallyConnected
from striate.layers.normalization import LocalContrastNorm
from striate.layers.pooling import ChannelL2Pool


class WrongSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad_out):
        (x,) = ctx.saved_tensors
        return grad_out * x  # the factor 2 is missing


class WrongScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, grad_out):
        x, weight = ctx.saved_tensors
        return grad_out * weight, 1.01 * (grad_out * x).sum()


class Squared(nn.Module):
    def forward(self, x):
        return WrongSquare.apply(x)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return WrongScale.apply(x, self.weight)


class Wrapped(nn.Module):
    """The function is called by a module that has other modules."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return WrongSquare.apply(self.inner(x))


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(activation=None):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1),
        activation or nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_right_network_passes_in_either_mode(training):
    found = striate.check_gradients(network().train(training), images(3, 1, 6, 6))
    assert found.ok, str(found)
    assert set(found.checks) == {*dict(network().named_parameters()), "input"}
    assert found.suspects == ()
    assert found.wrong == ()
    assert found.max_relative_error < 1e-6


def test_the_module_and_function_of_a_planted_bug_are_named():
    found = striate.check_gradients(network(Squared()), images(3, 1, 6, 6))
    assert not found.ok
    assert {"input", "0.weight", "3.weight"} <= set(found.wrong)  # all that the signal passed before
    assert "8.weight" not in found.wrong  # behind it all is right
    (suspect,) = found.suspects
    assert (suspect.name, suspect.kind, suspect.functions, suspect.wrong) == (
        "4",
        "Squared",
        ("WrongSquare",),
        ("input",),
    )
    assert "look at 4 (Squared), which calls WrongSquare: wrong by input" in str(found)
    assert found.checks["input"].max_relative_error == pytest.approx(0.5, rel=1e-3)


@pytest.mark.slow
def test_a_wrong_gradient_by_a_parameter_only():
    found = striate.check_gradients(network(Scaled()), images(3, 1, 6, 6))
    assert found.wrong == ("4.weight",)
    assert [(suspect.name, suspect.wrong) for suspect in found.suspects] == [("4", ("weight",))]
    assert found.checks["4.weight"].claimed == pytest.approx(1.01 * found.checks["4.weight"].measured, rel=1e-6)


def test_two_bugs_are_both_named_and_containers_are_not_blamed():
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 4), Squared()), nn.Linear(4, 4), Scaled())
    found = striate.check_gradients(net, images(2, 4))
    assert [suspect.name for suspect in found.suspects] == ["0.1", "2"]


def test_a_function_between_the_children_is_blamed_on_the_module_that_calls_it():
    for net, name in ((Wrapped(), ""), (nn.Sequential(nn.Linear(4, 4), Wrapped()), "1")):
        found = striate.check_gradients(net, images(2, 4))
        assert [(suspect.name, suspect.functions) for suspect in found.suspects] == [(name, ("WrongSquare",))]


def test_a_wrong_loss_is_told_apart_from_a_wrong_network():
    net = nn.Linear(4, 3)
    found = striate.check_gradients(net, images(2, 4), loss=lambda y: WrongSquare.apply(y).sum())
    assert not found.ok
    assert found.suspects == ()
    assert "check the loss" in str(found)
    assert striate.check_gradients(net, images(2, 4), loss=lambda y: y.square().mean()).ok


def test_a_detached_branch_has_a_slope_that_backward_does_not_know():
    class Detached(nn.Linear):
        def forward(self, x):
            return super().forward(x.detach())

    found = striate.check_gradients(nn.Sequential(nn.Linear(4, 4), Detached(4, 2)), images(2, 4))
    assert set(found.wrong) == {"0.weight", "0.bias", "input"}
    assert [suspect.name for suspect in found.suspects] == ["1"]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "layer",
    [
        ChannelL2Pool(3),
        LocalContrastNorm(3),
        LocallyConnected(4, 2, (5, 5), 3),
        Maxout(2),
        nn.PReLU(4),
        nn.LocalResponseNorm(3, alpha=0.5),
        nn.ConvTranspose2d(4, 2, 3, stride=2, groups=2),
        nn.GroupNorm(2, 4),
        nn.AdaptiveAvgPool2d(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_pass(layer):
    found = striate.check_gradients(layer, images(2, 4, 5, 5))
    assert found.ok, str(found)


def test_weights_that_begin_at_zero_in_front_of_a_relu_are_no_bug():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x):
            return functional.relu(functional.relu(x) + self.norm(self.conv(functional.relu(x))))

    found = striate.check_gradients(Residual(), images(4, 2, 6, 6))
    assert found.ok, str(found)
    assert sum(check.corners for check in found.checks.values()) == 0


@pytest.mark.parametrize("shade", [0.0, 0.7])
def test_blank_pictures_are_no_bug(shade):
    # Where the picture is blank all windows are the same: the largest of them is a tie.
    x = torch.full((2, 1, 12, 12), shade)
    x[0, 0, 3:6, 4:8] = 1
    for given in (x, torch.full_like(x, shade)):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(4, 3, 3), nn.ReLU())
        found = striate.check_gradients(net, given)
        assert found.ok, str(found)
        assert sum(check.corners for check in found.checks.values()) <= 2  # of some 150 entries


def test_the_input_stays_in_its_range():
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x.detach().clone())
            return x * 2

    x = torch.tensor([[0.0, 1.0, 0.5, 0.0]])
    striate.check_gradients(Watching(), x)
    first = seen[0]
    assert 0 < first.min() < first.max() < 1
    assert torch.allclose(first.float(), x, atol=2e-3)


def test_buffers_that_each_call_changes_are_the_same_in_each():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.ones(()))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    net = Counting()
    assert striate.check_gradients(net, images(2, 4)).ok
    assert net.calls == 1


def test_nothing_is_changed():
    net, x = network(Squared()), images(3, 1, 6, 6)
    net.train()
    net[1].eval()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before, given = copy.deepcopy(net.state_dict()), x.clone()
    torch.manual_seed(5)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    striate.check_gradients(net, x, entries=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.equal(x, given)
    assert x.grad is None
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert net[3].weight.grad is None
    assert [part.training for part in net[:2]] == [True, False]
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in net.modules())


def test_several_inputs_shared_weights_and_outputs_of_any_form():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix = nn.Embedding(5, 3), nn.Linear(3, 3)
            self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
            self.unused = nn.Parameter(torch.ones(2))

        def forward(self, words, x):
            once = self.mix(self.embed(words).mean(1) + x)
            return {"out": (self.mix(once) * self.frozen, once.argmax(1))}

    found = striate.check_gradients(Both(), [torch.tensor([[0, 1], [1, 4]]), images(2, 3)])
    assert found.ok, str(found)
    assert found.skipped == {"frozen": "frozen", "input[0]": "int64 is not floating-point"}
    assert found.checks["unused"].claimed == found.checks["unused"].measured == 0
    assert "input[1]" in found.checks


def test_entries_seed_and_tolerance():
    net, x = nn.Linear(20, 5), images(2, 20)
    assert striate.check_gradients(net, x, entries=None).checks["weight"].checked == 100
    assert striate.check_gradients(net, x).checks["weight"].checked == 24
    places = {striate.check_gradients(net, x, entries=1, seed=seed).checks["weight"].at for seed in range(6)}
    assert len(places) > 2
    assert not striate.check_gradients(Scaled(), x).ok
    assert striate.check_gradients(Scaled(), x, tolerance=0.02).ok
    errors = [striate.check_gradients(nn.Tanh(), x, step=step).max_relative_error for step in (1e-5, 3e-4)]
    assert errors[1] > 10 * errors[0]


def test_the_record_is_json():
    found = striate.check_gradients(network(Squared()), images(2, 1, 6, 6), entries=2)
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["ok"] is False
    assert content["suspects"][0]["functions"] == ["WrongSquare"]
    assert content["checks"]["input"]["checked"] == 2


class Unsteady(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Single(nn.Module):
    def forward(self, x):
        return x.float() * 2


class WrongForm(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x * 2

    @staticmethod
    def backward(_ctx, grad_out):
        return grad_out[:1]


class CallsWrongForm(nn.Module):
    def forward(self, x):
        return WrongForm.apply(x)


@pytest.mark.parametrize(
    ("module", "x", "words"),
    [
        (nn.Linear(4, 2), images(2, 5), "forward pass in float64"),
        ("resnet18", images(2, 4), "torch.nn.Module"),
        (nn.Linear(4, 2), "x", "a tensor"),
        (nn.Linear(4, 2), images(2, 4) * float("nan"), "NaN or Inf"),
        (nn.LazyLinear(2), images(2, 4), "without values"),
        (nn.Linear(4, 2, device="meta"), images(2, 4), "without values"),
        (nn.Flatten(), torch.ones(2, 3, dtype=torch.int64), "no tensor with a gradient"),
        (Unsteady(), images(2, 4), "different outputs"),
        (Single(), images(2, 4), "torch.float32"),
        (CallsWrongForm(), images(2, 4), "backward pass"),
    ],
)
def test_what_cannot_be_checked_is_refused(module, x, words):
    with pytest.raises(StriateError, match=words) as caught:
        striate.check_gradients(module, x)
    assert caught.value.remedy


@pytest.mark.parametrize("options", [{"entries": 0}, {"step": 0}, {"tolerance": float("nan")}, {"seed": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(StriateError):
        striate.check_gradients(nn.Linear(4, 2), images(2, 4), **options)
