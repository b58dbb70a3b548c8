"""A zoo network on inputs of another size: nothing is changed, and that is said, with what it makes of the maps."""

import pytest
import torch

from quick import few_quick
from striate.models.build import build_model
from striate.models.registry import MODELS, size_note


def test_small_images():
    said = size_note("resnet18", (3, 32, 32))
    assert "on 3×32×32 nothing was changed. Its layers divide" in said
    assert "at most 1×1" in said
    assert 'write "resnet18(stem=small)" (with the quotes), or' in said
    assert "--size 224" in said


def test_with_weights_of_a_file_no_other_form_is_advised():
    said = size_note("resnet18", (3, 32, 32), weights=True)
    assert "small" not in said.replace("images this small", "")
    assert "--size 224" in said


@pytest.mark.parametrize(
    "model",
    [
        "resnet18(stem=small)",
        "resnet18( stem = small )",
        "resnet18(width=8,stem=small)",
        "mnist-cnn",
        "conv(3,3)",
        "x.py:f",
    ],
)
def test_silent_where_there_is_nothing_to_say(model):
    assert size_note(model, (3, 32, 32)) is None


def test_silent_at_the_published_size_and_short_at_others():
    assert size_note("resnet18", (1, 224, 224)) is None
    assert "10×10" in size_note("resnet18", (3, 320, 320))
    assert "small" not in size_note("resnet18", (3, 320, 320))


SMALL = [info for info in MODELS.values() if info.small_form]


@pytest.mark.parametrize("info", few_quick(SMALL, [MODELS["vgg11"], MODELS["resnet18"]]), ids=lambda i: i.name)
def test_small_forms_exist(info):
    with torch.device("meta"):
        build_model(info.small_form, (3, 32, 32), 10)


@pytest.mark.each_nth(7)
@pytest.mark.parametrize("info", [i for i in MODELS.values() if i.reduction > 1], ids=lambda i: i.name)
def test_nothing_but_what_is_said_is_another_at_another_size(info):
    def shapes(size):
        with torch.device("meta"):
            network = build_model(info.name, (info.input_shape[0], size, size))
        return {key: tensor.shape for key, tensor in network.state_dict().items()}

    published, larger = shapes(info.input_shape[-1]), shapes(2 * info.input_shape[-1])
    differing = [key for key in published if published[key] != larger[key]]
    assert all(key.rpartition(".")[0] in info.adapts for key in differing)
    assert bool(differing) == bool(info.adapts)
