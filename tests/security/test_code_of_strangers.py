"""A run or a configuration that names a file of code: it is run only for who has named it himself."""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import striate as package
from striate.errors import ModelError, RunError
from striate.machine.cache import cache_folder
from striate.runs.checkpoint import load_checkpoint, save_checkpoint

CODE = """
from pathlib import Path
from torch import nn
Path("ran").touch()
def build(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


@pytest.fixture
def strangers(small_run, monkeypatch) -> Path:
    """A run whose network is in a file beside it, as somebody else made it: this user has never named it."""
    shutil.copytree(small_run, "run")
    Path("run/net.py").write_text(CODE)
    name = f"{Path('run/net.py').absolute()}:build"
    for file in ("best.pt", "last.pt"):
        path = Path("run/checkpoints") / file
        content = load_checkpoint(path)
        content.pop("format")
        content["network"]["name"] = name
        content["model"] = {f"1.{k.split('.')[-1]}": v for k, v in content["model"].items()}
        content.pop("ema", None)
        save_checkpoint(path, content)
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    config["model"]["name"] = name
    Path("run/config.yaml").write_text(yaml.safe_dump(config))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    return Path("run")


COMMANDS = [
    ("predict", "run", "x.png"),
    ("predict", "run/checkpoints/best.pt", "x.png"),
    ("eval", "run"),
    ("eval", "run", "mnist5k"),
    ("summary", "run"),
    ("summary", "mlp", "--input", "1x8x8", "--against", "run"),
    ("train", "--config", "run/config.yaml", "--out", "again"),
    ("train", "mnist5k", "--model", "run", "--out", "again"),
    ("train", "mnist5k", "--config", "run/config.yaml", "--epochs", "3", "--out", "again"),
    ("plan", "--config", "run/config.yaml"),
    ("lr-find", "--config", "run/config.yaml"),
]


@pytest.mark.each_nth(6)
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words))
def test_the_code_of_a_strangers_run_is_not_run(striate, strangers, words) -> None:
    striate(*words).refused("a network that is code", "striate summary")
    assert not Path("ran").exists()
    assert not Path("again").exists()


def test_the_remedy_works_and_is_remembered(striate, strangers) -> None:
    told = striate("predict", "run", "x.png")
    words = told.err.partition("name it once: striate ")[2].strip().split()
    assert striate(*words, "--json").code == 0
    assert Path("ran").exists()
    assert striate("predict", "run", "x.png").code == 0
    shutil.rmtree(cache_folder() / "code")
    assert striate("predict", "run", "x.png").code == 0  # this process has been told


def test_in_python_too(strangers) -> None:
    with pytest.raises(ModelError, match="a network that is code"):
        package.load("run")
    assert not Path("ran").exists()
    package.build(str(Path("run/net.py").absolute()) + ":build", (1, 8, 8), 2)
    assert package.load("run").predict("x.png").label in ("cat", "dog")


def test_another_function_and_a_link_to_the_same_name_are_not_what_was_named(striate, strangers) -> None:
    own = Path("own")
    own.mkdir()
    (own / "net.py").write_text(CODE)
    package.build("own/net.py:build", (1, 8, 8), 2)
    Path("ran").unlink()
    striate("predict", "run", "x.png").refused("a network that is code")
    assert not Path("ran").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users have no numbers here")
def test_a_note_of_another_user_is_not_believed(striate, strangers, monkeypatch) -> None:
    from striate.models import trusted_code

    note = trusted_code._note(trusted_code._whole(f"{Path('run/net.py').absolute()}:build"))
    note.parent.mkdir(parents=True)
    note.write_text("")
    os.chown(note, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12345)
    striate("predict", "run", "x.png").refused("a network that is code")


def test_ones_own_training_asks_nothing(striate, photos) -> None:
    Path("net.py").write_text(CODE.replace("64", "3 * 64"))
    data = photos(2, 8, 8)
    assert striate("train", data, "--model", "net.py:build", "--epochs", "1", "--plan", "plain", "--out", "r").code == 0
    assert striate("predict", "r", data).code == 0
    assert striate("train", "--resume", "r").code == 0
    assert striate("train", "--config", "r/config.yaml", "--out", "r2").code == 0


def test_a_network_whose_file_has_changed_predicts_nothing(striate, photos) -> None:
    code = CODE.replace("64", "3 * 64")
    Path("net.py").write_text(code)
    data = photos(2, 8, 8)
    assert striate("train", data, "--model", "net.py:build", "--epochs", "1", "--plan", "plain", "--out", "r").code == 0
    Path("net.py").write_text(f"{code}\n# another state of the file\n")
    verbs = (["predict", "r", data], ["show", "r", "filters"], ["export", "r", "--out", "r.onnx"], ["eval", "r"])
    for verb in (*verbs, ["train", data, "--model", "r"], ["train", data, "--weights", "r"]):
        striate(*verb).refused("has changed since the run was started")
    quick = ["--epochs", "1", "--plan", "plain"]
    assert striate("train", data, "--model", "net.py:build", "--weights", "r", *quick).code == 0
    Path("net.py").write_text(code)
    assert striate("predict", "r", data).code == 0


# A task, a loss, an optimizer, a transform

PARTS = """
from pathlib import Path
import striate, torch
Path("ran").touch()
class Own(striate.Task):
    outputs = 2
    def loss_sum(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="sum")
def loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)
def optimizer(params):
    return torch.optim.SGD(params, lr=0.1)
def transform(images):
    return images.flip(-1)
"""
FIELDS = {
    "task.name": "Own",
    "task.loss": "loss",
    "optim.name": "optimizer",
    "augment.transform": "transform",
}


@pytest.fixture
def strange_part(request, small_run) -> str:
    """A run with such code beside it in its config.yaml, and a task or loss in its checkpoints too; the code's name."""
    field = request.param
    shutil.copytree(small_run, "run")
    Path("run/parts.py").write_text(PARTS)
    name = f"{Path('run/parts.py').absolute()}:{FIELDS[field]}"
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    section, key = field.split(".")
    config[section][key] = name
    config["optim"]["weight_decay"] = None  # an optimizer of one's own has its own
    config["decided"] = []
    Path("run/config.yaml").write_text(yaml.safe_dump(config))
    for file in ("best.pt", "last.pt"):
        path = Path("run/checkpoints") / file
        content = load_checkpoint(path)
        content.pop("format")
        if field == "task.name":
            content["task"] = {"name": name}
        elif field == "task.loss":
            content["task"]["own_loss"] = name
        save_checkpoint(path, content)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    return name


@pytest.mark.each_nth(11)
@pytest.mark.parametrize("strange_part", FIELDS, indirect=True)
@pytest.mark.parametrize(
    "words",
    [
        ("train", "--config", "run/config.yaml", "--out", "again"),
        ("train", "digits", "--config", "run/config.yaml", "--epochs", "3", "--out", "again"),
        ("plan", "--config", "run/config.yaml"),
        ("sweep", "--config", "run/config.yaml", "--trials", "2", "--out", "again"),
        ("lr-find", "--config", "run/config.yaml"),
    ],
    ids=lambda words: words[0],
)
def test_no_part_of_a_strangers_configuration_is_run(striate, strange_part, words) -> None:
    striate(*words).refused("that is code", "striate trust")
    assert not Path("ran").exists()
    assert not Path("again").exists()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("strange_part", ["task.name", "task.loss"], indirect=True)
def test_no_part_of_a_strangers_run_is_run(striate, strange_part) -> None:
    commands = [("eval", "run"), ("eval", "run", "mnist5k"), ("doctor", "run"), ("compare", "run", "run/../run2")]
    shutil.copytree("run", "run2")
    if strange_part.endswith(":Own"):
        commands += [("predict", "run", "x.png"), ("predict", "run/checkpoints/best.pt", "x.png"), ("verify", "run")]
        commands += [("train", "--resume", "run")]
    for words in commands:
        told = striate(*words)
        assert told.code == 2 or "code" not in told.err, words
        assert not Path("ran").exists(), words
    if strange_part.endswith(":Own"):
        with pytest.raises(RunError, match="a task that is code"):
            package.load("run")


@pytest.mark.parametrize("strange_part", ["task.name"], indirect=True)
def test_the_remedy_for_a_task_works(striate, strange_part) -> None:
    told = striate("predict", "run", "x.png")
    told.refused("a task that is code")
    words = told.err.partition("name it once: striate ")[2].strip().split()
    assert striate(*words).code == 0
    assert not Path("ran").exists()  # it is named, and run only where it is needed
    assert striate("predict", "run", "x.png").code == 0
    assert Path("ran").exists()


@pytest.mark.parametrize("strange_part", ["optim.name"], indirect=True)
def test_the_remedy_for_a_configuration_works(striate, strange_part) -> None:
    told = striate("train", "--config", "run/config.yaml", "--out", "again")
    words = told.err.partition("name it once: striate ")[2].strip().split()
    assert striate(*words).code == 0
    assert striate("train", "--config", "run/config.yaml", "--out", "again").code == 0


def test_what_is_typed_is_named(striate) -> None:
    Path("parts.py").write_text(PARTS)
    options = ("--task.loss", "parts.py:loss", "--optim.name", "parts.py:optimizer")
    first = ("train", "iris", "--model", "mlp(4)", "--epochs", "1", "--plan", "plain", *options)
    assert striate(*first, "--out", "r").code == 0
    assert striate("train", "--config", "r/config.yaml", "--out", "r2").code == 0


def test_trust_names_a_file_that_is_there(striate) -> None:
    striate("trust", "nothing.py:f").refused("no file")
    striate("trust", "resnet18").refused("path/to/file.py:name")
    Path("parts.py").write_text(PARTS + "\nfrom json import loads as read\nanother = loss\n")
    striate("trust", "parts.py:los").refused("no `los` in the file", "write parts.py:loss")
    for name in ("loss", "read", "another"):
        assert striate("trust", f"parts.py:{name}").code == 0
    told = striate("trust", "parts.py:loss", "--json")
    digest = sha256(Path("parts.py").read_bytes()).hexdigest()
    assert json.loads(told.out) == {"code": f"{Path('parts.py').resolve()}:loss", "sha256": digest}
