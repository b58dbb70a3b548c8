"""Lazy layers get their shapes and weights from torch's random state; all else stays."""

import torch
from torch import nn

from striate.models.initialization.reinitialize import materialize


def lazy():
    return nn.Sequential(nn.BatchNorm2d(1), nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))


def test_every_parameter_is_there_after_and_nothing_else_has_changed():
    network = lazy()
    materialize(network, (1, 6, 6))
    assert not any(nn.parameter.is_lazy(t) for t in (*network.parameters(), *network.buffers()))
    assert network[1].weight.shape == (4, 1, 3, 3)
    assert network[4].weight.shape == (3, 64)
    assert all(m.training for m in network.modules())
    assert int(network[0].num_batches_tracked) == int(network[2].num_batches_tracked) == 0


def test_first_weights_follow_from_the_random_state_and_what_is_drawn_next_does_too():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = lazy()
        materialize(network, (1, 6, 6))
        drawn.append((network[4].weight.detach(), torch.rand(4)))
    (first, after), (again, after_again), (other, after_other) = drawn
    assert torch.equal(first, again)
    assert torch.equal(after, after_again)
    assert not torch.equal(first, other)
    assert not torch.equal(after, after_other)


def test_a_network_without_lazy_layers_is_not_run_and_draws_nothing():
    network = nn.Conv2d(3, 4, 3)
    before = torch.get_rng_state()
    materialize(network, (1, 1))  # which it could not take
    assert torch.equal(before, torch.get_rng_state())
