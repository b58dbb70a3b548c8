"""Each format with each task: written, read back by the programs that it is for, and compared."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.cli import main
from striate.data.media.every_medium import medium_of
from striate.exporting.formats import FORMATS, format_named
from striate.exporting.quantize import Quantized
from striate.statistics.paired import Difference
from striate.tasks.every import TASKS
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data

pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))
from every_task import EXAMPLES  # noqa: E402


@pytest.fixture(scope="module", params=sorted(TASKS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each task, trained a little."""
    example = EXAMPLES[request.param]
    folder = tmp_path_factory.mktemp("made")
    source, out = example.make(folder / "data"), folder / "run"
    usual = ["--plan", "plain", "--epochs", "4", "--batch", "16", "--seed", "1", "--optim.lr", "0.01"]
    with torch.random.fork_rng():
        words = ["train", str(source), "--model", example.network, *usual, *example.train, "--out", str(out)]
        assert main(words) == 0
    return out


@pytest.mark.parametrize("format", [kind.name for kind in FORMATS])
def test_every_task_in_every_format(run: Path, format: str, tmp_path: Path, capsys) -> None:
    trained = striate.load(run)
    if not trained.task.exports:
        assert main(["export", str(run), "--format", format]) == 2
        return
    suffix = format_named(format).suffix
    assert main(["export", str(run), "--format", format, "--out", f"{tmp_path}/net{suffix}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parity"]["max_difference"] <= 1e-4
    assert found["parity"]["same_answers"] is True
    assert found["bytes"] > 1000
    read = striate.load(f"{tmp_path}/net{suffix}")
    raw = read_data(config_from_yaml(run / "config.yaml"))[1].splits["val"].inputs[torch.arange(2)].numpy()
    for one, other in zip(
        read.predict_prepared(list(raw)), trained.predict_prepared(list(raw), plan="plain"), strict=True
    ):
        difference, same = trained.task.disparity(np.asarray(other.decoded), np.asarray(one.decoded))
        assert same
        assert difference <= 1e-4


@pytest.fixture(scope="module")
def onnx_file(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "digits.onnx"
    striate.export(digits_run, out=out)
    return out


def test_an_onnx_file_says_what_it_takes_and_gives(onnx_file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file)
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(uint8)", ["N", "H", "W", 1])
    assert (output.name, output.shape) == ("probabilities", ["N", 10])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == [str(digit) for digit in range(10)]
    assert facts["task"] == "classify"
    assert json.loads(facts["preparation"])["fit"] == "crop"


def test_the_folder_for_a_hub_is_loaded_by_torch_alone(digits_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    striate.export(digits_run, "hub", out=folder)
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "network.pt2",
        "config.json",
        "README.md",
        "load.py",
    }
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 20, 31, 1), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "import sys, numpy, torch\nfrom load import load\nnetwork, config = load()\n"
        f"outputs = network(torch.from_numpy(numpy.load({str(tmp_path / 'pixels.npy')!r})))\n"
        "assert not any(name.startswith(('striate', 'safetensors')) for name in sys.modules)\n"
        f"numpy.save({str(tmp_path / 'found.npy')!r}, outputs[0].numpy())\n"
        "assert config['outputs'] == ['probabilities'] and config['task'] == 'classify'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    trained = striate.load(digits_run)
    right = trained.predict([Image.fromarray(image[..., 0]) for image in pixels], plan="plain")
    assert np.allclose(np.load(tmp_path / "found.npy"), [one.decoded.numpy() for one in right], atol=1e-5)
    weights = folder / "model.safetensors"
    again = striate.train("digits", "conv(4,3) relu pool(2) fc(10)", epochs=1, set={"model.weights": str(weights)})
    assert again.metrics["params"] == 410
    # The folder knows its network, and what its inputs were standardized with.
    again = striate.train("digits", weights=folder, epochs=1)
    assert again.metrics["params"] == 410
    assert striate.load(folder).normalization == trained.normalization == again.load().normalization


def test_int8_is_written_where_it_is_a_gain_and_nothing_is_left_where_not(digits_run: Path, capsys) -> None:
    # So small a network is computed faster in any other way; what is measured is told all the same.
    code = main(["export", str(digits_run), "--int8", "--out", "small.onnx", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert set(found["int8"]) >= {"metric", "n", "fp32", "int8", "difference", "difference_interval", "speedup"}
    assert Path("small.onnx").exists() == (code == 0) == ("refused" not in found)
    assert abs(found["int8"]["fp32"] - found["int8"]["int8"]) < 0.1


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("accuracy", "accuracy 90.00 % in int8, 92.50 % in fp32, difference −2.5 points, 40 validation samples"),
        ("mae", "MAE 0.9 in int8, 0.925 in fp32, difference −0.025, 40 validation samples"),
    ],
)
def test_int8_is_compared_in_the_unit_of_the_metric(metric: str, text: str) -> None:
    lead = Difference(40, -0.025, None, 0.5, "t", None)
    assert Quantized(metric, 40, 0.925, 0.9, lead, {"int8": 1.0}, {"torch": 1.0}).accuracy_text() == text


def test_a_table_of_numbers_is_exported_too(tmp_path: Path, capsys) -> None:
    striate.train("iris", "mlp(8)", epochs=2, out=tmp_path / "iris", set={"execution.plan": "plain"})
    assert main(["export", str(tmp_path / "iris"), "--out", "iris.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parity"]["sizes"] == []
    assert found["parity"]["same_answers"] is True


sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "media"))
from test_every_medium import COUNT, MAKERS  # noqa: E402

_OF_FILES = [name for name in MAKERS if medium_of(name).given_as != "numbers"]


@pytest.mark.parametrize("format", ["onnx", "hub"])
@pytest.mark.parametrize("name", _OF_FILES)
def test_clips_sounds_and_volumes_go_in_as_their_files_have_them(
    name: str, format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = MAKERS[name]
    source = maker.write(tmp_path / "data", maker.arrays(np.random.default_rng(0)), list(range(COUNT)))
    fixed = {"execution.plan": "plain", **{f"data.{key}": value for key, value in maker.fields.items()}}
    run = striate.train(source, maker.model, epochs=1, out=tmp_path / "run", set=fixed).path
    out = tmp_path / f"net{format_named(format).suffix}"
    assert main(["export", str(run), "--format", format, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parity"]["same_answers"] is True
    assert len(found["parity"]["sizes"]) == 5
    files = sorted(map(str, source.rglob(f"*{maker.suffix}")))[:4]
    right = striate.load(run).predict(files, plan="plain")
    for one, other in zip(striate.load(out).predict(files), right, strict=True):
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=5e-3 if name == "spectrogram" else 1e-4)


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_masks_of_volumes_of_any_size_are_those_of_the_run(format: str, tmp_path: Path) -> None:
    rng, files = np.random.default_rng(0), []
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for k in range(12):
        volume = rng.normal(size=(12, 14, 10) if k % 2 else (5, 9, 8)).astype(np.float32)
        files.append(tmp_path / "data" / "images" / f"{k}.npy")
        np.save(files[-1], volume)
        np.save(tmp_path / "data" / "masks" / f"{k}.npy", (volume > 1).astype(np.uint8))
    fixed = {"execution.plan": "plain", "augment.window": 8}
    run = striate.train(tmp_path / "data", "small-unet3d(width=2)", epochs=1, out=tmp_path / "run", set=fixed)
    written = striate.export(run, format)
    assert len(written.parity.sizes) == 5
    assert written.parity.holds
    for one, right in zip(striate.load(written.path).predict(files), run.load().predict(files), strict=True):
        assert torch.equal(one.decoded, right.decoded)


def test_an_exported_file_and_a_folder_of_a_hub_are_served(digits_run: Path, onnx_file: Path, tmp_path: Path) -> None:
    from striate.serving.service import Limits, Service

    striate.export(digits_run, "hub", out=tmp_path / "folder")
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31), dtype=np.uint8)).save(buffer, "PNG")
    lines = []
    file = shutil.copy(onnx_file, tmp_path / "written.onnx")  # its own name is that of the run
    for run in Service([digits_run, Path(file), tmp_path / "folder"], striate.load, Limits()).runs:
        (line,) = run.predict([run.read_picture(buffer.getvalue(), "a.png")])
        lines.append(line)
    assert [line["label"] for line in lines] == [lines[0]["label"]] * 3
    assert [line["probability"] for line in lines] == pytest.approx([lines[0]["probability"]] * 3, abs=1e-5)
