"""Predicted masks have the size of their files, and the values or colors of training masks; tiles change nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_masks import PLAIN, make_shapes
from PIL import Image

import striate
from striate.api import predict_files
from striate.cli.main import main
from striate.exporting.exported_network import ExportedNetwork
from striate.exporting.tracing import traced_program
from striate.models.build import build_model
from striate.tasks.views import Views

NETWORK = "conv(8,3,pad=1) bn relu conv(8,3,pad=1) bn relu conv(3,1)"
BALANCED = {**PLAIN, "data.ignore": 99, "task.class_weights": "balanced"}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_shapes(tmp_path_factory.mktemp("made") / "shapes", 60, side=24)
    (root / "classes.txt").write_text("10 ground\n20 disk\n30 square\n")
    for file in (root / "masks").iterdir():
        mask = 10 + 10 * np.asarray(Image.open(file))
        mask[0] = 99
        Image.fromarray(mask.astype(np.uint8)).save(file)
    return root


@pytest.fixture(scope="module")
def run(shapes: Path) -> Path:
    out = shapes.parent / "run"
    striate.train(shapes, NETWORK, epochs=16, lr=0.03, batch=16, out=out, set=BALANCED)
    return out


@pytest.fixture(scope="module")
def scene(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of another size, of which the training images are parts."""
    parts = [np.asarray(Image.open(file)) for file in sorted((shapes / "images").iterdir())[:30]]
    whole = np.concatenate([np.concatenate(parts[k : k + 6], 1) for k in range(0, 30, 6)])
    file = tmp_path_factory.mktemp("large") / "scene.png"
    Image.fromarray(whole[:101, :131]).save(file)
    return file


def predicted(
    run: Path, file: Path, folder: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[dict, np.ndarray]:
    assert main(["predict", str(run), str(file), "--masks", str(folder), "--json", *more]) == 0
    line = json.loads(capsys.readouterr().out)
    return line, np.asarray(Image.open(line["mask"]))


def test_a_mask_has_the_size_of_its_file_and_the_values_of_the_training_masks(
    run: Path, shapes: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, mask = predicted(run, scene, tmp_path / "out", capsys)
    assert mask.shape == (101, 131)
    assert set(np.unique(mask)) <= {10, 20, 30}
    assert len(np.unique(mask)) > 1
    assert set(line["shares"]) <= {"ground", "disk", "square"}
    assert sum(line["shares"].values()) == pytest.approx(1)
    truth = np.asarray(Image.open(shapes / "masks" / "000.png"))
    _, mask = predicted(run, shapes / "images" / "000.png", tmp_path / "out", capsys)
    assert mask.shape == truth.shape
    assert (mask == truth)[1:].mean() > 0.8
    assert set(json.loads((run / "metrics.json").read_text())["test"]["iou_per_class"]) == {"ground", "disk", "square"}


def test_tiles_give_the_mask_of_the_whole(
    run: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, whole = predicted(run, scene, tmp_path / "whole", capsys)
    _, tiled = predicted(run, scene, tmp_path / "tiled", capsys, "--tile", "32")
    assert np.array_equal(whole, tiled)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("views", ["mirrors", "mirror-shift"])
def test_tiles_of_several_views_give_the_mask_of_the_whole(run: Path, scene: Path, views: Views) -> None:
    """With strides, where a mirrored part has to begin at another pixel."""
    trained = striate.load(run).with_views(views)
    torch.manual_seed(0)
    module = build_model("conv(8,3,stride=2,pad=1) relu conv(8,3,stride=2,pad=1) relu gap fc(3)", (3, 24, 24), 3)
    module = build_model(module, (3, 24, 24), 3, dense=True).eval()
    normalize = trained.normalization.on("cpu", 4)
    picture = normalize(torch.from_numpy(np.array(Image.open(scene))).movedim(-1, 0)[None])
    bias = list(module.parameters())[-1]
    bias.data -= module(picture).detach().median(-1).values.median(-1).values[0]  # no class wins everywhere
    trained = replace(trained, module=module)
    whole, tiled = ((*predict_files(trained, [scene], tile=tile),)[0].prediction for tile in (None, 32))
    assert whole is not None
    assert tiled is not None
    assert torch.equal(whole.decoded, tiled.decoded)
    assert len(whole.decoded.unique()) > 1


def test_tiles_of_a_task_without_places_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = striate.train("digits", "mlp(4)", epochs=1, out=tmp_path / "run", set=PLAIN)
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    assert main(["predict", str(run.path), str(tmp_path / "one.png"), "--tile", "32"]) == 2
    assert "--tile" in capsys.readouterr().err


def test_pictures_of_several_sizes_and_damaged_ones_come_in_their_order(run: Path, scene: Path, shapes: Path) -> None:
    files = sorted((shapes / "images").iterdir())[:3]
    broken = scene.parent / "broken.png"
    broken.write_bytes(b"no picture")
    asked = [files[0], scene, broken, *files[1:]]
    for tile in (None, 64):
        found = list(predict_files(run, asked, tile=tile))
        assert [Path(one.path) for one in found] == asked
        assert [None if one.prediction is None else tuple(one.prediction.decoded.shape) for one in found] == [
            (24, 24),
            (101, 131),
            None,
            (24, 24),
            (24, 24),
        ]
    trained = striate.load(run)
    assert trained.predict(str(scene)).decoded.shape == (101, 131)
    assert trained.predict(Image.open(scene)).decoded.shape == (101, 131)


def test_where_training_images_were_scaled_pictures_are_predicted_at_that_scale(
    shapes: Path, tmp_path: Path, scene: Path
) -> None:
    run = striate.train(
        shapes, NETWORK, epochs=1, batch=16, size=(16, 16), out=tmp_path / "run", set={**PLAIN, "data.ignore": 99}
    )
    for tile in (None, 64):
        (found,) = predict_files(run.path, [scene], tile=tile)
        assert found.prediction is not None
        assert found.prediction.decoded.shape == (101, 131)


def test_masks_in_color_are_predicted_in_color(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_shapes(tmp_path / "shapes", 30)
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    for file in (root / "masks").iterdir():
        Image.fromarray(colors[np.asarray(Image.open(file))]).save(file)
    (root / "colors.txt").write_text("0 0 0 ground\n255 0 0 disk\n0 0 255 square\n")
    run = striate.train(root, NETWORK, epochs=1, batch=16, out=tmp_path / "run", set=PLAIN)
    _, mask = predicted(run.path, root / "images" / "000.png", tmp_path / "out", capsys)
    assert mask.shape == (16, 16, 3)
    assert {tuple(color) for color in mask.reshape(-1, 3).tolist()} <= {tuple(color) for color in colors.tolist()}


@pytest.mark.slow
def test_a_picture_smaller_than_the_input_is_explained_as_it_is_predicted(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", 12)
    trained = striate.train(data, "small-unet", epochs=4, lr=0.01, batch=4, out=tmp_path / "run", set=PLAIN).load()
    with Image.open(data / "images" / "000.png") as picture:
        for size, (x, y) in (((12, 8), (11, 7)), ((11, 9), (4, 8))):
            picture.crop((0, 0, *size)).save(tmp_path / "small.png")
            mask = trained.predict(tmp_path / "small.png", plan="plain").decoded
            explained = striate.explain(trained, tmp_path / "small.png", method="saliency", pixel=(x, y))
            assert explained.part == f"the pixel {x}, {y} of the input, of class {trained.classes[int(mask[y, x])]}"
            assert np.array_equal(explained.input[:, : size[1], : size[0]], trained.read(tmp_path / "small.png")[0])
            assert any("repeated" in note for note in explained.notes) == (size == (11, 9))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["small-unet", "small-resnet"])
def test_a_traced_network_takes_the_sizes_that_predict_takes(tmp_path: Path, network: str) -> None:
    data = make_shapes(tmp_path / "data", 12)
    trained = striate.train(data, network, epochs=1, batch=4, out=tmp_path / "run", set=PLAIN).load()
    exported = ExportedNetwork(trained)
    program = traced_program(exported).module()
    for height, width in ((16, 16), (18, 16), (13, 21), (36, 20)):
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        (right,) = trained.predict([Image.fromarray(picture)], plan="plain")
        (mask,) = program(torch.from_numpy(picture)[None])
        assert torch.equal(mask[0], right.decoded)
