"""Somebody has weights, and fewer pictures: from a run, from a file of another program, and from the wrong file."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import striate
from striate.cli import main

NETWORK = "conv(6,3) bn relu pool(2) conv(8,3) bn relu gap fc(3)"


def refused(capsys, *words: str) -> dict[str, str]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return json.loads(out)["error"]


@pytest.fixture
def few(photos, capsys) -> Path:
    """A trained run on three classes, and a folder of two of them with few pictures."""
    photos(each=30)
    assert main(["train", "photos", "--model", NETWORK, "--epochs", "10", "--out", "first"]) == 0
    for name in ("red", "blue"):
        Path("few", name).mkdir(parents=True)
        for file in sorted(Path("photos", name).iterdir())[:10]:
            shutil.copy(file, Path("few", name))
    capsys.readouterr()
    return Path("few")


def test_weights_of_a_run_need_no_model_and_no_run_afterwards(few, capsys) -> None:
    assert main(["train", "few", "--weights", "first", "--epochs", "6", "--out", "tuned", "--json"]) == 0
    out, err = capsys.readouterr()
    kept = "weights of first (checkpoints/best.pt), each class with its row of the last layer; dropped: green"
    assert kept in err
    assert "inputs are standardized as in the training of first" in err
    assert "fine-tuning:" in err
    assert json.loads(out)["test"]["accuracy"] == 1.0
    saved = yaml.safe_load(Path("tuned/config.yaml").read_text())
    assert (saved["recipe"], saved["model"]["name"]) == ("fine-tune", NETWORK.replace("fc(3)", "fc(2)"))
    shutil.rmtree("first")
    shutil.rmtree("photos")
    assert striate.load("tuned").predict("few/red/000.png").label == "red"
    assert main(["train", "--resume", "tuned"]) == 0
    assert main(["eval", "tuned"]) == 0
    # To train it anew takes the weights.
    error = refused(capsys, "train", "--config", "tuned/config.yaml", "--out", "again")
    assert error["got"] == "no such file or folder"


def test_a_finished_run_is_trained_further_with_other_images_and_classes(few, capsys) -> None:
    held = {
        row[0] for line in Path("first/split.csv").read_text().splitlines() if (row := line.split(","))[2] == "test"
    }
    shutil.copytree("photos/red", "photos/scarlet")
    Path("labels.csv").write_text("path,label\nred/000.png,\n")
    words = ["--epochs", "1", "--labels", "labels.csv", "--out", "second", "--json"]
    assert main(["train", "photos", "--from", "first", *words]) == 0
    out, err = capsys.readouterr()
    assert "each class with its row of the last layer; new: scarlet" in err
    assert re.search(r"Splits: [0-9,]+ samples have the split of first", err)
    assert "1 sample is left out" in err
    assert "in the training split" not in err
    copies = {path.replace("red", "scarlet") for path in held if path.startswith("red")}  # each follows its image
    assert json.loads(out)["test"]["n"] == len((held | copies) - {"red/000.png", "scarlet/000.png"})
    saved = yaml.safe_load(Path("second/config.yaml").read_text())
    assert (saved["model"]["name"], saved["seed"]) == (NETWORK.replace("fc(3)", "fc(4)"), 1)
    assert main(["train", "--from", "first", "--config", "first/config.yaml"]) == 2
    assert main(["train", "--from", "nowhere"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_weights_of_another_program(few, capsys) -> None:
    tensors = torch.load("first/checkpoints/best.pt", weights_only=True)["model"]
    save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, "net.safetensors")
    torch.save({"epoch": 9, "state_dict": tensors}, "net.pth")
    options = ["--model", NETWORK.replace("fc(3)", "fc(2)"), "--epochs", "1", "--lr", "1e-9"]
    for number, file in enumerate(["net.safetensors", "net.pth"]):
        assert main(["train", "few", "--weights", file, *options, "--out", str(number)]) == 0
        assert f"weights of {file}; the last layer is new" in capsys.readouterr().err
        kernels = torch.load(f"{number}/checkpoints/best.pt", weights_only=True)["model"]["conv1.weight"]
        assert torch.allclose(kernels, tensors["conv1.weight"], atol=1e-6)
    run = striate.train("few", NETWORK.replace("fc(3)", "fc(2)"), weights="net.pth", epochs=1, out="python")
    assert run.metrics["epochs"] == 1


@pytest.mark.slow
def test_wrong_files_end_in_words_and_the_remedy_works_when_pasted(photos, capsys) -> None:
    photos(2, 10, name="few")
    Path("text.pt").write_text("a readme, renamed")
    error = refused(capsys, "train", "few", "--weights", "text.pt", "--model", "small-cnn")
    assert "it begins with b'a readme" in error["got"]
    torch.save(striate.build("small-cnn", (3, 16, 16), 5).state_dict(), "net.pt")
    for options in ([], ["--model", "small-resnet"]):
        error = refused(capsys, "train", "few", "--weights", "net.pt", *options)
        pasted = shlex.split(error["remedy"].split(",")[0])
        words = ["train", "few", "--weights", "net.pt", *pasted, "--epochs", "1", "--out", f"run{len(options)}"]
        assert main(words) == 0
    error = refused(capsys, "train", "few", "--model", "small-cnn", "--fine_tune.head_share", "0.2")
    assert "random weights" in error["got"]
