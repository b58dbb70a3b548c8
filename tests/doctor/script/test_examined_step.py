"""What trains at a step that was caught, and its diagnosis: by trial steps, by its code alone, or as a player."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from striate.doctor.script.examined_step import Caught, _each_a_batch, _without_optimizer, model_of


class Density(nn.Module):
    """Is asked by a method of its own, so that only its parts are called."""

    def __init__(self, listed: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        parts = [nn.Linear(4, 4) for _ in range(2)]
        self.parts = parts if listed else nn.ModuleList(parts)

    def log_prob(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return -(self.scale * x).square().sum(1)


@pytest.mark.parametrize("listed", [True, False])
def test_what_keeps_the_parts_that_run_in_a_list_is_the_network(listed: bool) -> None:
    density, other = Density(listed), Density(listed=False)
    density.log_prob(torch.ones(2, 4)).sum().backward()
    catch = Caught(60, modules={number: (part, {}) for number, part in enumerate(density.parts)})
    optimizer = torch.optim.SGD(density.parameters(), lr=0.1)
    assert model_of(catch, {"density": density, "other": other}, optimizer) is density
    other.scale.grad = torch.ones(4)
    optimizer = torch.optim.SGD([other.scale], lr=0.1)
    assert model_of(catch, {"other": other}, optimizer) in density.parts


@pytest.mark.parametrize("earlier", [True, False])
def test_a_network_whose_optimizer_is_gone_was_trained_by_it(earlier: bool) -> None:
    network = nn.Linear(4, 4)
    network(torch.ones(2, 4)).sum().backward()
    catch = Caught(60, modules={0: (network, {})})
    if earlier:
        catch.trained.update({id(weight): weight for weight in network.parameters()})
    assert _without_optimizer(catch, {}) == (() if earlier else (network,))


def test_parts_of_a_tensor_are_batches_not_inputs_and_targets() -> None:
    parts = torch.arange(8.0).split(4)
    assert [*_each_a_batch(parts)] == [*parts]
    assert not isinstance(_each_a_batch(parts), tuple | list)
    pairs = [(parts[0], parts[1])]
    assert _each_a_batch(pairs) is pairs
