"""A detector's outputs, what it learns of which object, and its predictions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from made_boxes import made_images, save, write_table
from striate.api import load
from striate.cli import main
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.errors import DataError, UsageError
from striate.models.build import build_model
from striate.statistics.estimate import Estimate
from striate.tasks.config import TaskConfig
from striate.tasks.detect.assign import assign
from striate.tasks.detect.decode import room_for
from striate.tasks.detect.metrics import KINDS, ClassDetections, DetectionMetrics, ImageDetections
from striate.tasks.detect.show import mistakes_section
from striate.tasks.detect.task import Detect, strides_for

TASK = Detect(("disk", "square"), (32, 48), (4, 8), 6.0, 0.3)


def _cells(size: tuple[int, int] = (32, 48), strides: tuple[int, ...] = (4, 8)) -> torch.Tensor:
    rows = [
        [(x + 0.5) * s, (y + 0.5) * s, s] for s in strides for y in range(size[0] // s) for x in range(size[1] // s)
    ]
    return torch.tensor(rows)


def _outputs(boxes: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    cells = _cells()
    return torch.cat([logits, boxes, cells.expand(len(boxes), -1, -1)], 2)


def test_positions_and_boxes_are_in_pixels_of_the_input() -> None:
    network = TASK.attach(build_model("small-resnet(width=8)", (3, 32, 48), None), (3, 32, 48)).eval()
    with torch.no_grad():
        outputs = network(torch.zeros(2, 3, 32, 48))
    assert torch.equal(outputs[0, :, -3:], _cells(strides=tuple(map(round, network.pyramid.strides))))
    edges, cells = outputs[..., 2:6], outputs[..., -3:]
    assert (edges[..., :2] < cells[..., :2]).all()
    assert (edges[..., 2:] > cells[..., :2]).all()
    sides = (edges[..., 2:] - edges[..., :2]).mean()
    assert float(sides) == pytest.approx(12, rel=0.2), "before the first step, all boxes are of the typical size"
    assert float(outputs[..., :2].sigmoid().mean()) < 0.02


def test_other_sizes_have_other_positions() -> None:
    network = TASK.attach(build_model("small-resnet(width=8)", (3, 32, 48), None), (3, 32, 48)).eval()
    with torch.no_grad():
        outputs = network(torch.zeros(1, 3, 64, 48))
    assert float(outputs[..., -2].max()) > 60


def test_any_network_with_maps_is_a_backbone() -> None:
    text = "conv(8,3,pad=1) relu pool(2) conv(12,3,pad=1) relu pool(2) conv(16,3,pad=1) relu pool(2) fc(5)"
    for name in (text, "resnet18", "small-unet"):
        network = TASK.attach(build_model(name, (3, 32, 48), None), (3, 32, 48))
        loss = TASK.loss(network(torch.rand(2, 3, 32, 48)), _targets([[(4, 4, 16, 16, 0)], []]))
        loss.backward()
        assert torch.isfinite(loss)


@pytest.mark.parametrize("end", ["", " bn relu", " relu dropout(0.1)"])
def test_only_a_layer_behind_the_maps_is_taken_off(end: str) -> None:
    text = f"conv(8,3,pad=1) relu pool(2) conv(12,3,pad=1) relu pool(2) conv(20,3,pad=1){end}"
    network = TASK.attach(build_model(text, (3, 32, 48), None), (3, 32, 48))
    assert network.pyramid.backbone.conv3.out_channels == 20
    network = TASK.attach(build_model(f"{text} gap fc(5)", (3, 32, 48), None), (3, 32, 48))
    assert network.pyramid.backbone.conv3.out_channels == 20
    assert isinstance(network.pyramid.backbone.fc1, torch.nn.Identity)


def _targets(objects: list[list[tuple[float, ...]]], crowd: float = 0.0) -> torch.Tensor:
    targets = torch.zeros(len(objects), 3, 6)
    targets[..., 4] = -1
    for image, rows in enumerate(objects):
        for place, row in enumerate(rows):
            targets[image, place] = torch.tensor([*row, crowd])
    return targets


def test_objects_are_learned_where_they_are_predicted_best() -> None:
    cells = _cells()
    boxes = torch.tensor([[[4.0, 4, 20, 20], [24, 8, 44, 28]]])
    predicted = torch.cat([cells[:, :2] - 8, cells[:, :2] + 8], 1)[None]
    scores = torch.full((1, len(cells), 2), 0.1)
    found = assign(scores, predicted, cells, boxes, torch.tensor([[0, 1]]), torch.tensor([[True, True]]))
    assert found.learns.any()
    assert (found.quality[~found.learns] == 0).all()
    for number in range(2):
        mine = found.learns[0] & (found.labels[0] == number)
        assert 1 <= int(mine.sum()) <= 10
        at = cells[mine][:, :2]
        assert (at > boxes[0, number, :2]).all()
        assert (at < boxes[0, number, 2:]).all()
        best = found.quality[0][mine].argmax()
        assert (at[best] - boxes[0, number].view(2, 2).mean(0)).abs().max() <= 4
    nothing = assign(scores, predicted, cells, boxes, torch.tensor([[0, 1]]), torch.tensor([[False, False]]))
    assert not nothing.learns.any()


def test_many_images_are_assigned_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, random = _cells(), torch.Generator().manual_seed(0)
    first = torch.rand(5, 3, 2, generator=random) * 16
    boxes = torch.cat([first, first + 4 + torch.rand(5, 3, 2, generator=random) * 12], 2)
    predicted = torch.cat([cells[:, :2] - 6, cells[:, :2] + 6], 1).expand(5, -1, -1)
    given = torch.rand(5, len(cells), 2, generator=random), predicted, cells, boxes
    labels, real = torch.zeros(5, 3, dtype=torch.int64), torch.ones(5, 3, dtype=torch.bool)
    whole = assign(*given, labels, real)
    monkeypatch.setattr("striate.tasks.detect.assign._AT_ONCE", 2 * 3 * len(cells))
    for one, other in zip(whole, assign(*given, labels, real), strict=True):
        assert torch.equal(one, other)


def test_an_object_smaller_than_a_cell_is_learned_too() -> None:
    cells = _cells()
    boxes = torch.tensor([[[7.5, 7.5, 8.5, 8.5]]])  # between four positions, on none
    predicted = torch.cat([cells[:, :2] - 4, cells[:, :2] + 4], 1)[None]
    found = assign(
        torch.full((1, len(cells), 2), 0.1), predicted, cells, boxes, torch.tensor([[0]]), torch.tensor([[True]])
    )
    assert found.learns.any()


def test_what_lies_in_a_crowd_is_nobodys_fault() -> None:
    cells = _cells()
    logits = torch.full((1, len(cells), 2), -6.0)
    near = ((cells[:, 0] - 12).abs() < 6) & ((cells[:, 1] - 12).abs() < 6)
    logits[0, near] = 4.0
    outputs = _outputs(torch.cat([cells[:, :2] - 4, cells[:, :2] + 4], 1)[None], logits)
    alone = TASK.loss_sum(outputs, _targets([[]]))
    within = TASK.loss_sum(outputs, _targets([[(0, 0, 24, 24, 0)]], crowd=1))
    assert float(within) < 0.01 * float(alone)


def test_predictions_are_sorted_and_suppressed() -> None:
    cells = _cells()
    boxes = torch.zeros(1, len(cells), 4)
    logits = torch.full((1, len(cells), 2), -9.0)
    for place, (row, kind, logit) in enumerate(
        [([4, 4, 16, 16], 0, 2.0), ([4, 4, 16, 17], 0, 1.0), ([4, 4, 16, 16], 1, 0.5), ([30, -5, 60, 20], 1, 3.0)]
    ):
        boxes[0, place], logits[0, place, kind] = torch.tensor(row, dtype=torch.float32), logit
    found = TASK.decode(_outputs(boxes, logits))
    assert found.shape == (1, 100, 6)
    assert found[0, :4, 4].tolist() == [1, 0, 1, -1], "the second is the first once more; no more than three"
    assert found[0, 0, :4].tolist() == [30, 0, 48, 20], "within the image"
    assert (found[0, 3:, 5] == 0).all()
    assert len(TASK.describe(found[0])["boxes"]) == 3


def test_there_is_room_for_as_many_detections_as_training_images_have_objects() -> None:
    assert [room_for(count) for count in (0, 5, 66, 67, 140, 329)] == [100, 100, 100, 100, 300, 500]
    task, cells = replace(TASK, most=room_for(140)), _cells()
    boxes = torch.cat([cells[:, :2] - 1, cells[:, :2] + 1], 1)[None]
    found = task.decode(_outputs(boxes, torch.full((1, len(cells), 2), 1.0)))
    assert found.shape == (1, 300, 6)
    assert (found[0, :, 4] >= 0).sum() == min(300, 2 * len(cells))
    assert Detect(**{**task.state(), "classes": TASK.classes}).most == 300


def test_strides_follow_from_the_sides_of_boxes() -> None:
    assert strides_for(np.full((10, 2), 30.0)) == (16, 32)
    assert strides_for(np.array([[20.0, 25.0]] * 10 + [[200.0, 250.0]] * 10)) == (8, 16, 32)
    assert strides_for(np.full((10, 2), 3.0)) == (4, 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detect")
    source = write_table(folder / "data", made_images(160, (32, 48), seed=1))
    words = ["train", str(source), "--size", "32x48", "--model", "small-resnet(width=8)", "--epochs", "25"]
    with torch.random.fork_rng():
        assert main([*words, "--batch", "16", "--plan", "plain", "--seed", "1", "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_detector_learns_disks_and_squares(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "detect"
    test = metrics["test"]
    assert {
        "map",
        "map50",
        "map75",
        "ap50",
        "precision",
        "recall",
        "threshold",
        "map_interval",
    } <= set(test)
    assert test["map50"] > 0.7
    assert set(test["ap50"]) == {"disk", "square"}
    if test["map50"] < 1:  # where every object is found, samples drawn anew do not differ
        assert test["map50_interval"][0] <= test["map50"] <= test["map50_interval"][1]
    assert test["threshold"] == metrics["val"]["threshold"] == pytest.approx(load(run).task.threshold)


@pytest.mark.slow
def test_boxes_are_predicted_in_pixels_of_the_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, _ = made_images(1, (32, 48), seed=1)[0]
    save(image, tmp_path / "small.png")
    Image.fromarray(image).resize((480, 320), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    assert main(["predict", str(run), str(tmp_path / "small.png"), str(tmp_path / "large.png"), "--json"]) == 0
    small, large = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (small["width"], small["height"], large["width"], large["height"]) == (48, 32, 480, 320)
    assert small["boxes"]
    assert len(small["boxes"]) == len(large["boxes"])
    for one, other in zip(small["boxes"], large["boxes"], strict=True):
        assert one["label"] == other["label"]
        assert np.array(other["box"]) / 10 == pytest.approx(np.array(one["box"]), abs=0.5)
    assert main(["predict", str(run), str(tmp_path / "large.png"), "--draw", str(tmp_path / "drawn"), "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)["drawn"]
    with Image.open(drawn) as shown:
        assert shown.size == (480, 320)
    picture = load(run).predict(str(tmp_path / "large.png"))
    assert picture.fields["width"] == 480
    assert picture.fields["boxes"][0]["box"] == pytest.approx(large["boxes"][0]["box"], abs=0.01)


def test_images_pasted_into_others_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_table(tmp_path / "data", made_images(24))
    assert main(["train", str(source), "--epochs", "1", "--augment.cutmix", "1", "--out", str(tmp_path / "run")]) == 2
    assert "augment.cutmix" in capsys.readouterr().err


@pytest.mark.slow
def test_another_threshold_predicts_other_boxes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(made_images(1, (32, 48), seed=1)[0][0], tmp_path / "one.png")
    counts = []
    for threshold in ("0.01", "0.99"):
        assert main(["predict", str(run), str(tmp_path / "one.png"), "--threshold", threshold, "--json"]) == 0
        counts.append(len(json.loads(capsys.readouterr().out)["boxes"]))
    assert counts[0] > counts[1]
    assert main(["predict", str(run), str(tmp_path / "one.png"), "--threshold", "disk=0.3"]) == 2
    assert "a score from 0 to 1" in capsys.readouterr().err


def _found(boxes: list[tuple[float, ...]]) -> torch.Tensor:
    rows = torch.zeros(5, 6)
    rows[:, 4] = -1
    for place, row in enumerate(boxes):
        rows[place] = torch.tensor(row)
    return rows


def test_one_box_is_explained() -> None:
    cells = _cells()
    logits = torch.randn(1, len(cells), 2, generator=torch.Generator().manual_seed(0))
    outputs = _outputs(torch.zeros(1, len(cells), 4), logits)
    found = _found([(0, 0, 16, 16, 0, 0.9), (24, 8, 40, 24, 1, 0.6), (2, 2, 9, 9, 0, 0.1)])
    asked = TASK.explained_part(found, "2")
    near = (
        (cells[:, :2] - torch.tensor([32.0, 16.0])).abs() <= torch.maximum(torch.tensor(4.0), cells[:, 2:] / 2)
    ).all(1)
    assert asked.part == "the square at 24, 8, 40, 24 (left, top, right, bottom in pixels of the input)"
    assert "has a score of 0.6; the map explains the logit of this score" in asked.notes[0]
    # Each class has a score of its own: the logits of the others do not matter, and one class is enough.
    assert (asked.kind, asked.target) == ("number", 0)
    assert torch.equal(asked.score(outputs), logits[:, near, 1].amax(1)[:, None])
    assert "--box 2" in TASK.explained(found).notes[0]
    assert "score of 0.9" in TASK.explained(found).notes[1]
    for wrong in ("0", "3", "nose", "1.5"):
        with pytest.raises(UsageError, match="the number of a box, from 1 to 2"):
            TASK.explained_part(found, wrong)
    with pytest.raises(UsageError, match="none has a score of"):
        TASK.explained_part(_found([(0, 0, 16, 16, 0, 0.1)]), "1")


@pytest.mark.slow
def test_the_box_with_the_highest_score_is_explained(run: Path) -> None:
    trained = load(run)
    raw = made_images(1, (32, 48), seed=1)[0][0].transpose(2, 0, 1)
    found = trained.predict(raw)
    asked = trained.task.explained(found.decoded)
    normalize = trained.normalization.on(trained.device, 4)
    with torch.no_grad():
        scores = asked.score(trained.module(normalize(torch.from_numpy(raw.copy())[None])))
    assert scores.shape == (1, 1)
    assert float(scores.sigmoid()) == pytest.approx(float(found.decoded[0, 5]), abs=0.05)
    assert "left, top, right, bottom" in asked.part


@pytest.mark.slow
def test_a_network_that_was_trained_for_classes_lends_its_maps(run: Path, tmp_path: Path) -> None:
    from striate.runs.checkpoint import load_checkpoint

    for number, (image, _) in enumerate(made_images(40, (32, 48))):
        save(image, tmp_path / "classes" / ("a", "b")[number % 2] / f"{number}.png")
    words = ["--model", "small-resnet(width=8)", "--epochs", "1", "--plan", "plain"]
    with torch.random.fork_rng():
        assert main(["train", str(tmp_path / "classes"), *words, "--out", str(tmp_path / "first")]) == 0
        source = write_table(tmp_path / "data", made_images(40, (32, 48)))
        words = ["--size", "32x48", "--model", str(tmp_path / "first"), "--epochs", "1", "--plan", "plain"]
        assert main(["train", str(source), *words, "--optim.lr", "1e-9", "--out", str(tmp_path / "second")]) == 0
    first, second = (
        load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")["model"] for name in ("first", "second")
    )
    key = "conv1.weight" if "conv1.weight" in first else next(key for key in first if key.endswith("conv1.weight"))
    assert torch.allclose(second[f"pyramid.backbone.{key}"], first[key], atol=1e-4)


def test_boxes_are_drawn_on_the_data(tmp_path: Path) -> None:
    source = write_table(tmp_path / "data", made_images(24, (32, 48)))
    for words in ([], ["--augment"]):
        out = tmp_path / f"shown{len(words)}.png"
        assert main(["data", "show", str(source), "--size", "32x48", *words, "--out", str(out)]) == 0
        assert out.is_file()


def test_boxes_as_fractions_are_refused_for_what_they_are(tmp_path: Path) -> None:
    table = write_table(tmp_path, made_images(12))
    header, *rows = (line.split(",") for line in table.read_text().splitlines())
    rows = [[row[0], *(edge and str(int(edge) / 40) for edge in row[1:5]), *row[5:]] for row in rows]
    table.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    with pytest.raises(DataError, match="fractions of width and height"):
        Detect.make(load_dataset(DataConfig(source=str(table))), TaskConfig(), "quality-focal")


def test_few_images_have_intervals_of_null() -> None:
    task = Detect(("disk",), (32, 32))
    few = np.zeros((3, 1, 6), np.float32)
    assert task.interval(few, few) == {"map_interval": None, "map50_interval": None}


def test_images_without_a_mistake_are_not_among_the_worst() -> None:
    worst = (ImageDetections(1, "a.png", 2, 40, 1), ImageDetections(0, "b.png", 3, 0, 0))
    classes = (ClassDetections("disk", 6, 2, Estimate(0.5), Estimate(0.8), 5, 40, 1),)
    found = DetectionMetrics(2, {}, 0.5, classes, {}, worst, ())
    lines = found._worst_lines()
    assert [line.split()[-1] for line in lines[1:-1]] == ["a.png"]
    assert lines[-1] == "  1 image with more wrong detections than objects: labels may be missing"
    assert replace(found, worst=worst[1:])._worst_lines() == []


def test_wrong_detections_of_a_network_that_finds_little_are_no_evidence_of_missing_labels() -> None:
    worst = (ImageDetections(1, "a.png", 0, 40, 22),)
    classes = (ClassDetections("disk", 22, 2, Estimate(0.0), Estimate(0.02), 0, 40, 22),)
    counts = {key: {"count": 0, "gain": 0.0} for key in KINDS} | {
        "both": {"count": 2, "gain": 0.0}, "missed": {"count": 22, "gain": None},
    }  # fmt: skip
    found = DetectionMetrics(2, {}, 0.5, classes, counts, worst, ())
    assert "labels" not in found._worst_lines()[-1]
    (section,) = mistakes_section(found, "test split")
    # Two detections overlap objects, but badly, and as another class.
    assert section.sentences == (
        "No object is found at a score of 0.50: no detection has an IoU of 0.5 with an object, or its class and an IoU"
        " of 0.1 with it.",
    )


def test_the_headline_names_no_shares_of_nothing() -> None:
    task = Detect(("disk",), (32, 32))
    metrics = {"map": 0.0, "map50": 0.0, "precision": None, "recall": 0.0}
    evaluation = SimpleNamespace(
        metrics=metrics, n=2, data="d", split="test", targets=np.zeros((2, 1, 6)), span_of=lambda _: ""
    )
    assert task.headline_text(evaluation)[1].endswith(" there are no predictions.")
    evaluation.metrics = metrics | {"precision": 0.5}
    assert (
        task.headline_text(evaluation)[1]
        .replace("\N{NO-BREAK SPACE}", " ")
        .endswith(" 50.0 % of the predictions are right, and 0.0 % of the objects are found.")
    )
