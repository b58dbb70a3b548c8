"""Running a network to inspect it restores its state, also when it fails."""

import threading

import pytest
import torch
from torch import nn

from striate.models.preserved_state import copied, original_preserved, preserved, trial_copy, uses_others


def changed_by_looking(network):
    assert not any(m.training for m in network.modules())
    network[1].running_mean += 1
    network[1].running_var = torch.full((3,), 7.0)
    network.train()
    torch.rand(3)
    raise KeyError("while looking")


def test_modes_buffers_and_random_state_come_back_after_an_exception():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())
    network[1].eval()
    buffer, before = network[1].running_var, {k: v.clone() for k, v in network.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.raises(KeyError), preserved(network):
        changed_by_looking(network)
    assert [m.training for m in network.modules()] == [True, True, False, True]
    assert network[1].running_var is buffer
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_in_the_mode_it_is_in():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with preserved(network, evaluating=False):
        assert network[1].training
        network(torch.randn(8, 4))
    assert not network[1].running_mean.any()
    assert int(network[1].num_batches_tracked) == 0


def test_a_graph_that_awaits_backward_survives():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    network.eval()
    loss = network(torch.randn(8, 4)).sum()
    with preserved(network), torch.no_grad():
        network(torch.randn(8, 4))
    loss.backward()


@pytest.mark.parametrize("place", ["meta", "lazy"])
def test_buffers_without_values_are_left_alone(place):
    network = nn.LazyBatchNorm1d() if place == "lazy" else nn.BatchNorm1d(3, device="meta")
    buffer = network.running_mean
    with preserved(network):
        pass
    assert network.running_mean is buffer


def test_a_copy_where_one_can_be_made():
    network = nn.Linear(4, 3)
    assert trial_copy(network) is not network
    network.lock = threading.Lock()
    assert trial_copy(network) is network


class Exported(nn.Linear):
    """Has no modes, as the modules of torch.export."""

    def eval(self):
        raise NotImplementedError("Calling eval() is not supported yet.")


def test_a_network_without_modes_is_looked_at_as_it_is():
    network = Exported(4, 3)
    with preserved(network):
        assert network(torch.zeros(1, 4)).shape == (1, 3)
    assert network.training


class Closed(nn.Module):
    """Its copies compute with its own parts, or their own, as `how` says."""

    def __init__(self, how):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), nn.Linear(3, 2)
        if how == "forward":
            plain = self.forward
            self.forward = lambda x: 2 * plain(x)
        elif how == "hook":
            self.body.register_forward_hook(lambda _, __, out: self.body[1](out))
        elif how == "weight":
            self.head.register_forward_hook(lambda _, __, out: out + self.head.weight.sum())
        elif how == "looking hook":
            self.head.register_forward_hook(lambda part, _, out: nn.ReLU()(out) + part.weight.sum())

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("how", ["forward", "hook", "weight", "looking hook", "plain"])
def test_a_copy_that_reaches_for_its_original_is_found_and_changes_nothing(how):
    network = Closed(how)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        assert uses_others(copied(network), torch.randn(5, 4)) == (how in ("forward", "hook", "weight"))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_of_the_original_come_back():
    network, x = Closed("forward"), torch.randn(5, 4)
    network.head.weight.grad = given = torch.full((2, 3), 3.0)
    with original_preserved(network):
        copied(network)(x).sum().backward()
    assert network.head.weight.grad is given
    assert torch.equal(given, torch.full((2, 3), 3.0))
    assert network.head.bias.grad is None
    assert not network.body[1].running_mean.any()
