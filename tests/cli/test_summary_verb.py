"""`striate summary`: as a user types it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from striate.cli import main

STRING = "conv(4,3) relu pool(2) fc(3)"
CONTRACT = {
    *("model", "input", "params", "trainable", "macs", "flops"),
    *("activation_bytes", "receptive_field", "uncounted", "rows"),
}
OF_A_ROW = {"name", "kind", "in_shape", "out_shape", "params", "macs", "receptive_field", "jump", "leftover"}


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["summary", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    before = sorted(Path().rglob("*"))
    assert main(["summary", *words]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert not out or "--json" in words
    assert sorted(Path().rglob("*")) == before
    return err


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_zoo_name_takes_its_published_shape(capsys) -> None:
    out = printed(capsys, "mnist-cnn")
    assert "mnist-cnn: 1×28×28 → 10" in out
    assert "870,016 multiply–accumulates" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_has_the_keys_that_were_promised(capsys) -> None:
    document = json.loads(printed(capsys, "mnist-cnn", "--json"))
    assert set(document) >= CONTRACT
    assert all(set(row) >= OF_A_ROW for row in document["rows"])
    assert (document["params"], document["macs"], document["flops"]) == (35_330, 870_016, 1_740_032)
    assert document["receptive_field"] == 16
    assert sum(row["macs"] for row in document["rows"]) == document["macs"]
    assert all(remark["code"].startswith("account.") for remark in document["remarks"])


def test_input_and_classes(capsys) -> None:
    document = json.loads(printed(capsys, "mnist-cnn", "--input", "3x32x32", "--classes", "7", "--json"))
    assert (document["input"], document["output"]) == ([3, 32, 32], [7])
    assert json.loads(printed(capsys, "mlp", "--input", "13", "--json"))["input"] == [13]
    assert json.loads(printed(capsys, STRING, "--input", "1×9×9", "--json"))["input"] == [1, 9, 9]


def test_a_file_is_a_network(capsys) -> None:
    Path("net.py").write_text(
        "import torch\nprint('noise')\ndef make():\n    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))\n"
    )
    document = json.loads(printed(capsys, "net.py:make", "--input", "1x5x5", "--json"))
    assert [row["kind"] for row in document["rows"]] == ["conv"]


def test_depth_sums_up(capsys) -> None:
    out = printed(capsys, "resnet18", "--depth", "1")
    assert "14 layers" in out
    assert "layer2.0" not in out.split("\nnetwork")[0]


def test_effective_stands_beside_the_theoretical_field(capsys) -> None:
    document = json.loads(printed(capsys, "mnist-cnn", "--effective", "--json"))
    assert 8 < document["effective_receptive_field"][0] <= document["receptive_field"] == 16
    assert "effective" in printed(capsys, "mnist-cnn", "--effective")


def test_against_another_network(capsys) -> None:
    out = printed(capsys, "lenet5", "--against", "mnist-cnn")
    assert "61,706" in out
    assert "35,330" in out
    document = json.loads(printed(capsys, "lenet5", "--against", "mnist-cnn", "--json"))
    assert set(document) >= CONTRACT
    assert set(document["against"]) >= CONTRACT
    assert document["ratios"]["parameters"] == 61_706 / 35_330


def test_measured_fields_stand_beside_each_other(capsys) -> None:
    out = printed(capsys, STRING, "--input", "1x9x9", "--against", "conv(4,5) relu fc(3)", "--effective")
    assert [line.split()[:2] for line in out.splitlines() if "field" in line] == [
        ["receptive", "field"],
        ["effective", "field"],
    ]


def test_files_are_written_at_once_and_not_overwritten(capsys) -> None:
    words = ("mnist-cnn", "--html", "a.html", "--svg", "a.svg", "--json")
    assert main(["summary", *words]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"] == "mnist-cnn"
    assert "written: a.html\nwritten: a.svg" in err
    assert Path("a.svg").read_text(encoding="utf-8").startswith("<svg ")
    assert Path("a.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(map(str, Path().iterdir())) == ["a.html", "a.svg"]
    before = Path("a.svg").read_bytes()
    err = refused(capsys, "lenet5", "--svg", "a.svg")
    assert "--force" in err
    assert Path("a.svg").read_bytes() == before
    assert main(["summary", "lenet5", "--svg", "a.svg", "--force"]) == 0
    assert Path("a.svg").read_bytes() != before


def test_a_layer_string_takes_the_shape_of_what_it_is_put_beside(capsys) -> None:
    document = json.loads(printed(capsys, "mnist-cnn", "--against", STRING, "--json"))
    assert document["against"]["input"] == [1, 28, 28]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "striate summary"),
        ([STRING], f"striate summary '{STRING}' --input 1x28x28"),
        (["mnist-cn"], "mnist-cnn"),
        (["mnist-cnn", "--input", "1,28,28"], "remedy:   --input 1x28x28"),
        (["mnist-cnn", "--input", "0x28x28"], "at least 1"),
        (["mnist-cnn", "--input", "-1x28x28"], "whole numbers with x"),
        (
            ["alexnet", "--input", "3x32x32"],
            "remedy:   --input 3x63x63, or another network: striate summary small-resnet",
        ),
        (["resnet18", "--input", "224"], "remedy:   --input 3x224x224"),
        (["resnet18", "--input", "1x3x64x64"], "remedy:   --input 3x64x64"),
        (["small-unet", "--input", "1x30x30"], "remedy:   --input 1x32x32"),
        (
            ["mnist-cnn", "--against", "alexnet", "--input", "3x28x28"],
            "--input 3x63x63, or another network: small-resnet",
        ),
        (["mnist-cnn", "--input", "1x28x28x28x28"], "channels"),
        (["mnist-cnn", "--input", "9" * 40], "whole numbers"),
        (["mnist-cnn", "--input", "13"], "map"),
        (["mnist-cnn", "--classes", "0"], "at least 1"),
        (["mnist-cnn", "--depth", "0"], "--depth 1"),
        (["mnist-cnn", "--depth", "1", "--json"], "leave out --depth, or --json"),
        (["mnist-cnn", "--depth", "1", "--against", "lenet5"], "leave out --depth, or --against"),
        (["mnist-cnn", "--html", "a.txt"], "--html a.html"),
        (["mnist-cnn", "--html", "."], "--html out.html"),
        (["mnist-cnn", "--html", ".."], "--html ../out.html"),
        (["mnist-cnn", "--svg", "no/a.svg"], "mkdir -p no"),
        (["mnist-cnn", "--against", "mnist-cn"], "mnist-cnn"),
        (["mlp", "--input", "13", "--effective"], "--effective"),
        (["none.py:make", "--input", "1x5x5"], "none.py"),
        (["conv(4,9) fc(2)", "--input", "1x5x5"], "larger than its map"),
        (["no/such/run"], "neither a run nor a checkpoint"),
    ],
)
def test_wrong_requests(capsys, words: list[str], said: str) -> None:
    assert said in refused(capsys, *words)


def test_the_remedy_for_a_missing_shape_works_when_pasted(capsys) -> None:
    remedy = refused(capsys, STRING, "--against", "lenet5").split("remedy:")[1].strip()
    assert main(shlex.split(remedy)[1:]) == 0


def test_a_file_that_cannot_be_written_has_another_place(capsys, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("striate.runs.plain_files.Folder.create", full)
    assert "--svg /" in refused(capsys, "lenet5", "--svg", "a.svg")


def test_help_is_light() -> None:
    code = (
        "import sys; from striate.cli.main import main; main(['summary', '--help']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in ("--input", "--classes", "--against", "--effective", "--depth", "--html", "--svg", "--json"):
        assert option in done.stdout
