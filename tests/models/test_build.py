"""From a name, layer string, file or module to a network whose output is checked."""

import contextlib
import re
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.errors import LayerStringError, ModelError
from striate.models.build import build_model
from striate.models.check import check_outputs
from striate.models.choose import choose_model


def pasted(error):
    return re.search(r'"(.*)"', error.remedy).group(1)


# layer string, input, outputs, dense, character, remedy (None: any that fits)
WRONG_OUTPUTS = [
    ("conv(16,5) relu fc(10)", (3, 32, 32), 5, False, 16, "conv(16,5) relu fc(5)"),
    ("fc(10) softmax", (4,), 5, False, 0, "fc(5) softmax"),
    ("fc(10) maxout(2)", (4,), 3, False, 0, "fc(6) maxout(2)"),
    ("conv(16,5) relu", (1, 8, 8), 3, False, 0, "conv(16,5) relu fc(3)"),
    ("relu", (4,), 3, False, 3, "relu fc(3)"),
    ("conv(16,7)", (1, 5, 5), 5, False, 0, "conv(16,5) fc(5)"),
    ("conv(8,3,pad=1) relu conv(5,1)", (1, 8, 8), 4, True, 21, "conv(8,3,pad=1) relu conv(4,1)"),
    ("conv(8,3,pad=1) relu pool(2)", (1, 8, 8), 4, True, 0, "conv(8,3,pad=1) relu pool(2) up(2) conv(4,1)"),
    ("conv(8,3) relu pool(2) conv(2,3)", (3, 32, 32), 4, True, 23, None),
    ("fc(3)", (3, 32, 32), 4, True, 0, None),
    ("pool(2)", (3, 31, 32), 4, True, 6, None),
]


@pytest.mark.parametrize(("text", "shape", "outputs", "dense", "position", "remedy"), WRONG_OUTPUTS)
def test_a_layer_string_with_the_wrong_outputs(text, shape, outputs, dense, position, remedy):
    with pytest.raises(LayerStringError) as caught:
        build_model(text, shape, outputs, dense=dense)
    assert caught.value.position == position
    mended = pasted(caught.value)
    out = build_model(mended, shape, outputs, dense=dense)(torch.zeros(2, *shape))
    assert out.shape == ((2, outputs, *shape[1:]) if dense else (2, outputs))
    assert remedy is None or mended == remedy


def test_the_classes_are_named():
    with pytest.raises(LayerStringError) as caught:
        build_model("fc(10)", (4,), 3, classes=("ant", "bee", "cat"))
    assert caught.value.got == "10 outputs"
    assert caught.value.expected == "3 outputs (classes of the data: ant, bee, cat)"


@pytest.mark.parametrize(
    ("text", "position", "words", "remedy"),
    [
        ("mnist-cn", 0, "zoo model `mnist-cnn`", "mnist-cnn"),
        ("cnv(16,5)", 0, "layer `conv`", "conv(16,5)"),
        ("small-resnet(wdth=3)", 13, "did you mean `width`", "small-resnet(width=3)"),
        ("small-resnet(width=0)", 19, "is 0", "small-resnet(width=1)"),
        ("small-resnet relu", 13, "after `small-resnet`", "small-resnet"),
        ("lenet5(3)", 7, "no argument", "lenet5()"),
        ("mlp(128", 3, "not closed", "mlp(128)"),
        ("mlp(12.5)", 4, "12.5", "mlp(12)"),
        ("mlp(activation=relo)", 15, "relo", "mlp(activation=relu)"),
    ],
)
def test_wrong_names_and_arguments(text, position, words, remedy):
    with pytest.raises(LayerStringError) as caught:
        build_model(text, (1, 28, 28), 10)
    assert caught.value.position == position
    assert words in caught.value.got
    assert pasted(caught.value) == remedy
    build_model(remedy, (1, 28, 28), 10 if "conv" not in remedy else None)


@pytest.mark.parametrize("model", ["", "auto", "some/folder", "relu", 3, None])
def test_what_names_no_network(model):
    with pytest.raises(ModelError):
        build_model(model)


def test_a_network_for_masks_is_no_classifier():
    with pytest.raises(ModelError, match="--model auto"):
        check_outputs(build_model("small-unet", (1, 8, 8), 3), (1, 8, 8), 3)
    with pytest.raises(ModelError, match="--model auto"):
        build_model("small-unet", (1, 8, 8), 3, dense=False)
    with pytest.raises(ModelError, match="small-unet"):
        build_model("mlp(8)", (1, 28, 28), 3, dense=True)
    assert build_model("mnist-cnn", (1, 28, 28), 3, dense=True)(torch.zeros(2, 1, 28, 28)).shape == (2, 3, 28, 28)


def test_a_name_near_no_other_is_told_where_names_are_listed():
    with pytest.raises(LayerStringError) as caught:
        build_model("qqqqqqq", (1, 28, 28), 10)
    assert caught.value.remedy == "striate models"
    assert len(str(caught.value)) < 400


def test_so_many_outputs_of_a_zoo_network_are_refused():
    with torch.device("meta"), pytest.raises(ModelError, match="at most 1,000,000,000"):
        build_model("resnet18", (3, 224, 224), 10**10)


@pytest.mark.parametrize(("there", "said"), [("a-folder", "no config.yaml"), ("a-file", "a file without a network")])
def test_what_lies_there_and_is_no_network_is_said(there, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-file").write_text("text")
    with pytest.raises(ModelError, match=said):
        build_model(there, (1, 28, 28), 10)


@pytest.mark.slow
def test_a_file_of_bare_weights_is_answered_with_the_network_that_they_are_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(build_model("mnist-cnn").state_dict(), "weights.pth")
    with pytest.raises(ModelError) as caught:
        build_model("./weights.pth")
    assert caught.value.remedy.startswith("write mnist-cnn,")


def test_a_zoo_network_beyond_all_memory_is_refused_before_it_is_made():
    with pytest.raises(ModelError, match="parameters with 3 outputs") as caught:
        build_model("small-resnet(width=4096,blocks=50)", (3, 32, 32), 3)
    assert ": small-resnet, with" in caught.value.remedy


pieces = st.sampled_from(
    ["mlp", "conv", "relu", "lenet5", "(", ")", "[", "]", "3", "*", ",", "=", "res", "/", ".py:", "f", " "]
)


@settings(deadline=None)
@given(st.lists(pieces, max_size=12).map("".join), st.sampled_from([(4,), (1, 9, 9), (2, 20)]))
def test_random_text_builds_or_is_refused(text, shape):
    with contextlib.suppress(ModelError):
        assert build_model(text, shape, 3).eval()(torch.zeros(2, *shape)).shape == (2, 3)


# --- modules -------------------------------------------------------------------------------------------------------


def test_a_module_comes_back_untouched():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 3))
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert build_model(network, (1, 8, 8), 3) is network
    assert torch.equal(random, torch.get_rng_state())
    assert [m.training for m in network] == [True, False, True, True, True]
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(p.grad is None for p in network.parameters())


class Restless(nn.Module):
    """Reads its input, draws random numbers, changes a buffer, and cannot be copied."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.fc = nn.Linear(4, 3)
        self.lock = threading.Lock()

    def forward(self, x):
        self.calls += 1
        torch.rand(3)
        return self.fc(x) if float(x.sum()) == 0 else None


def test_a_module_that_only_runs_for_real_is_put_back():
    network = Restless()
    random = torch.get_rng_state()
    check_outputs(network, (4,), 3)
    assert torch.equal(random, torch.get_rng_state())
    assert float(network.calls) == 0
    assert network.training
    assert not network.fc._forward_hooks


def test_lazy_modules_stay_lazy():
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    check_outputs(network, (1, 4, 4), 3)
    assert nn.parameter.is_lazy(network[1].weight)


@pytest.mark.parametrize(
    ("network", "shape", "where", "words", "remedy"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(10, 3)), (1, 8, 8), "`1` (Linear)", "(N, 64)", "nn.Linear(64, 3)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), (1, 8, 8), "`0` (Conv2d)", "(N, 1, 8, 8)", "in_channels 1"),
        (nn.Linear(4, 2), (4,), "output of Linear", "2 outputs", "end in 3 outputs"),
        (nn.LSTM(4, 3), (5, 4), "output of LSTM", "type tuple", "such as outputs[0]"),
        (nn.Flatten(0), (3,), "output of Flatten", "(6,) for a batch of 2", "end in 3"),
    ],
)
def test_a_module_that_does_not_fit_is_told_where(network, shape, where, words, remedy):
    with pytest.raises(ModelError) as caught:
        build_model(network, shape, 3)
    assert caught.value.where == where
    assert words in caught.value.got
    assert remedy in caught.value.remedy


# --- files ---------------------------------------------------------------------------------------------------------


def write(folder, code):
    (folder / "nets.py").write_text(code)
    return f"{folder / 'nets.py'}:build"


GOOD = [
    "def build(): return nn.Linear(4, 3)",
    "def build(classes): return nn.Linear(4, classes)",
    "def build(*, input_shape, classes=7): return nn.Linear(*input_shape, classes)",
    "def build(**given): return nn.Linear(given['input_shape'][0], given['classes'])",
    "from helper import make as build",
]


@pytest.mark.parametrize("code", GOOD)
def test_a_function_of_a_file(tmp_path, code):
    (tmp_path / "helper.py").write_text("from torch import nn\ndef make(): return nn.Linear(4, 3)\n")
    network = build_model(write(tmp_path, f"from torch import nn\n{code}\n"), (4,), 3)
    assert network(torch.zeros(1, 4)).shape == (1, 3)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def build(): return 3", "returned int"),
        ("def build(): return 1 / 0", "ZeroDivisionError: division by zero (line 1)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (line 2)"),
        ("def build(:", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module' (line 1)"),
        ("def built(): pass", "no function `build`"),
        ("build = 3", "is not a function"),
        ("def build(width): pass", "required parameters width"),
        ("from torch import nn\ndef build(): return nn.Linear(4, 9)", "9 outputs"),
    ],
)
def test_files_that_give_no_network(tmp_path, code, words):
    with pytest.raises(ModelError) as caught:
        build_model(write(tmp_path, code), (4,), 3)
    assert words in caught.value.got
    assert caught.value.remedy


def test_the_limit_of_characters_counts_blanks_at_the_ends():
    with pytest.raises(ModelError, match="at most 20000"):
        build_model(" " * 20_000 + "relu", (1, 8, 8))


@pytest.mark.parametrize(
    ("model", "where", "remedy"),
    [
        ("dense(10)", "layer string, character 1", 'write "fc(10)"'),
        ("batchnorm", "layer string, character 1", 'write "bn"'),
        ("resnet81", "model, character 1", 'write "resnet18"'),
        ("resnet18(wdith=32)", "model, character 10", 'write "resnet18(width=32)"'),
    ],
)
def test_a_word_of_another_library_means_a_layer_and_a_similar_name_a_network(model, where, remedy):
    with pytest.raises(ModelError) as caught:
        build_model(model, (1, 28, 28))
    assert (caught.value.where, caught.value.remedy) == (where, remedy)


def test_a_missing_file_or_function_suggests_the_nearest(tmp_path):
    good = write(tmp_path, "from torch import nn\ndef build(): return nn.Linear(4, 3)\n")
    for wrong in (good.replace("nets.py", "nest.py"), good.replace(":build", ":buidl")):
        with pytest.raises(ModelError) as caught:
            build_model(wrong, (4,), 3)
        assert caught.value.remedy == f"write {good}"
    with pytest.raises(ModelError, match="no function name"):
        build_model(good.removesuffix(":build"), (4,), 3)


# --- auto ----------------------------------------------------------------------------------------------------------


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("kind", "shape", "needs", "samples", "name"),
    [
        ("image", (1, 28, 28), "vector", 4000, "mnist-cnn"),
        ("image", (1, 8, 8), "vector", 1400, "small-cnn"),
        ("image", (3, 32, 32), "vector", 50000, "small-resnet"),
        ("image", (1, 96, 96), "vector", 300, "small-resnet"),
        ("image", (3, 4, 4), "vector", 300, "small-cnn"),
        ("table", (4,), "vector", 105, "mlp(16,8)"),
        ("table", (13,), "vector", 350, "mlp(64,32)"),
        ("table", (5000,), "vector", 60, "mlp(8,8)"),
        ("grid", (2, 500), "vector", 60, "small-cnn"),
        ("grid", (1, 6, 6, 6), "vector", 60, "small-cnn"),
        ("grid", (1, 30, 30, 30), "vector", 60, "small-resnet3d"),
        ("volume", (2, 16, 8, 24), "map", 60, "small-unet3d"),
        ("image", (3, 64, 48), "map", 60, "small-unet"),
        ("image", (3, 63, 48), "map", 60, "small-dilated"),
        ("image", (3, 96, 130), "map", 60, "small-resnet"),
    ],
)
def test_auto_fits_the_data_and_says_why(kind, shape, needs, samples, name):
    chosen, reason = choose_model(kind, shape, needs, samples)
    assert chosen == name
    assert len(reason) > 20
    build_model(chosen, shape, 3, dense=needs == "map")
