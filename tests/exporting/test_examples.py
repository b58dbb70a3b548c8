"""The programs in examples/exported classify what the run classifies."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import striate
from striate.data.dataset import Preparation
from striate.data.media.image.pictures import prepare_uncropped

EXAMPLES = Path(__file__).parents[2] / "examples" / "exported"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_goes_in_as_the_program_reads_it(channels, own_folder, monkeypatch) -> None:
    rng, sent = np.random.default_rng(0), []
    pixels = rng.integers(0, 256, (9, 7, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[..., :3]).save("turned.png", exif=exif)
    Image.fromarray(pixels).save("transparent.png")
    Image.fromarray(rng.integers(0, 65536, (9, 7), np.uint16)).save("deep.png")
    Image.fromarray(pixels[..., :3]).quantize(8).save("palette.png", transparency=3)
    names = ["turned.png", "transparent.png", "deep.png", "palette.png"]
    session = SimpleNamespace(
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={"classes": '["a"]'}),
        get_inputs=lambda: [SimpleNamespace(shape=["N", "H", "W", channels])],
        run=lambda _, given: sent.append(given["image"]) or [np.ones((1, 1))],
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=lambda _: session))
    monkeypatch.setattr(sys, "argv", ["classify.py", "net.onnx", *names])
    runpy.run_path(str(EXAMPLES / "classify.py"))
    for name, image in zip(names, sent, strict=True):
        right, _ = prepare_uncropped(Path(name), name, Preparation("image", (channels, 9, 7), native=True))
        assert np.array_equal(image[0], np.moveaxis(right, 0, -1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, write_photos) -> tuple[Path, list[Path]]:
    """A folder with a network for color pictures, its classes and its file, and pictures of other sizes."""
    folder = tmp_path_factory.mktemp("exported")
    photos = write_photos(folder / "photos", 3, 30, 16)
    run = striate.train(
        photos, "conv(4,3) relu gap fc(3)", epochs=3, out=folder / "run", set={"execution.plan": "plain"}
    )
    striate.export(run, out=folder / "net.onnx")
    pictures = []
    for number, path in enumerate(sorted(photos.rglob("*.png"))[::20]):
        pictures.append(folder / f"{number}.png")
        with Image.open(path) as image:
            image.resize((30 + number, 41)).save(pictures[-1])
    return folder, pictures


def _agree(text: str, folder: Path, pictures: list[Path]) -> None:
    trained = striate.load(folder / "run")
    lines = text.strip().splitlines()
    assert len(lines) == len(pictures)
    for line, picture in zip(lines, pictures, strict=True):
        _, label, probability = line.split()
        right = trained.predict(picture.with_suffix(".png"))
        assert label == right.label
        assert abs(float(probability) - right.probability) < 1e-5


@pytest.mark.slow
def test_python_with_onnxruntime_alone(exported) -> None:
    folder, pictures = exported
    words = [sys.executable, EXAMPLES / "classify.py", folder / "net.onnx", *pictures]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    _agree(done.stdout, folder, pictures)


@pytest.mark.slow
def test_javascript_with_onnxruntime_web(exported, tmp_path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("no npm")
    folder, pictures = exported
    (tmp_path / "package.json").write_text('{"name": "tried", "private": true}')
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "onnxruntime-web", "pngjs"], cwd=tmp_path, capture_output=True
    )
    if installed.returncode:
        pytest.skip("onnxruntime-web cannot be installed")
    shutil.copy(EXAMPLES / "classify.mjs", tmp_path)
    words = ["node", "classify.mjs", folder / "net.onnx", folder / "run" / "classes.txt", *pictures]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    _agree(done.stdout, folder, pictures)


@pytest.mark.slow
def test_cpp_with_openvino(exported, tmp_path) -> None:
    import openvino

    package = Path(openvino.__file__).parent
    libraries = list((package / "libs").glob("libopenvino.so.*"))
    if shutil.which("g++") is None or not libraries or not (package / "include").exists():
        pytest.skip("no compiler, or OpenVINO without headers")
    folder, pictures = exported
    program = tmp_path / "classify"
    flags = ["-std=c++17", "-I", package / "include", "-L", package / "libs", f"-l:{libraries[0].name}"]
    subprocess.run(
        ["g++", EXAMPLES / "classify.cpp", *flags, f"-Wl,-rpath,{package / 'libs'}", "-o", program], check=True
    )
    plain = []
    for picture in pictures:
        plain.append(picture.with_suffix(".ppm"))
        with Image.open(picture) as image:
            image.convert("RGB").save(plain[-1])
    done = subprocess.run(
        [program, folder / "net.onnx", folder / "run" / "classes.txt", *plain],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    _agree(done.stdout, folder, plain)
