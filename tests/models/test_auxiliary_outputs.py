"""What a network in training gives beside its answer, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.weights.auxiliary_outputs import auxiliary_layers, auxiliary_prefixes, network_outputs
from striate.models.weights.replace_head import replace_head


class Two(nn.Module):
    auxiliary_weights = (0.5,)
    auxiliary_layers = ("more.1",)

    def __init__(self, more: int = 3, outputs: int = 3) -> None:
        super().__init__()
        self.more = nn.Sequential(nn.Tanh(), nn.Linear(4, more))
        self.head = nn.Linear(4, outputs)

    def forward(self, x):
        return (self.head(x), self.more(x)) if self.training else self.head(x)


def test_a_tensor_is_the_answer():
    x = torch.randn(2, 3)
    given = network_outputs(nn.Identity(), x)
    assert given.outputs is x
    assert given.auxiliary == ()


def test_further_outputs_come_with_the_weights_that_the_network_states():
    network, x = Two(), torch.randn(5, 4)
    given = network_outputs(network, network(x))
    assert torch.equal(given.outputs, network.head(x))
    [(weight, more)] = given.auxiliary
    assert weight == 0.5
    assert torch.equal(more, network.more(x))


def test_a_tuple_without_weights_is_refused_with_a_line_that_works():
    network = nn.Linear(4, 3)
    result = (torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ModelError) as caught:
        network_outputs(network, result)
    assert "3 outputs" in caught.value.got
    exec(caught.value.remedy, {"network": network})
    assert [weight for weight, _ in network_outputs(network, result).auxiliary] == [0.3, 0.3]
    with pytest.raises(ModelError) as caught:
        network_outputs(network, result[:2])
    assert "auxiliary_weights` = (0.3, 0.3)" in caught.value.got
    exec(caught.value.remedy, {"network": network})
    assert len(network_outputs(network, result[:2]).auxiliary) == 1


@pytest.mark.parametrize("result", [None, {"logits": torch.zeros(2)}, (torch.zeros(2, 3), None), "text"])
def test_what_is_no_tensor_is_refused(result):
    with pytest.raises(ModelError, match="an output of type"):
        network_outputs(Two(), result)


def test_auxiliary_outputs_of_another_shape_are_refused():
    network = Two(more=7)
    with pytest.raises(ModelError, match=r"\(2, 3\), \(2, 7\)"):
        network_outputs(network, network(torch.zeros(2, 4)))


def test_another_head_means_other_auxiliary_heads():
    network = replace_head(Two(), 8)
    given = network_outputs(network, network(torch.zeros(2, 4)))
    assert given.outputs.shape == given.auxiliary[0][1].shape == (2, 8)


def test_names_of_layers_and_tensors():
    with torch.device("meta"):
        full, plain = build_model("googlenet(aux=true)"), build_model("googlenet")
    assert set(auxiliary_layers(full)) == {"aux1.fc2", "aux2.fc2"}
    assert auxiliary_layers(plain) == ()
    assert auxiliary_prefixes(full) == auxiliary_prefixes(plain) == ("aux1.", "aux2.")
    assert auxiliary_prefixes(nn.Linear(2, 2)) == ()
