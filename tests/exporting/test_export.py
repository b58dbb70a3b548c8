"""What every format goes through: a file is written where it predicts what the run predicts, else nothing is left.

The formats themselves are tried in `test_formats.py`; here torch runs the network as it is, which takes no time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import striate
from striate.api import try_export
from striate.cli import main
from striate.errors import ModelError, RunError, UsageError
from striate.exporting import export_format, formats, hub_format, hub_loader, speed, staging
from striate.exporting.export import facts_of
from striate.exporting.export_format import ExportFormat
from striate.exporting.exported_file import load_exported
from striate.exporting.exported_network import ExportedNetwork
from striate.exporting.hub_format import HubFormat, _for_input
from striate.exporting.model_card import model_card
from striate.exporting.onnx_format import OnnxFormat
from striate.exporting.staging import staged
from striate.exporting.traceable import Traceable
from striate.exporting.tracing import traced_program
from striate.layers.suppression import suppression
from striate.runs.directory import open_run
from striate.runs.lock import owned
from striate.tasks.detect.overlap import nms_mask
from striate.tasks.every import TASKS
from striate.tasks.registry import task_class
from striate.tasks.task import Task


def test_an_extra_brings_all_that_its_format_needs() -> None:
    with Path(__file__).parents[2].joinpath("pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for one in formats.FORMATS:
        assert set(one.needs) <= {re.split(r"\W", package)[0] for package in extras.get(one.extra, ())}


class Plain(ExportFormat):
    """The network as torch computes it, written as a name alone."""

    name: ClassVar[str] = "onnx"
    what: ClassVar[str] = "a name"
    suffix: ClassVar[str] = ".txt"
    said: ClassVar[dict[str, Any]] = {}

    def write(self, network, facts, place):
        place.write_text(str(network.input_name))
        Plain.network, Plain.said = network, json.loads(json.dumps(facts))

    def facts(self, place):
        assert place.exists()
        return self.said

    def runners(self, place):
        assert place.exists()
        return {"torch": lambda batch: [part.numpy() for part in self.network(torch.from_numpy(batch))]}


class Wrong(Plain):
    """As somebody exports who takes the mean of another data set."""

    def write(self, network, facts, place):
        super().write(network, facts, place)
        network.mean += 3.0


def _only(monkeypatch: pytest.MonkeyPatch, kind: type[ExportFormat]) -> None:
    monkeypatch.setattr(formats, "FORMATS", (kind,))


def test_a_network_predicts_inside_its_file_what_the_run_predicts(digits_run, monkeypatch, tmp_path, capsys) -> None:
    _only(monkeypatch, Plain)
    assert main(["export", str(digits_run), "--json", "--out", "digits.txt"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"path", "format", "bytes", "parity", "speed"}
    assert (found["path"], found["format"], found["bytes"]) == ("digits.txt", "onnx", 5)
    parity = found["parity"]
    assert parity["max_difference"] <= 1e-6
    assert parity["same_answers"] is True
    assert (parity["n"], parity["batches"], len(parity["sizes"])) == (5 * 12, [1, 3, 8], 5)
    assert found["speed"]["images_per_second"]["torch"] > 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "d"))] == ["digits.txt"]
    facts = Plain.said
    assert facts["classes"] == [str(digit) for digit in range(10)]
    assert facts["input"] == {"name": "image", "type": "uint8", "shape": ["N", "H", "W", 1]}
    assert (facts["task"], facts["outputs"], facts["preparation"]["input_shape"]) == (
        "classify",
        ["probabilities"],
        [1, 8, 8],
    )
    card = model_card(facts)
    assert "| accuracy | " in card
    assert " to " in card.split("| accuracy |")[1].split("\n")[0]  # with its interval
    assert "upright, as their EXIF says" in card
    assert "| top 5 | " in card
    assert "| top 5 | " not in model_card(facts | {"classes": facts["classes"][:5]})  # where it is always 100 %
    assert "cropped to the center where proportions differ" in card
    whole = {**facts, "whole": True, "preparation": facts["preparation"] | {"native": True}}
    assert "an image of another size is processed whole, at its own size" in model_card(whole)
    whole["preparation"]["native"] = False
    assert "whole images are scaled until they cover this size" in model_card(whole)
    without = {name: {"accuracy": 0.5} for name in facts["card"]["metrics"]}
    few = model_card({**facts, "card": facts["card"] | {"metrics": without, "counts": {"val": 4, "test": 8}}})
    assert "95 % confidence intervals" not in few
    assert "The metrics have no confidence intervals: fewer than 20 samples." in few
    limits = card.split("## Limits")[1]
    assert "The network hardly trained, so its result says little about these data or this network (1 epoch, " in limits
    shape = {"kind": "volume", "input_shape": [1, 8, 16, 8], "spacing": [2, 1, 1.5]}
    volume = {"name": "volume", "type": "float32", "shape": ["N", 1, "D", "H", "W"]}
    how = facts["preparation"] | shape | {"intensity": "window", "limits": [-160, 240]}
    card = model_card({**facts, "input": volume, "preparation": how})
    assert "2 × 1 × 1.5 mm per voxel. Intensities: window, -160 to 240 become 0 to 1." in card
    flow = {"kind": "two-stream-clip", "input_shape": [5, 4, 16, 16]}
    given = {**facts, "input": volume | {"name": "input"}, "preparation": facts["preparation"] | flow}
    loader = _for_input(Path(hub_loader.__file__).read_text(), given)
    assert "Inputs: numbers of shape 5 × 4 × 16 × 16: " in loader
    assert "red, green, blue; motion to the right and down in eighths of a pixel (128: none)" in loader
    assert "upright" not in loader
    compile(loader, "load.py", "exec")
    with pytest.raises(UsageError, match="exists already"):
        striate.export(digits_run, out="digits.txt")
    for name, remedy in (
        ("digits.onnx", "out='digits.txt'"),
        ("digits", "out='digits.txt'; or format='hub' for a folder"),
    ):
        with pytest.raises(UsageError, match=r"ends in \.txt") as caught:
            striate.export(digits_run, out=name)
        assert caught.value.remedy == remedy
    with pytest.raises(UsageError, match="of another epoch than the best"):
        striate.export(digits_run / "checkpoints/last.pt", out="last.txt")


def test_what_was_exported_is_loaded_and_predicts_files(digits_run, monkeypatch, capsys) -> None:
    _only(monkeypatch, Plain)
    striate.export(digits_run, out="digits.txt")
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (20 + number, 31), dtype=np.uint8)).save(f"{number}.png")
    pictures = [f"{number}.png" for number in range(3)]
    found = striate.load("digits.txt").predict(pictures)
    right = striate.load(digits_run).predict(pictures)
    assert [one.label for one in found] == [one.label for one in right]
    assert np.allclose([one.probability for one in found], [one.probability for one in right], atol=1e-5)
    assert main(["predict", "digits.txt", *pictures]) == 0
    with pytest.raises(UsageError, match="includes the test-time augmentation"):
        striate.load("digits.txt").with_views("mirror")
    capsys.readouterr()
    rest = {"explain": ["0.png"], "show": ["filters"], "summary": [], "eval": ["digits"]}
    for verb, words in rest.items():
        assert main([verb, "digits.txt", *words]) == 2
        assert capsys.readouterr().err.startswith("error: digits.txt\n  got:      an exported file, which predicts but")
    for look in (lambda file: striate.explain(file, "0.png"), lambda file: striate.evaluate(file, "digits")):
        with pytest.raises(ModelError, match="no access to its layers"):
            look(striate.load("digits.txt"))
    older = {key: value for key, value in Plain.said.items() if key != "views"} | {"striate": "0.0.1"}
    newer = Plain.said | {"preparation": Plain.said["preparation"] | {"depth": 3}, "striate": "99.0"}
    fewer = Plain.said | {"classes": Plain.said["classes"][:9]}
    both = fewer | {"task_state": fewer["task_state"] | {"classes": fewer["classes"]}}
    refused = {"a file of striate 0.0.1, with": [older], "a file of striate 99.0, with": [newer]}
    refused["a network with 10 outputs, and metadata that name other"] = [fewer, both]
    refused["metadata with preparation.fit: str"] = [
        Plain.said | {"preparation": Plain.said["preparation"] | {"fit": "zoom"}}
    ]
    for got, said in ((got, said) for got, each in refused.items() for said in each):
        monkeypatch.setattr(Plain, "said", said)
        with pytest.raises(RunError) as caught:
            striate.load("digits.txt")
        assert caught.value.got.startswith(got)
    monkeypatch.setattr(Plain, "said", {})
    with pytest.raises(RunError, match="striate export wrote"):
        striate.load("digits.txt")


def test_the_folder_of_a_hub_is_looked_into_and_measured_on_data_that_are_given(
    digits_run, monkeypatch, tmp_path, capsys
) -> None:
    trained = striate.load(digits_run)
    network, folder = ExportedNetwork(trained), tmp_path / "a hub"
    state = trained.module.state_dict()
    copies = {f"module.{name}": tensor.clone() for name, tensor in state.items()}
    monkeypatch.setattr(hub_format, "traced_program", lambda _: SimpleNamespace(state_dict=copies))
    monkeypatch.setattr(hub_format, "save_program", lambda _, place: place.write_bytes(b""))
    HubFormat().write(network, facts_of(network, trained, open_run(digits_run), "digits"), folder)
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1  # whoever may read the rest reads the weights
    assert main(["summary", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 410
    assert main(["show", str(folder), "filters"]) == 0
    built = striate.build(str(folder)).state_dict()
    assert all(torch.equal(built[name], tensor) for name, tensor in state.items())
    capsys.readouterr()
    assert main(["eval", str(folder)]) == 2
    assert f"remedy:   striate eval '{folder}' DATA" in capsys.readouterr().err
    measured = striate.evaluate(folder, "digits")
    assert measured.metrics["accuracy"] == striate.evaluate(replace(trained, run=None), "digits").metrics["accuracy"]
    assert "does not record its training samples" in measured.notes[-1]
    with pytest.raises(RunError, match="calibration of its run"):
        striate.load(folder, calibrated=True)
    (folder / "model.safetensors").unlink()
    for verb in (["predict", str(folder), "digits#0"], ["summary", str(folder)]):
        assert main(verb) == 2
        assert "got:      no model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "name"), [("a.onnx", "onnx"), ("a.xml", "openvino"), ("a.pt2", "torch"), ("a", "onnx"), (None, "onnx")]
)
def test_without_a_format_it_is_that_of_the_suffix(out, name) -> None:
    assert formats.format_named(None, out and Path(out)).name == name


def test_a_suffix_that_no_format_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        formats.format_named(None, Path("a.foo"))
    assert caught.value.expected == "a name that ends in .onnx (onnx), .xml (openvino), .pt2 (torch)"
    assert caught.value.remedy == "--out a.onnx"


def test_an_exported_file_is_neither_played_nor_moved_to_a_gpu(own_folder) -> None:
    Path("net.pt2").write_bytes(b"")
    with pytest.raises(RunError, match="an exported file"):
        striate.api.play("net.pt2", "game.gif")
    with pytest.raises(UsageError, match="cpu, where the runtime of the file computes"):
        load_exported(Path("net.pt2"), "cuda")


@pytest.mark.parametrize(
    ("suffix", "names"), [(".pt2", "net.pt2"), (".onnx", "net.onnx"), (".xml", "net.xml or net.bin")]
)
def test_a_damaged_file_is_refused_in_one_message(suffix, names, own_folder, capfd) -> None:
    Path(f"net{suffix}").write_bytes(b"PK\x03\x04")
    Path("net.bin").write_bytes(b"")
    with pytest.raises(RunError) as caught:
        striate.load(f"net{suffix}")
    assert caught.value.got.startswith(f"{names} is damaged")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "timed"), [(0.25, 3), (0.125, 3), (3.0, 2), (60.0, 1)])
def test_slow_calls_are_timed_less_often(monkeypatch, seconds, timed) -> None:
    now, calls = [0.0], []

    def work() -> None:
        calls.append(now)
        now[0] += seconds

    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    assert speed.median_seconds(work) == pytest.approx(seconds)
    assert len(calls) == 1 + timed


class _Branching(Traceable):
    """As somebody writes whose network looks at values."""

    input_name, output_names, dynamic_axes = "x", ("y",), {0: "N"}

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Identity()

    def example(self, count: int = 2) -> torch.Tensor:
        return torch.ones(count, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * 2 if x.sum() > 0 else x,)


class _Solving(_Branching):
    """As somebody writes whose network needs an operation that ONNX lacks."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.linalg.svd(x)[1],)


def test_what_torch_cannot_export_is_refused_by_name_and_in_one_message(tmp_path, capfd) -> None:
    with pytest.raises(ModelError) as caught:
        traced_program(_Branching())
    assert caught.value.got.startswith("return (x * 2 if x.sum() > 0 else x,) (test_export.py, line ")
    assert caught.value.got.endswith("Could not guard on data-dependent expression Eq(u0, 1)")
    with pytest.raises(ModelError) as caught:
        OnnxFormat().write(_Solving(), {"striate": "0"}, tmp_path / "net.onnx")
    assert caught.value.got == "No ONNX function found for aten._linalg_svd"
    assert capfd.readouterr().err == ""


def test_a_graph_and_its_weights_belong_together(own_folder) -> None:
    (own_folder / "net.xml").write_text("<net/>")
    with pytest.raises(RunError, match=r"no net\.bin beside it"):
        striate.load("net.xml")
    (own_folder / "net.bin").write_bytes(b"")
    with pytest.raises(RunError) as caught:
        striate.load("net.bin")
    assert caught.value.remedy == "name net.xml"
    with pytest.raises(RunError) as caught:
        striate.load("nett.xml")
    assert (caught.value.got, caught.value.remedy) == ("no such file", "one of: net.xml")


def test_a_file_that_predicts_something_else_is_not_left(digits_run, monkeypatch, tmp_path, capsys) -> None:
    _only(monkeypatch, Wrong)
    assert main(["export", str(digits_run), "--json", "--out", "sub/digits.txt"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["path"] is None
    assert found["parity"]["max_difference"] > 1e-4
    assert list((tmp_path / "sub").iterdir()) == []
    with pytest.raises(ModelError, match="differ from those of the run"):
        striate.export(digits_run, out="sub/digits.txt")


class Full(Plain):
    """As a runtime writes whose errors are its own."""

    def write(self, network, facts, place):
        del network, facts
        place.write_text("half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")


def test_a_disk_that_is_full_is_said_and_nothing_is_left(digits_run, monkeypatch, tmp_path, capsys) -> None:
    _only(monkeypatch, Full)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert main(["export", str(digits_run), "--out", "sub/digits.txt"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "sub").iterdir()) == []


def test_what_is_killed_leaves_nothing_under_the_name_and_its_folder_until_the_next_export(tmp_path) -> None:
    place = tmp_path / "made" / "net.onnx"
    with staged(place) as living:
        child = os.fork()
        if child == 0:
            with staged(place) as temporary:
                temporary.write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert not place.exists()
        hidden = [path for path in place.parent.iterdir() if path.name.startswith(".") and path.suffix == ".tmp"]
        assert len(hidden) == 2
        with staged(place.with_name("another.onnx")) as next_one:
            left = {path.name for path in place.parent.iterdir()}
        assert left == {living.parent.parent.name, next_one.parent.parent.name}
    assert list(place.parent.iterdir()) == []


def test_a_training_goes_on_beside_what_a_killed_export_left(digits_run, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits_run, run)
    left = run / "exports" / ".striate-export.abc.tmp" / "fp32"
    left.mkdir(parents=True)
    with owned(run):
        assert left.is_dir()


def test_a_format_that_there_is_not_is_named_with_those_that_there_are(digits_run, capsys) -> None:
    with pytest.raises(UsageError, match="onnx, openvino, torch, hub"):
        striate.export(digits_run, "tflite")
    assert main(["export", str(digits_run), "--format", "tflite"]) == 2
    assert "tflite" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_extra_that_brings_it(digits_run, monkeypatch) -> None:
    monkeypatch.setattr(export_format, "find_spec", lambda _: None)
    with pytest.raises(UsageError) as caught:
        try_export(digits_run)
    assert caught.value.remedy == "pip install 'striate[onnx]'"


def test_a_task_without_exported_outputs_is_refused_with_a_reason(digits_run) -> None:
    trained = striate.load(digits_run)
    with pytest.raises(UsageError, match=r"Task\.exports"):
        ExportedNetwork(replace(trained, task=_Silent()))


class _Silent(Task):
    name = "silent"
    outputs = 10


def test_int8_of_a_format_without_it_is_refused(digits_run) -> None:
    with pytest.raises(UsageError, match="8-bit"):
        striate.export(digits_run, "torch", int8=True)


def test_suppression_keeps_what_the_definition_keeps() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (3, 60, 2))
    boxes = torch.from_numpy(np.concatenate([corners, corners + rng.uniform(2, 25, (3, 60, 2))], 2)).float()
    scores = torch.from_numpy(np.sort(rng.uniform(0.02, 1, (3, 60)))[:, ::-1].copy()).float()
    classes = torch.from_numpy(rng.integers(0, 4, (3, 60)))
    by_class = torch.where(classes[:, None] == torch.arange(4)[:, None], scores[:, None], 0.0)
    right = nms_mask(boxes, classes, 0.5)
    assert torch.equal(suppression()(boxes, by_class, 0.5, 0.01), right)
    assert not right.all()


@pytest.mark.parametrize("name", [name for name in TASKS if isinstance(task_class(name).exports, tuple)])
def test_the_outputs_of_every_task_are_documented(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    table = page.split("| task | outputs |")[1].split("\n\n")[0]
    row = next(line for line in table.splitlines() if re.match(rf"\| [^|]*\b{name}\b", line))
    written = "boxes scores labels masks" if name == "instances" else row  # `the same`, as for detect
    assert all(output in written for output in task_class(name).exports)
