"""Which network of the zoo a file is of, whatever the order, the classes and the colors of its tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from striate.models.build import build_model
from striate.models.weights import recognize as room
from striate.models.weights.recognize import recognize
from striate.models.weights.saved import Weights

ONE_OF_EACH = ["alexnet", "vgg11_bn", "resnext50_32x4d", "seresnet50", "resnet20", "lenet5"]


def tensors(text: str, *arguments) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return build_model(text, *arguments).state_dict()


def told(content, shape=(3, 64, 64), outputs: int = 5) -> str | None:
    return recognize(Weights("a.pth", Path("a.pth"), dict(content)), shape, outputs, False)


@pytest.mark.each_nth(8)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_published_forms_are_known_by_their_tensors(name):
    shape = (1, 28, 28) if name == "lenet5" else (3, 64, 64)
    assert told(tensors(name), shape) == name


@pytest.mark.slow
def test_sorted_tensors_other_classes_and_gray_images_are_no_obstacle():
    small = tensors("resnet18", (3, 64, 64), 7)
    assert told(sorted(small.items())) == "resnet18"
    assert told(small, (1, 28, 28)) == "resnet18"
    assert told(tensors("resnet18", (1, 28, 28), 3), (1, 28, 28)) == "resnet18"


@pytest.mark.slow
def test_a_file_without_a_head_is_known():
    content = {key: value for key, value in tensors("resnet18").items() if not key.startswith("fc.")}
    assert told(content) == "resnet18"


@pytest.mark.slow
def test_files_with_and_without_auxiliary_classifiers_are_known():
    assert told(tensors("googlenet(aux=true)")) == "googlenet"
    assert told(tensors("googlenet")) == "googlenet"
    assert told(tensors("inception_v3(aux=false)"), (3, 80, 80)) == "inception_v3"


@pytest.mark.slow
def test_older_names_are_known():
    content = {key.replace(".norm1.", ".norm.1."): value for key, value in tensors("densenet121").items()}
    assert told({k.replace(".conv2.", ".conv.2."): v for k, v in content.items()}) == "densenet121"


@pytest.mark.slow
def test_images_too_small_for_the_network_do_not_hide_it():
    assert told(tensors("alexnet"), (3, 28, 28)) == "alexnet"


@pytest.fixture
def built(monkeypatch) -> list[str]:
    names: list[str] = []
    build = room.build_from_zoo
    monkeypatch.setattr(room, "build_from_zoo", lambda info, *a: names.append(info.name) or build(info, *a))
    return names


@pytest.mark.slow
def test_tensors_of_no_network_are_none_and_no_large_one_is_built_for_them(built):
    assert told({"a.weight": torch.zeros(100, 50), "b.weight": torch.zeros(3, 100)}) is None
    assert "small-cnn" in built
    assert not {"resnet152", "inception_v3", "senet154", "vgg16"} & set(built)


@pytest.mark.slow
def test_of_the_large_ones_only_those_of_that_size_are_built(built):
    assert told(tensors("densenet121")) == "densenet121"
    assert not {"resnet152", "resnet50", "senet154", "vgg16", "densenet169", "wide_resnet50_2"} & set(built)


def test_weights_of_no_known_network_say_what_to_give_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MODELS", {"small-cnn": room.MODELS["small-cnn"]})  # that none of all takes them is above
    torch.save(torch.nn.Linear(3, 2).state_dict(), "sd.pt")
    error = room.nameless_weights("sd.pt")
    assert error is not None
    assert error.remedy.startswith("give the network instead of the file: ")
    assert error.remedy.endswith("--weights sd.pt")
