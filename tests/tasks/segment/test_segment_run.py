"""One small run of a segmentation, asked for everything that a run can be asked for."""

from __future__ import annotations

import csv
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_masks import NETWORK, PLAIN, make_shapes
from PIL import Image

import striate
from striate.api import write_explanation
from striate.errors import UsageError
from striate.runs.directory import open_run
from striate.runs.predictions import read_predictions
from striate.tasks.segment.task import Segment


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("made") / "shapes", 120)


@pytest.fixture(scope="module")
def run(shapes: Path, drawn: Any) -> Path:
    out = shapes.parent / "run"
    with drawn():
        striate.train(shapes, NETWORK, epochs=8, lr=0.03, batch=16, out=out, set=PLAIN)
    return out


@pytest.fixture(scope="module")
def plain_run(shapes: Path) -> Path:
    """A shorter run without pictures, for what does not look at them."""
    return striate.train(shapes, NETWORK, epochs=3, lr=0.03, batch=16, out=shapes.parent / "plain", set=PLAIN).path


@pytest.mark.slow
def test_an_explanation_is_of_the_class_that_takes_most_of_the_image(run: Path, shapes: Path, tmp_path: Path) -> None:
    image = shapes / "images" / "003.png"
    trained = striate.load(run)
    before = {name: tensor.clone() for name, tensor in trained.module.state_dict().items()}
    explained = striate.explain(run, image, "grad-cam")
    decoded = trained.predict(image).decoded
    counts = torch.bincount(decoded.flatten().long(), minlength=3)
    most = 1 + int(counts[1:].argmax())
    share = f"{100 * float((decoded == most).float().mean()):.3g}"
    assert explained.part == f"the pixels of class {most}, {share} % of the image"
    assert explained.maps.chosen.layer in dict(trained.module.named_modules())
    assert f"Explained: {explained.part}." in str(explained)
    assert explained.nearest.neighbors[0].label.startswith("0 ")
    assert explained.to_json()["part"] == explained.part
    write_explanation(explained, tmp_path / "page.html")
    assert explained.part in (tmp_path / "page.html").read_text()
    again = striate.load(run).module.state_dict()
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_what_is_explained_are_the_mean_logits_of_the_region() -> None:
    task = Segment(("ground", "disk", "square"))
    outputs = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    decoded = torch.zeros(4, 5, dtype=torch.uint8)
    decoded[:2, :2], decoded[3, 0] = 2, 1
    asked = task.explained(decoded)
    assert asked.target == 2
    assert torch.allclose(asked.score(outputs), outputs[:, :, :2, :2].mean((2, 3)))
    assert task.explained(torch.zeros(4, 5, dtype=torch.uint8)).target == 0
    around = torch.full((2, 6, 7), -1, dtype=torch.int16)  # a volume amid nothing
    around[0, :4, :5] = decoded
    assert task.explained(around).part == "the voxels of class square, 20 % of the volume"
    assert task.target_text(torch.tensor([[0, 1], [1, 255]])) == "disk 67 %, ground 33 %"


def test_one_pixel_is_explained() -> None:
    task = Segment(("ground", "disk"))
    decoded = torch.zeros(4, 5, dtype=torch.uint8)
    decoded[1, 3] = 1
    asked = task.explained_part(decoded, "3,1")
    outputs = torch.randn(1, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert asked.target == 1
    assert torch.equal(asked.score(outputs), outputs[:, :, 1, 3])
    for wrong in ("5,1", "3,4", "3", "-1,2", "a,b", "1,2,3"):
        with pytest.raises(UsageError, match="x from 0 to 4, a comma, and y from 0 to 3"):
            task.explained_part(decoded, wrong)


@pytest.mark.slow
def test_a_pixel_of_the_file_is_found_in_the_input_and_around_it(run: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(large)
    explained = striate.explain(run, large, "saliency", pixel=(50, 3))
    assert explained.part.startswith("the pixel 8, 3 of the input")  # the input begins at 42, 0 of the file
    assert explained.maps.chosen.values.shape == (16, 16)
    assert (explained.input == np.asarray(Image.open(large)).transpose(2, 0, 1)[:, :16, 42:58]).all()
    with pytest.raises(UsageError, match="x from 0 to 59"):
        striate.explain(run, large, "saliency", pixel=(60, 3))
    with pytest.raises(UsageError, match="a pixel, for this run"):
        striate.explain(run, large, "saliency", box=1)


@pytest.mark.slow
def test_robustness_is_of_the_mean_iou_and_masks_move_with_their_images(run: Path) -> None:
    found = striate.robustness(run, samples=24)
    document = found.to_json()
    assert (document["metric"], document["n"], found.metric.key) == ("iou", 24, "iou")
    kinds = {curve.name: curve for curve in found.curves}
    assert set(kinds) == {"shift", "occlusion", "illumination", "noise", "blur", "JPEG"}
    assert "rotation, scale, deformation, viewpoint, clutter" in found.left_out
    # Convolutions are equivariant: moved with the image, the predictions are nearly what they were.
    for level in kinds["shift"].levels:
        assert level.unchanged is not None
        assert level.unchanged > 0.97
        assert abs(level.value - found.value) < 0.1
    assert kinds["occlusion"].levels[-1].value < found.value - 0.1
    assert found.interval is not None
    assert found.interval.low <= found.value <= found.interval.high
    assert max(map(len, str(found).splitlines())) <= 80
    again = striate.evaluate(run).metrics["iou"]
    assert striate.robustness(run).value == pytest.approx(again)


@pytest.mark.slow
def test_robustness_is_drawn(run: Path) -> None:
    from striate.api import write_robustness

    written, picture = write_robustness(run, striate.robustness(run, samples=10))
    assert picture.is_file()
    assert json.loads(written.read_text())["curves"][0]["mean_value"] > 0


@pytest.mark.slow
def test_inner_classifiers_of_masks_are_trained_and_are_no_part_of_the_network(shapes: Path, tmp_path: Path) -> None:
    heads = {**PLAIN, "auxiliary.layers": ["conv1"], "auxiliary.rotation": 0.2}
    made = striate.train(shapes, NETWORK, epochs=3, lr=0.03, batch=16, out=tmp_path / "once", set=heads)
    with (tmp_path / "once" / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert 0.2 < float(last["val_conv1_iou"]) <= 1
    assert 0 <= float(last["val_rotation_accuracy"]) <= 1
    assert not [name for name in striate.load(made.path).module.state_dict() if "classifier" in name]


@pytest.mark.slow
def test_evaluation_json_has_each_class_its_interval_and_the_calibration_of_pixels(run: Path) -> None:
    document = json.loads((run / "evaluation.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    averages = {"iou", "dice", "boundary_f1", "pixel_accuracy"}
    assert set(metrics) == {"n", "loss", *averages, "iou_per_class", "dice_per_class", "iou_interval"}
    test = document["splits"]["test"]
    assert {row["name"]: row["iou"]["value"] for row in test["classes"]} == pytest.approx(metrics["iou_per_class"])
    for name in averages:
        figure = test["metrics"][name]
        assert figure["value"] == pytest.approx(metrics[name])
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
    assert test["pixels"] == 24 * 256
    assert test["worst"][0]["iou"] <= test["worst"][-1]["iou"]
    assert document["temperature"]["fitted_on"] == "val"
    assert test["calibrated"]["nll"] < test["calibration"]["nll"]
    assert {picture.name for picture in (run / "plots").iterdir()} >= {"masks.png", "worst.png", "best.png"}
    report = (run / "report.html").read_text()
    assert "Worst images" in report
    assert "labeled pixels of the test split" in report
    told = str(striate.evaluate(run))
    assert max(map(len, told.splitlines())) <= 80
    assert "images with the lowest IoU" in told


def test_calibrated_masks_are_refused_with_the_reason(plain_run: Path) -> None:
    with pytest.raises(UsageError, match="do not depend on the temperature"):
        striate.load(plain_run, calibrated=True)


@pytest.mark.slow
def test_two_runs_are_compared_by_the_masks_that_were_kept(run: Path, shapes: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    kept = read_predictions(open_run(run), "test")
    assert kept is not None
    assert kept.predictions.dtype == np.uint8
    shutil.rmtree(other / "checkpoints")  # nothing is asked again
    found = striate.compare([run, other])
    assert (found.metric, found.pairs[0].difference.value) == ("iou", 0.0)
    assert all(one.value == pytest.approx(striate.evaluate(run).metrics["iou"]) for one in found.runs)


def test_the_lab_ranks_the_images_and_draws_their_masks(plain_run: Path) -> None:
    from starlette.testclient import TestClient

    from striate.lab.application import make_application
    from striate.lab.workbench import Lab

    lab = Lab(plain_run)
    try:
        client = TestClient(make_application(lab, 80), base_url="http://127.0.0.1:80")
        client.headers["striate-key"] = lab.token
        about = client.get("/api/explore/about").json()
        assert about["draws"]
        assert {one["name"]: one["ranked"] for one in about["splits"]} == {"train": False, "val": True, "test": True}
        asked = {"split": "test", "show": "worst"}
        worst = client.get("/api/explore/samples", params=asked).json()["samples"]
        document = json.loads((plain_run / "evaluation.json").read_text())["splits"]["test"]["worst"]
        assert [one["path"] for one in worst[: len(document)]] == [one["path"] for one in document]
        assert worst[0]["label"] == f"mean IoU {100 * document[0]['iou']:.2f} %"
        best = client.get("/api/explore/samples", params={**asked, "show": "best"}).json()["samples"]
        assert sorted(best, key=lambda one: one["path"]) == sorted(worst, key=lambda one: one["path"])
        assert (best[0]["label"], best[-1]["label"]) == (worst[-1]["label"], worst[0]["label"])
        kept = read_predictions(open_run(plain_run), "test")
        number = int(worst[0]["name"].split("#")[1])
        row = int(np.flatnonzero(kept.ids == number)[0])
        for truth in (False, True):
            place = {"split": "test", "sample": number, "truth": truth}
            got = client.get("/api/explore/drawn", params=place)
            assert got.headers["content-type"] == "image/png"
            pixels = np.asarray(Image.open(BytesIO(got.content)))
            assert pixels.shape == (16, 16, 3)
            wrong = kept.targets[row] != kept.predictions[row]
            black_and_white = np.isin(pixels, (0, 255)).all(2) & (np.ptp(pixels, axis=2) == 0)
            assert (black_and_white == wrong).all() or truth
        assert client.get("/api/explore/samples", params={"split": "train", "show": "worst"}).status_code >= 400
        assert client.get("/api/explore/map", params={"split": "test"}).status_code == 200
        assert client.get("/api/explore/samples", params={"split": "train"}).status_code == 200
    finally:
        lab.end()


@pytest.mark.slow
def test_a_learning_curve_is_of_the_mean_iou(run: Path) -> None:
    from striate.visualize.metric_curves import learning_curve_figure

    found = striate.learning_curve(run, seeds=(0,))
    assert found.metric == "iou"
    assert "test mean IoU" in found.sentence
    assert max(map(len, str(found).splitlines())) <= 80
    axes = learning_curve_figure(found.to_json(), title="", name="mean IoU", share=True).axes[0]
    assert axes.get_ylabel() == "test mean IoU"
    low, high = axes.get_ylim()
    assert all(low <= y <= high for line in axes.lines for y in line.get_ydata())
