"""Weight files of networks with auxiliary classifiers, and with names of before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.weights.saved import Weights
from striate.models.weights.take_weights import take_weights
from striate.models.weights.weights_file import read_weights

SHAPE = (3, 32, 32)


def made(text: str, outputs: int = 10, seed: int = 0, shape=SHAPE) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(text, shape, outputs)


def given(network: nn.Module, tensors, outputs: int = 10) -> str:
    return take_weights(network, Weights("a.pth", Path("a.pth"), dict(tensors)), outputs)


def changed(network: nn.Module, tensors) -> set[str]:
    """The modules, one level deep, whose tensors are not the file's."""
    state = network.state_dict()
    return {key.partition(".")[0] for key in state if key not in tensors or not torch.equal(state[key], tensors[key])}


@pytest.fixture(scope="module")
def with_heads() -> dict[str, torch.Tensor]:
    return made("googlenet(aux=true)").state_dict()


@pytest.fixture(scope="module")
def with_1000(with_heads) -> dict[str, torch.Tensor]:
    tensors = dict(with_heads)
    for layer in ("fc", "aux1.fc2", "aux2.fc2"):
        tensors[f"{layer}.weight"] = torch.randn(1000, tensors[f"{layer}.weight"].shape[1])
        tensors[f"{layer}.bias"] = torch.randn(1000)
    return tensors


@pytest.mark.slow
def test_every_layer_of_a_file_with_heads_is_taken_by_a_network_with_heads(with_heads):
    network = made("googlenet(aux=true)", seed=1)
    news = given(network, with_heads)
    assert changed(network, with_heads) == set()
    assert news.startswith("weights of a.pth, of every layer")


@pytest.mark.slow
def test_heads_of_the_file_are_left_out_of_a_network_without_and_it_is_said(with_heads):
    network = made("googlenet", seed=1)
    news = given(network, with_heads)
    assert changed(network, with_heads) == set()
    assert "its auxiliary classifiers (aux1, aux2) are dropped: the network has none" in news


@pytest.mark.slow
def test_heads_that_the_file_has_not_stay_new_and_it_is_said(with_heads):
    plain = {key: value for key, value in with_heads.items() if not key.startswith("aux")}
    network = made("googlenet(aux=true)", seed=1)
    before = {key: value.clone() for key, value in network.state_dict().items() if key.startswith("aux")}
    news = given(network, plain)
    assert changed(network, plain) == {"aux1", "aux2"}
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert "the auxiliary classifiers (aux1, aux2) are new: the file has none" in news


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("name", ["googlenet", "googlenet(aux=true)"])
def test_other_classes_make_every_output_layer_new_and_no_other(name, with_1000):
    network = made(name, seed=1)
    news = given(network, with_1000)
    state = network.state_dict()
    different = {key for key in state if state[key].shape != with_1000[key].shape}
    layers = {"fc"} | ({"aux1.fc2", "aux2.fc2"} if "aux" in name else set())
    assert {key.rpartition(".")[0] for key in different} == layers
    assert all(torch.equal(state[key], with_1000[key]) for key in state if key not in different)
    assert "the last layer is new: 10 outputs instead of 1000" in news


def test_other_classes_and_no_heads_in_the_file(with_1000):
    plain = {key: value for key, value in with_1000.items() if not key.startswith("aux")}
    network = made("googlenet(aux=true)", seed=1)
    news = given(network, plain)
    assert changed(network, plain) == {"aux1", "aux2", "fc"}
    assert "instead of 1000" in news
    assert "are new: the file has none" in news


@pytest.mark.slow
def test_half_of_the_heads_is_refused(with_heads):
    half = {key: value for key, value in with_heads.items() if not key.startswith("aux1")}
    with pytest.raises(ModelError, match=r"aux1\.conv\.conv\.weight is absent in the file"):
        given(made("googlenet(aux=true)", seed=1), half)


def test_heads_for_other_classes_than_the_last_layer_are_refused(with_heads, with_1000):
    mixed = with_1000 | {key: value for key, value in with_heads.items() if key.startswith("fc.")}
    with pytest.raises(ModelError, match=r"aux1.fc2.weight is 1000×1024 in the file and 10×1024 in the network"):
        given(made("googlenet(aux=true)", seed=1), mixed)


@pytest.mark.slow
def test_what_no_file_says_of_itself_is_said(with_heads):
    assert "transform_input=true" in given(made("googlenet", seed=1), with_heads)
    assert "transform_input" not in given(made("googlenet(transform_input=true)", seed=1), with_heads)


@pytest.mark.slow
def test_inception_takes_files_with_and_without_its_auxiliary_classifier():
    with torch.device("meta"):
        both = build_model("inception_v3", (3, 80, 80), 10).state_dict()
        plain = build_model("inception_v3(aux=false)", (3, 80, 80), 10)
        full = build_model("inception_v3", (3, 80, 80), 10)
    assert "its auxiliary classifiers (AuxLogits) are dropped" in given(plain, both)
    without = {key: value for key, value in both.items() if not key.startswith("AuxLogits.")}
    assert "the auxiliary classifiers (AuxLogits) are new" in given(full, without)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_densenet_file_with_older_names_and_without_counts_of_batches(kind, tmp_path):
    name = "densenet121(growth=4,width=8)"
    saved = made(name).state_dict()
    older = {key: value for key, value in saved.items() if not key.endswith("num_batches_tracked")}
    for part in ("norm", "conv"):
        for number in "12":
            older = {key.replace(f".{part}{number}.", f".{part}.{number}."): value for key, value in older.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    file = tmp_path / f"densenet.{kind}"
    save_file(older, file) if kind == "safetensors" else torch.save(older, file)
    network = made(name, seed=1)
    news = take_weights(network, read_weights(str(file)), 10)
    assert changed(network, saved) == set()
    assert news == f"weights of {file}, of every layer"


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", ["resnet18(width=4)", "densenet121(growth=4,width=8)", "seresnet50"])
def test_the_last_layer_of_each_family_is_replaced_for_other_classes(name):
    if name not in ("seresnet50",):
        saved, network = made(name, 1000).state_dict(), made(name, 10, seed=1)
    else:
        with torch.device("meta"):
            saved, network = made(name, 1000).state_dict(), made(name, 10)
    assert "the last layer is new: 10 outputs instead of 1000" in given(network, saved)


@pytest.mark.slow
def test_last_layers_of_auxiliary_classifiers_that_begin_anew_are_named(with_1000):
    news = given(made("googlenet(aux=true)", seed=1), with_1000)
    assert "so are aux1.fc2 and aux2.fc2, the last layers of auxiliary classifiers" in news
    assert "aux1.fc2" not in given(made("googlenet(aux=true)", 1000, seed=1), with_1000, 1000)
