"""Inception-v3: its table, its auxiliary classifier and the sizes that this takes."""

from __future__ import annotations

import math

import pytest
import torch
from meta_networks import on_meta
from torch import nn

from striate.account.summarize import count_parameters
from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.zoo.inception_v3 import InceptionA, InceptionB, InceptionC, InceptionD, InceptionE, InceptionOutputs


def test_parameters_with_and_without_the_auxiliary_classifier():
    assert count_parameters(on_meta("inception_v3")) == 27_161_264
    assert count_parameters(on_meta("inception_v3(aux=false)")) == 23_834_568


def test_maps_have_the_sizes_of_the_papers_table():
    network, sizes = on_meta("inception_v3").eval(), {}
    for name, part in network.named_children():
        part.register_forward_hook(lambda _m, _i, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    network(torch.empty(1, 3, 299, 299, device="meta"))
    assert sizes["Conv2d_1a_3x3"] == (32, 149, 149)
    assert sizes["maxpool1"] == (64, 73, 73)
    assert sizes["maxpool2"] == (192, 35, 35)
    assert sizes["Mixed_5d"] == (288, 35, 35)
    assert sizes["Mixed_6e"] == (768, 17, 17)
    assert sizes["Mixed_7c"] == (2048, 8, 8)


@pytest.mark.parametrize(
    ("block", "arguments", "channels", "size"),
    [
        (InceptionA, (192, 32), 256, (9, 11)),
        (InceptionB, (288,), 768, (4, 5)),
        (InceptionC, (768, 128), 768, (9, 11)),
        (InceptionD, (768,), 1280, (4, 5)),
        (InceptionE, (1280,), 2048, (9, 11)),
    ],
)
def test_blocks_give_the_shapes_that_they_say(block, arguments, channels, size):
    with torch.device("meta"):
        out = block(*arguments)(torch.empty(2, arguments[0], 9, 11))
    assert out.shape == (2, channels, *size)


def test_seven_by_seven_windows_are_two_lines():
    block = InceptionC(8, 4)
    assert [block.get_submodule(f"branch7x7_{k}").conv.kernel_size for k in (1, 2, 3)] == [(1, 1), (1, 7), (7, 1)]
    kernels = [block.get_submodule(f"branch7x7dbl_{k}").conv.kernel_size for k in (2, 3, 4, 5)]
    assert kernels == [(7, 1), (1, 7), (7, 1), (1, 7)]


@pytest.mark.slow
def test_the_auxiliary_classifier_speaks_in_training_only():
    network = on_meta("inception_v3", (3, 299, 299), 7)
    given = network(torch.empty(2, 3, 299, 299, device="meta"))
    assert isinstance(given, InceptionOutputs)
    assert given._fields == ("logits", "aux_logits")
    assert given.logits.shape == given.aux_logits.shape == (2, 7)
    assert network.eval()(torch.empty(2, 3, 299, 299, device="meta")).shape == (2, 7)


@pytest.mark.slow
def test_training_below_299_names_the_arithmetic_and_a_form_that_trains():
    network = on_meta("inception_v3", (3, 298, 310), 7)
    assert network.eval()(torch.empty(2, 3, 298, 310, device="meta")).shape == (2, 7)
    with pytest.raises(ModelError) as caught:
        network.train()(torch.empty(2, 3, 298, 310, device="meta"))
    assert "298 → 148 → 146 → 72 → 70 → 34 → 16 → 4" in caught.value.got
    assert "--size 299" in caught.value.remedy
    other = caught.value.remedy.partition('--model "')[2].partition('"')[0]
    assert other == "inception_v3(aux=false)"
    assert on_meta(other, (3, 298, 310), 7)(torch.empty(2, 3, 298, 310, device="meta")).shape == (2, 7)


@pytest.mark.slow
def test_the_smallest_size_runs_and_one_less_is_explained():
    network = on_meta("inception_v3(aux=false)", (1, 75, 80), 3)
    assert network(torch.empty(2, 1, 75, 80, device="meta")).shape == (2, 3)
    with pytest.raises(ModelError) as caught:
        on_meta("inception_v3", (1, 74, 80), 3)
    assert caught.value.remedy == "use --size 75x80, or another network: --model googlenet"
    assert on_meta("googlenet", (1, 74, 80), 3) is not None


@pytest.mark.slow
def test_the_loss_begins_near_that_of_a_guess_and_every_parameter_learns():
    torch.manual_seed(0)
    network = build_model("inception_v3(aux=false)", (1, 80, 75), 10)
    logits = network(torch.randn(4, 1, 80, 75))
    loss = nn.functional.cross_entropy(logits, torch.randint(10, (4,)))
    assert float(loss.detach()) == pytest.approx(math.log(10), rel=0.1)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.slow
def test_both_losses_begin_near_that_of_a_guess():
    torch.manual_seed(0)
    network = build_model("inception_v3", (3, 299, 299), 10)
    with torch.no_grad():
        given = network(torch.randn(4, 3, 299, 299))
    for logits in given:
        loss = float(nn.functional.cross_entropy(logits, torch.randint(10, (4,))))
        assert loss == pytest.approx(math.log(10), rel=0.1)


def test_transformed_inputs_need_three_channels():
    with pytest.raises(ModelError, match="3 channels"):
        on_meta("inception_v3(transform_input=true)", (1, 80, 80), 10)
