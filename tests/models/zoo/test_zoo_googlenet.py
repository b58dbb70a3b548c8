"""GoogLeNet: its table, its auxiliary classifiers, small images."""

from __future__ import annotations

import math

import pytest
import torch
from meta_networks import on_meta
from torch import nn

from quick import few_quick
from striate.account.summarize import count_parameters
from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.zoo.googlenet import MODULES, GoogLeNetOutputs, Inception, restandardized


def test_parameters_with_and_without_auxiliary_classifiers():
    assert count_parameters(on_meta("googlenet")) == 6_624_904
    assert count_parameters(on_meta("googlenet(aux=true)")) == 13_004_888


def test_the_modules_give_the_depths_of_the_papers_table():
    depths = {}
    for name, (_, ones, _, threes, _, fives, pooled) in MODULES.items():
        depths[name] = ones + threes + fives + pooled
    assert list(depths.values()) == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    incoming = [sizes[0] for sizes in MODULES.values()]
    assert incoming == [192, 256, 480, 512, 512, 512, 528, 832, 832]


def test_maps_have_the_sizes_of_the_papers_table():
    network, sizes = on_meta("googlenet").eval(), {}
    for name, part in network.named_children():
        part.register_forward_hook(lambda _m, _i, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert sizes["conv1"] == (64, 112, 112)
    assert sizes["maxpool1"] == (64, 56, 56)
    assert sizes["maxpool2"] == (192, 28, 28)
    assert sizes["inception3b"] == (480, 28, 28)
    assert sizes["inception4e"] == (832, 14, 14)
    assert sizes["inception5b"] == (1024, 7, 7)


def test_branches_lie_side_by_side_in_the_order_of_the_paper():
    torch.manual_seed(0)
    module, x = Inception(8, 2, 3, 4, 3, 5, 6).eval(), torch.randn(2, 8, 5, 7)
    parts = [module.branch1(x), module.branch2(x), module.branch3(x), module.branch4(x)]
    assert [part.shape[1] for part in parts] == [2, 4, 5, 6]
    assert torch.equal(module(x), torch.cat(parts, 1))
    assert torch.equal(module.branch4[0](x), nn.functional.max_pool2d(x, 3, 1, 1))


@pytest.mark.slow
def test_auxiliary_classifiers_speak_in_training_only():
    torch.manual_seed(0)
    network, x = build_model("googlenet(aux=true)", (3, 32, 32), 5), torch.randn(2, 3, 32, 32)
    given = network(x)
    assert isinstance(given, GoogLeNetOutputs)
    assert given._fields == ("logits", "aux_logits2", "aux_logits1")
    assert [tuple(each.shape) for each in given] == [(2, 5)] * 3
    sum(each.square().sum() for each in given).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    with torch.no_grad():
        assert network.eval()(x).shape == (2, 5)
    plain = build_model("googlenet", (3, 32, 32), 5)
    assert isinstance(plain(x), torch.Tensor)


def test_each_auxiliary_classifier_hangs_where_the_paper_puts_it():
    network, seen = on_meta("googlenet(aux=true)"), {}
    for name in ("aux1", "aux2"):
        network.get_submodule(name).register_forward_pre_hook(
            lambda _m, inputs, name=name: seen.update({name: tuple(inputs[0].shape[1:])})
        )
    network(torch.empty(2, 3, 224, 224, device="meta"))
    assert seen == {"aux1": (512, 14, 14), "aux2": (528, 14, 14)}


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", ["googlenet", "googlenet(aux=true)"])
def test_every_loss_begins_near_that_of_a_guess(name):
    torch.manual_seed(0)
    network = build_model(name, (1, 28, 28), 10)
    with torch.no_grad():
        given = network(torch.randn(16, 1, 28, 28))
    for logits in [given] if isinstance(given, torch.Tensor) else given:
        loss = float(nn.functional.cross_entropy(logits, torch.randint(10, (16,))))
        assert loss == pytest.approx(math.log(10), rel=0.1)


@pytest.mark.parametrize(
    ("name", "least"),
    few_quick([("googlenet", 15), ("googlenet(stem=small)", 4)], [("googlenet(stem=small)", 4)], unpack=True),
)
def test_the_smallest_size_runs_and_one_less_is_explained(name, least):
    network = on_meta(name, (1, least, least + 7), 3).eval()
    assert network(torch.empty(1, 1, least, least + 7, device="meta")).shape == (1, 3)
    with pytest.raises(ModelError) as caught:
        on_meta(name, (1, least + 7, least - 1), 3)
    assert f"--size {least + 7}x{least}" in caught.value.remedy
    other = caught.value.remedy.rpartition("--model ")[2].strip("'")
    assert on_meta(other, (1, least + 7, least - 1), 3) is not None


@pytest.mark.slow
def test_the_small_stem_keeps_more_of_a_small_image():
    maps = {}
    for name in ("googlenet", "googlenet(stem=small)"):
        network = on_meta(name, (3, 32, 32), 10).eval()
        network.avgpool.register_forward_pre_hook(
            lambda _m, inputs, name=name: maps.update({name: tuple(inputs[0].shape[1:])})
        )
        network(torch.empty(1, 3, 32, 32, device="meta"))
    assert maps == {"googlenet": (1024, 1, 1), "googlenet(stem=small)": (1024, 4, 4)}


def test_transformed_inputs_are_those_of_mean_and_deviation_one_half():
    torch.manual_seed(0)
    photo = torch.rand(2, 3, 16, 16)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(restandardized((photo - mean) / deviation), (photo - 0.5) / 0.5)
    network = build_model("googlenet", (3, 16, 16), 4).eval()
    other = build_model("googlenet(transform_input=true)", (3, 16, 16), 4).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other((photo - mean) / deviation), network((photo - 0.5) / 0.5))


def test_transformed_inputs_need_three_channels():
    with pytest.raises(ModelError) as caught:
        on_meta("googlenet(transform_input=true)", (1, 32, 32), 10)
    assert "3 channels" in caught.value.expected
    assert on_meta(caught.value.remedy.split('"')[1], (1, 32, 32), 10) is not None
