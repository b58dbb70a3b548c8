"""Which tensors of a file a network takes, what begins anew, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.weights.recognize import recognize
from striate.models.weights.saved import SavedNetwork, Weights
from striate.models.weights.take_weights import take_weights

LAYERS = "conv(4,3) bn relu gap fc(6) relu fc({})"


def network(outputs: int = 10, channels: int = 1, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    module = build_model(LAYERS.format(outputs), (channels, 9, 9), outputs)
    module.train()
    module(torch.randn(8, channels, 9, 9))  # so that buffers are those of no fresh network
    return module.eval()


def from_file(tensors) -> Weights:
    return Weights("file.pt", Path("file.pt"), dict(tensors))


def equal(module: nn.Module, tensors, but=()) -> bool:
    state = module.state_dict()
    return [key for key in state if not torch.equal(state[key], tensors[key])] == list(but)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_dropped(prefix) -> None:
    saved, mine = network().state_dict(), network(seed=2)
    news = take_weights(mine, from_file({prefix + key: value for key, value in saved.items()}), 10)
    assert equal(mine, saved)
    assert news == "weights of file.pt, of every layer"


def test_wrappers_of_torch_itself() -> None:
    saved = network()
    for wrapped in (nn.DataParallel(saved), torch.optim.swa_utils.AveragedModel(saved)):
        mine = network(seed=2)
        take_weights(mine, from_file(wrapped.state_dict()), 10)
        assert equal(mine, saved.state_dict())


def test_a_prefix_of_the_networks_own_stays() -> None:
    class Wrapped(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.model = network(seed=seed)

    mine, other = Wrapped(1), Wrapped(2)
    take_weights(mine, from_file(other.state_dict()), 10)
    assert equal(mine, other.state_dict())


@pytest.mark.parametrize(("before", "outputs"), [(10, 3), (3, 10), (1000, 5)])
def test_a_head_for_other_outputs_stays_new(before, outputs) -> None:
    saved, mine = network(before).state_dict(), network(outputs, seed=2)
    head = {key: mine.state_dict()[key].clone() for key in ("fc2.weight", "fc2.bias")}
    news = take_weights(mine, from_file(saved), outputs)
    assert news == f"weights of file.pt; the last layer is new: {outputs} outputs instead of {before}"
    assert equal(mine, saved | head)


@pytest.mark.parametrize("classes", [("ant", "cat", "dog", "fox"), ("dog", "ant"), ("fox", "dog", "ant")])
def test_a_class_that_the_run_knows_keeps_its_row(classes) -> None:
    known = ("dog", "eel", "ant")
    saved, mine = network(3).state_dict(), network(len(classes), seed=2)
    new = mine.state_dict()["fc2.weight"].clone()
    facts = {"name": LAYERS.format(3), "input_shape": (1, 9, 9), "outputs": 3, "dense": False, "classes": known}
    run = SavedNetwork("run", Path("best.pt"), dict(saved), **facts)
    news = take_weights(mine, run, len(classes), classes)
    for row, name in enumerate(classes):
        assert torch.equal(mine[-1].weight[row], saved["fc2.weight"][known.index(name)] if name in known else new[row])
    assert torch.equal(mine[0].weight, saved["conv1.weight"])
    assert "each class with its row of the last layer; " in news
    assert ("; new: " in news) is ("fox" in classes)
    assert "; dropped: eel" in news


@pytest.mark.parametrize("outputs", [10, 3])
def test_lazy_layers_take_their_shape_from_the_file_but_not_the_number_of_outputs(outputs) -> None:
    saved = nn.Sequential(nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 10)).state_dict()
    mine = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(outputs))
    news = take_weights(mine, from_file(saved), outputs)
    assert mine(torch.zeros(2, 7)).shape == (2, outputs)
    assert torch.equal(mine[0].weight, saved["0.weight"])
    assert ("new" in news) is (outputs != 10)


def test_a_file_without_a_head_is_all_but_the_head() -> None:
    saved, mine = network().state_dict(), network(seed=2)
    head = {key: mine.state_dict()[key].clone() for key in ("fc2.weight", "fc2.bias")}
    trunk = {key: value for key, value in saved.items() if key not in head}
    news = take_weights(mine, from_file(trunk), 10, tuple("abcdefghij"))
    assert news == "weights of file.pt; the last layer is new: 10 classes; the file has none for them"
    assert equal(mine, trunk | head)


def test_half_precision_becomes_the_networks_own() -> None:
    saved, mine = network().half().state_dict(), network(seed=2)
    take_weights(mine, from_file(saved), 10)
    assert all(p.dtype == torch.float32 for p in mine.parameters())
    assert equal(mine, {key: value.to(mine.state_dict()[key].dtype) for key, value in saved.items()})


def test_files_from_before_batches_were_counted() -> None:
    saved, mine = network().state_dict(), network(seed=2)
    count = mine.state_dict()["bn1.num_batches_tracked"].clone()
    del saved["bn1.num_batches_tracked"]
    take_weights(mine, from_file(saved), 10)
    assert equal(mine, saved | {"bn1.num_batches_tracked": count})


def test_color_kernels_on_gray_images_answer_as_if_gray_lay_in_all_three() -> None:
    color, gray = network(channels=3), network(seed=2)
    news = take_weights(gray, from_file(color.state_dict()), 10)
    assert news.endswith("its kernels for red, green and blue are summed for gray images")
    x = torch.randn(5, 1, 9, 9)
    with torch.no_grad():
        assert torch.allclose(gray(x), color(x.expand(-1, 3, -1, -1)), atol=1e-6)
    assert gray(x).abs().max() > 1e-3  # and not by both being zero


def test_colors_that_were_standardized_each_by_itself_count_by_their_deviation() -> None:
    color, gray = network(channels=3), network(seed=2)
    color.conv1.bias.data.zero_()
    std, level = (40.0, 80.0, 20.0), 100.0  # the three means are alike: nothing is lost
    weights = replace(saved_network(mean=(level,) * 3, std=std), tensors=color.state_dict())
    take_weights(gray, weights, 10)
    x = 255 * torch.rand(5, 1, 9, 9)
    with torch.no_grad():
        seen = color((x - level) / torch.tensor(std)[:, None, None])
        assert torch.allclose(gray((x - level) / (sum(std) / 3)), seen, atol=1e-5)


def test_gray_kernels_on_color_images_are_refused() -> None:
    with pytest.raises(ModelError, match=r"conv1\.weight is 4×1×3×3 in the file and 4×3×3×3 in the network"):
        take_weights(network(channels=3), from_file(network().state_dict()), 10)


def without(tensors, *names):
    return {key: value for key, value in tensors.items() if key not in names}


WRONG = [
    (lambda s: without(s, "conv1.bias"), "conv1.bias is absent in the file and 4 in the network"),
    (lambda s: without(s, "fc2.bias"), "fc2.bias is absent in the file and 10 in the network"),
    (lambda s: s | {"fc3.weight": torch.zeros(2, 2)}, "fc3.weight is 2×2 in the file and absent in the network"),
    (lambda s: s | {"fc1.weight": torch.zeros(6, 5)}, "fc1.weight is 6×5 in the file and 6×4 in the network"),
    (lambda s: s | {"fc2.weight": torch.zeros(10, 5)}, "fc2.weight is 10×5 in the file and 10×6 in the network"),
    (lambda s: s | {"fc2.weight": torch.zeros(7, 6)}, "fc2.weight is 7×6 in the file and 10×6 in the network"),
    (lambda s: s | {"fc2.weight": torch.zeros(7, 6), "fc2.bias": torch.zeros(8)}, "fc2.bias is 8 in the file"),
    (
        lambda s: {"x." + key: value for key, value in s.items()},
        "bn1.weight is absent in the file and 4 in the network; bn1.bias is absent in the file and 4 in the network; "
        "17 more",
    ),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[w[1][:24] for w in WRONG])
def test_what_does_not_fit_is_named_and_nothing_is_taken(change, words) -> None:
    mine = network(seed=2)
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        take_weights(mine, from_file(change(network().state_dict())), 10, name="small-cnn")
    assert words in caught.value.got
    assert "small-cnn" in caught.value.expected
    assert "--model" in caught.value.remedy
    assert equal(mine, before)


def test_an_incomplete_file_is_told_as_that_without_its_healthy_head() -> None:
    saved = build_model("small-resnet(width=4)", (1, 32, 32), 7).state_dict()
    del saved["layer2.0.conv2.weight"]
    with pytest.raises(ModelError) as caught:
        take_weights(build_model("small-resnet(width=4)", (1, 32, 32), 10), from_file(saved), 10, name="small-resnet")
    assert (
        f"1 of {len(saved) + 1} tensors does not fit: layer2.0.conv2.weight is absent in the file" in caught.value.got
    )
    assert "fc." not in caught.value.got
    assert "incomplete" in caught.value.remedy


def test_a_network_of_one_layer_has_nothing_to_take() -> None:
    mine = build_model("perceptron", (1, 4, 4), 3)
    with pytest.raises(ModelError, match="no weights to use"):
        take_weights(mine, from_file(build_model("perceptron", (1, 4, 4), 9).state_dict()), 3, name="perceptron")


def saved_network(**fields) -> SavedNetwork:
    known = {"name": "mnist-cnn", "input_shape": (1, 28, 28), "outputs": 10, "dense": False, "classes": ()}
    module = build_model("mnist-cnn", (1, 28, 28), 10)
    return SavedNetwork("runs/a", Path("runs/a/checkpoints/best.pt"), module.state_dict(), **(known | fields))


@pytest.mark.parametrize("outputs", [10, 3])
def test_of_a_network_with_the_head_of_another_task_the_network_is_taken(outputs) -> None:
    body = network().state_dict()
    tensors = {f"pyramid.body.{key}": value for key, value in body.items()} | {"score.weight": torch.ones(2, 6)}
    mine = network(outputs, seed=2)
    fresh = {key: value.clone() for key, value in mine.state_dict().items()}
    news = take_weights(mine, replace(saved_network(task="detect"), tensors=tensors), outputs)
    last = ("fc2.weight", "fc2.bias")
    # The last layer has learned another task, also where it has as many outputs.
    assert equal(mine, body | {key: fresh[key] for key in last})
    assert f"the last layer is new: {outputs} outputs; the file has none for them" in news
    assert news.endswith("; without the head of the task detect")


def test_a_run_of_another_network_says_which() -> None:
    with pytest.raises(ModelError) as caught:
        take_weights(build_model("small-cnn", (1, 28, 28), 10), saved_network(), 10, name="small-cnn")
    assert caught.value.remedy == '--model "mnist-cnn", the network of the weights'


def test_a_run_on_another_size_says_which() -> None:
    with pytest.raises(ModelError) as caught:
        take_weights(build_model("mnist-cnn", (1, 32, 32), 10), saved_network(), 10, name="mnist-cnn")
    assert "--size 28x28 --data.channels 1" in caught.value.remedy


@pytest.mark.slow
def test_the_network_that_a_file_fits_is_recognized_in_no_memory() -> None:
    for name, shape, dense in [("mnist-cnn", (1, 28, 28), False), ("small-unet", (3, 16, 16), True)]:
        weights = from_file(build_model(name, shape, 10, dense=dense).state_dict())
        assert recognize(weights, shape, 4, dense) == name
    assert recognize(from_file({"a": torch.zeros(3)}), (1, 28, 28), 4, False) is None
