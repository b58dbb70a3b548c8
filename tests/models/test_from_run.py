"""A run or a checkpoint as the model: its network with its weights, another last layer where the outputs are others."""

from pathlib import Path

import pytest
import torch
from torch import nn

from striate.errors import ModelError, RunError, StriateError
from striate.models.build import build_model
from striate.models.from_run import names_run, read_network
from striate.runs.checkpoint import save_checkpoint

LAYERS = "conv(4,3) bn relu gap fc(6) relu fc(10)"
SHAPE = (1, 9, 9)


def save(path, name=LAYERS, shape=SHAPE, outputs=10, *, file="best", dense=False, ema=False, network=None):
    """A run as training leaves it: the network's weights, and what builds it again."""
    torch.manual_seed(1)
    module = network or build_model(name, shape, outputs, dense=dense)
    module.train()
    module(torch.randn(4, *shape))  # so that buffers are those of no fresh network
    weights = module.state_dict()
    classes = [f"c{k}" for k in range(outputs)]
    content = {
        "model": weights,
        "network": {"name": name, "input_shape": list(shape), "dense": dense},
        "task": {"name": "segment", "classes": classes}
        if dense
        else {"name": "classify", "classes": classes, "loss_name": "cross-entropy"},
        "classes": classes,
    }
    if ema:
        content |= {"ema": weights, "model": {key: torch.zeros_like(value) for key, value in weights.items()}}
    path = Path(path)
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text("")
    save_checkpoint(path / "checkpoints" / f"{file}.pt", content)
    return weights


def same(network, weights, but=()):
    state = network.state_dict()
    assert list(state) == list(weights)
    return [key for key in state if not torch.equal(state[key], weights[key])] == list(but)


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("text", ["runs/a", "./runs/a/", "runs/a/checkpoints/best.pt"])
def test_a_run_is_its_network_with_its_weights(text, ema):
    weights, news = save("runs/a", ema=ema), []
    network = build_model(text, SHAPE, 10, announce=news.append)
    assert same(network, weights)
    assert len(news) == 1
    assert news[0].startswith(f"weights of {text}")
    assert news[0].endswith("of every layer")
    assert same(build_model(text), weights)


def test_a_copied_checkpoint_needs_no_run():
    weights = save("runs/a")
    Path("runs/a/checkpoints/best.pt").rename("kept.pt")
    assert same(build_model("kept.pt", SHAPE, 10), weights)


def test_the_last_checkpoint_where_none_was_best_yet():
    weights, news = save("runs/a", file="last"), []
    assert same(build_model("runs/a", announce=news.append), weights)
    assert "checkpoints/last.pt" in news[0]


HEADS = [
    (LAYERS, SHAPE, False, ["fc2.weight", "fc2.bias"]),
    ("mnist-cnn", (1, 28, 28), False, ["fc2.weight", "fc2.bias"]),
    ("small-resnet(width=8,blocks=1)", (3, 16, 16), False, ["fc.weight", "fc.bias"]),
    ("small-unet(width=4)", (3, 8, 8), True, ["head.weight", "head.bias"]),
    ("conv(4,3) relu conv(10,1) gap", SHAPE, False, ["conv2.weight", "conv2.bias"]),
    ("conv(4,3) relu local(10,1,bias=false) gap", SHAPE, False, ["local1.weight"]),
    ("fc(8) relu fc(20) maxout(2) prelu", (4,), False, ["fc2.weight", "fc2.bias"]),
    ("nets.py:build", (4,), False, ["1.weight", "1.bias"]),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("name", "shape", "dense", "fresh"), HEADS, ids=[h[0][:20] for h in HEADS])
def test_another_number_of_outputs_begins_the_last_layer_anew(name, shape, dense, fresh):
    Path("nets.py").write_text(
        "from torch import nn\ndef build(classes): return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, classes))"
    )
    weights, news = save("runs/a", name, shape, 10, dense=dense), []
    torch.manual_seed(5)
    network = build_model("runs/a", shape, 5, dense=dense, classes=tuple("abcde"), announce=news.append)
    assert news == ["weights of runs/a (checkpoints/best.pt); the last layer is new: 5 classes instead of 10"]
    state = network.state_dict()
    assert [key for key in state if state[key].shape != weights[key].shape] == fresh
    assert all(torch.equal(state[key], weights[key]) for key in state if key not in fresh)
    assert network.eval()(torch.zeros(2, *shape)).shape[:2] == (2, 5)
    head = state[fresh[0]]
    torch.manual_seed(6)
    assert not torch.equal(head, build_model("runs/a", shape, 5, dense=dense).state_dict()[fresh[0]])


def test_a_run_that_ends_in_maps_gets_a_last_layer_for_classes():
    weights, news = save("runs/a", "conv(4,3,pad=1) relu conv(10,3,pad=1) relu", SHAPE, dense=True), []
    state = build_model("runs/a", SHAPE, 5, dense=False, announce=news.append).state_dict()
    assert [key for key in state if key not in weights] == ["fc1.weight", "fc1.bias"]
    assert all(torch.equal(state[key], weights[key]) for key in weights)
    assert "the last layer is new: 5" in news[0]


def test_other_classes_of_the_same_number_are_told():
    weights, news = save("runs/a"), []
    assert same(build_model("runs/a", SHAPE, 10, classes=tuple("abcdefghij"), announce=news.append), weights)
    assert "trained for other classes: c0, c1, c2, c3, …" in news[0]


def test_another_size_keeps_the_weights_where_they_do_not_depend_on_it():
    weights = save("runs/a")
    assert same(build_model("runs/a", (1, 20, 30), 10), weights)


@pytest.mark.parametrize(
    ("name", "shape", "other", "outputs", "words"),
    [
        (LAYERS, SHAPE, (3, 9, 9), 10, "conv1.weight is 4×1×3×3 in the file and 4×3×3×3 in the network"),
        (LAYERS, SHAPE, (3, 9, 9), 5, "conv1.weight is 4×1×3×3 in the file and 4×3×3×3 in the network"),
        ("mnist-cnn", (1, 28, 28), (1, 32, 32), 10, "fc1.weight is 64×384 in the file and 64×600 in the network"),
        ("perceptron", (1, 8, 8), (1, 9, 9), 10, "fc1.weight is 10×64 in the file and 10×81 in the network"),
        ("fc(8) relu fc(10)", (4,), (5,), 10, "fc1.weight is 8×4 in the file and 8×5 in the network"),
        ("fc(8) relu 2*[fc(10)]", (4,), (4,), 5, "fc2.weight is 10×8 in the file and 5×8 in the network"),
        ("small-resnet(width=4,blocks=1)", (1, 32, 32), (1, 96, 96), 10, "layer4"),
        ("conv(4,3) relu fc(10) bn", SHAPE, SHAPE, 5, "bn1.weight is 10 in the file and 5 in the network"),
    ],
)
def test_tensors_that_do_not_fit_are_named(name, shape, other, outputs, words):
    save("runs/a", name, shape)
    with pytest.raises(ModelError) as caught:
        build_model("runs/a", other, outputs)
    error = caught.value
    assert error.where == "runs/a"
    assert words in error.got
    assert f"inputs of {'×'.join(map(str, shape))}" in error.expected
    assert f'--model "{name}"' in error.remedy


def test_a_network_of_one_layer_leaves_nothing_to_take_over():
    save("runs/a", "perceptron", (1, 8, 8))
    with pytest.raises(ModelError, match="no weights to use"):
        build_model("runs/a", (1, 8, 8), 5)


def test_a_network_that_cannot_take_the_input_is_told_as_the_runs():
    save("runs/a", "mnist-cnn", (1, 28, 28))
    with pytest.raises(ModelError) as caught:
        build_model("runs/a", (1, 6, 6), 10)
    assert caught.value.where == "the network of runs/a, mnist-cnn"


def test_a_module_made_in_python_cannot_be_built():
    save("runs/a", None, (4,), 3, network=nn.Linear(4, 3))
    with pytest.raises(ModelError, match="made in Python"):
        build_model("runs/a", (4,), 3)


def test_a_run_of_a_run_is_the_network_that_both_name():
    save("runs/a")
    weights = save("runs/b", "runs/a", network=build_model("runs/a"))
    assert read_network("runs/b").name == read_network("runs/a").name == LAYERS
    assert same(build_model("runs/b", SHAPE, 10), weights)


def test_runs_that_name_each_other_end():
    save("runs/a")
    save("runs/b", "runs/a", network=build_model("runs/a"))
    save("runs/a", "runs/b", network=build_model("runs/a"))
    with pytest.raises(ModelError, match="started from this run"):
        build_model("runs/b")


def test_a_run_of_masks_is_asked_for_masks_unless_told_otherwise():
    save("runs/a", "small-dilated(width=4)", (1, 8, 8), 3, dense=True)
    assert build_model("runs/a", (1, 8, 8), 2)(torch.zeros(2, 1, 8, 8)).shape == (2, 2, 8, 8)
    with pytest.raises(ModelError):
        build_model("runs/a", (1, 8, 8), 2, dense=False)


def test_on_the_meta_device():
    save("runs/a")
    with torch.device("meta"):
        assert all(t.is_meta for t in build_model("runs/a", SHAPE, 5).state_dict().values())


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("runs/a", True),
        ("runs/a/checkpoints/best.pt", True),
        ("runs/b", False),
        ("mnist-cnn", False),
        ("./mnist-cnn", True),
        ("relu", False),
        ("a-run", True),
        ("conv(16,5) relu", False),
        ("x" * 20_000, False),
        ("a\0b", False),
        ("nets.py:build", False),
        ("", False),
    ],
)
def test_what_names_a_run(text, run):
    for path in ("runs/a", "mnist-cnn", "relu", "a-run"):
        save(path)
    assert names_run(text) is run


def test_a_zoo_name_stays_one_beside_a_folder_of_its_name():
    save("mnist-cnn")
    assert hasattr(build_model("mnist-cnn", (1, 28, 28), 10), "conv2")


def test_paths_without_a_run_are_told():
    save("runs/first")
    with pytest.raises(ModelError) as caught:
        build_model("runs/frist", SHAPE, 10)
    assert caught.value.remedy == "write runs/first"
    Path("runs/empty").mkdir()
    Path("runs/empty/config.yaml").write_text("")
    with pytest.raises(RunError, match="without a checkpoint"):
        build_model("runs/empty", SHAPE, 10)
    Path("broken.pt").write_bytes(b"PK nothing")
    with pytest.raises(RunError):
        build_model("broken.pt", SHAPE, 10)


@pytest.mark.parametrize("missing", ["network", "task", "classes"])
def test_a_checkpoint_of_another_version(missing):
    save("runs/a")
    content = torch.load("runs/a/checkpoints/best.pt", weights_only=True)
    del content[missing]
    save_checkpoint(Path("runs/a/checkpoints/best.pt"), {k: v for k, v in content.items() if k != "format"})
    with pytest.raises(StriateError, match=missing):
        build_model("runs/a")
