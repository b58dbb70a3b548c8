"""Points as a task: they move with their image, and figures are those of the definition."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.cli import main
from striate.data.augment.augment import draw_augmentation
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.data.media.medium import Placement
from striate.errors import ConfigError
from striate.reference import area_of_correct_points, correct_points, normalized_mean_error
from striate.runs.checkpoint import load_checkpoint
from striate.tasks.keypoints.assess import estimates, image_rows
from striate.tasks.keypoints.geometry import expected_places, gaussian_maps, heat, spanning_tree
from striate.tasks.keypoints.head import with_head
from striate.tasks.keypoints.task import Keypoints
from striate.training.prepare import prepare
from striate.training.request import merge_request, read_config

NAMES = ("left", "right", "nose")


def made(**changed: object) -> Keypoints:
    return Keypoints(**{"target_names": NAMES, "shape": (40, 60), "size": 0.4, "pairs": (1, 0, 2)} | changed)  # type: ignore[arg-type]


def targets_of(pixels: np.ndarray, seen: np.ndarray, shape: tuple[int, int] = (40, 60)) -> torch.Tensor:
    """(N, K, 4) of places in pixels of inputs of (height, width) `shape` that are the files themselves."""
    half = np.array(shape[::-1]) / 2
    values = np.concatenate([pixels / half - 1, np.broadcast_to(half, pixels.shape) * seen[..., None]], axis=2)
    return torch.from_numpy(values).float()


def test_figures_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    true, seen = rng.uniform(5, 35, (7, 3, 2)), rng.random((7, 3)) > 0.2
    seen[0] = [True, False, False]  # one point spans no box
    seen[1] = False
    said = true + rng.normal(0, 3, true.shape)
    decoded = torch.cat([targets_of(said, seen * 0 + 1)[..., :2], torch.ones(7, 3, 1)], dim=2)
    found = made().measure(decoded, targets_of(true, seen))
    size = [40 * 60] * 7
    assert found["nme"] == pytest.approx(normalized_mean_error(said, true, seen, size), rel=1e-4)
    assert found["pck"] == pytest.approx(correct_points(said, true, seen, size, 0.1))
    assert found["auc"] == pytest.approx(area_of_correct_points(said, true, seen, size, 0.1), rel=1e-3)
    assert found["auc"] <= found["pck"]
    nothing = made().measure(decoded, targets_of(true, seen * 0))
    assert nothing == {"nme": None, "pck": None, "auc": None}


def test_intervals_are_over_groups_where_there_are_groups() -> None:
    rng = np.random.default_rng(0)
    of_person = np.abs(rng.normal(0.1, 0.05, 30)).repeat(10)
    rows = image_rows(np.abs(of_person[:, None] + rng.normal(0, 0.005, (300, 3))))
    widths = []
    for groups in ((), [str(place // 10) for place in range(300)]):
        interval = estimates(rows, groups)["nme"].interval
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths[1] > 2 * widths[0], "ten photographs of a person are no ten persons"


def test_points_move_with_their_image() -> None:
    """A bright spot is where its point goes, whatever the augmentation."""
    down, right = np.mgrid[:40, :60] + 0.5
    pixels = np.array([[[22.0, 15.0], [40.0, 20.0], [30.0, 28.0]]]).repeat(12, 0)
    image = np.stack([np.exp(-((right - x) ** 2 + (down - y) ** 2) / 8) for x, y in pixels[0]])
    images = torch.from_numpy(image * 250).to(torch.uint8)[None].repeat(12, 1, 1, 1)
    config = AugmentConfig(flip=True, vertical_flip=True, rotate=30, scale=0.2, shift=4, shear=10, crop=0.7)
    change = draw_augmentation(config, 0, 0, torch.arange(12), (3, 40, 60))
    assert change is not None
    assert change.warp is not None
    seen = np.ones((12, 3))
    task = made(pairs=())
    moved, places = change.warp.apply(images, fill=0), task.warp_targets(targets_of(pixels, seen), change.warp)
    checked = 0
    for maps, points in zip(moved, places, strict=True):
        for spot, (x, y, across, _) in zip(maps, points.tolist(), strict=True):
            column, row = (x + 1) * 30, (y + 1) * 20
            if across and 4 < column < 56 and 4 < row < 36:
                mass = spot.double()
                mass = mass / mass.sum()
                center = [float((mass.sum(0) * (torch.arange(60) + 0.5)).sum())]
                center.append(float((mass.sum(1) * (torch.arange(40) + 0.5)).sum()))
                assert center == pytest.approx([column, row], abs=1.0)
                checked += 1
    assert checked > 15


def test_a_mirror_image_exchanges_left_and_right_and_half_a_turn_does_not() -> None:
    task, yes = made(), torch.tensor([True])
    targets = targets_of(np.array([[[10.0, 12], [50, 14], [30, 25]]]), np.ones((1, 3)))
    shift = torch.zeros(1, 2, dtype=torch.int64)
    flipped = task.warp_targets(targets, Warp(yes, shift))
    assert flipped[0, 0].tolist() == pytest.approx([-targets[0, 1, 0].item(), *targets[0, 1, 1:].tolist()])
    turned = task.warp_targets(targets, Warp(yes, shift, vertical_flip=yes))
    assert torch.equal(turned[0, :, :2], -targets[0, :, :2])
    assert torch.equal(task.warp_targets(flipped, Warp(yes, shift)), targets)


def test_what_moves_out_of_the_image_counts_for_nothing() -> None:
    task = made()
    targets = targets_of(np.array([[[2.0, 12], [50, 14], [30, 25]]]), np.ones((1, 3)))
    moved = task.warp_targets(targets, Warp(torch.tensor([False]), torch.tensor([[0, -5]])))
    assert (moved[0, :, 2] > 0).tolist() == [False, True, True]
    outputs = torch.randn(1, 3, 10, 15)
    other = outputs.clone()
    other[0, 0] = 7
    assert task.loss_sum(outputs, moved) == pytest.approx(float(task.loss_sum(other, moved)))
    assert float(task.weight(moved)) == 2


def test_without_pairs_nothing_is_mirrored_and_it_is_said() -> None:
    varied, said = made(pairs=(), suggested="left=right").augmentation(AugmentConfig(flip=True), AugmentConfig())
    assert varied.flip is False
    assert "--task.flip_pairs left=right" in said
    with pytest.raises(ConfigError, match=r"augment\.flip") as caught:
        made(pairs=()).augmentation(AugmentConfig(), AugmentConfig(flip=True))
    assert "--task.flip_pairs" in caught.value.remedy
    assert made().augmentation(AugmentConfig(), AugmentConfig())[0].flip is True


def test_heat_is_decoded_between_cells() -> None:
    places = torch.tensor([[[0.13, -0.4], [-0.02, 0.31]]])
    shares = gaussian_maps(places, (16, 24), 1.0)
    assert torch.allclose(shares.sum((2, 3)), torch.ones(1, 2))
    assert torch.allclose(expected_places(shares), places, atol=2e-3)
    assert torch.allclose(expected_places(heat(torch.zeros(1, 2, 5, 7))), torch.zeros(1, 2, 2), atol=1e-6)


@pytest.mark.parametrize("head", ["heatmaps", "regress"])
def test_the_loss_falls_as_predictions_come_nearer(head: str) -> None:
    task = made(head=head)
    targets = targets_of(np.array([[[10.0, 12], [50, 14], [30, 25]]]), np.ones((1, 3)))
    losses = []
    for off in (0.5, 0.2, 0.0):
        places = targets[..., :2] * (1 - off)
        if head == "regress":
            outputs = torch.cat([places, torch.full((1, 3, 1), math.log(0.1))], dim=2).flatten(1)
        else:
            outputs = gaussian_maps(places, (20, 30), 1.0).clamp(min=1e-9).log()
        losses.append(float(task.loss(outputs, targets)))
        decoded = task.decode(outputs)
        assert torch.allclose(decoded[..., :2], places, atol=5e-3)
        assert bool(((decoded[..., 2] > 0) & (decoded[..., 2] <= 1)).all())
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("head", ["heatmaps", "regress"])
def test_predictions_for_a_mirror_image_are_turned_back(head: str) -> None:
    task = made(head=head)
    assert task.mean_of_views
    assert not made(pairs=()).mean_of_views
    places = torch.tensor([[[0.3, -0.1], [-0.4, 0.2], [0.05, 0.5]]])
    flipped = places[:, [1, 0, 2]] * torch.tensor([-1.0, 1.0])

    def outputs(at: torch.Tensor) -> torch.Tensor:
        if head == "regress":
            return torch.cat([at, torch.zeros(1, 3, 1)], dim=2).flatten(1)
        return gaussian_maps(at, (20, 30), 1.0).clamp(min=1e-9).log()

    back = task.move_back(outputs(flipped), mirrored=True, shift=(0, 0))
    assert torch.allclose(task.decode(back)[..., :2], places, atol=5e-3)
    if head == "regress":  # one pixel down and right, then mirrored
        moved = (places + torch.tensor([2 / 60, 2 / 40]))[:, [1, 0, 2]] * torch.tensor([-1.0, 1.0])
        back = task.move_back(outputs(moved), mirrored=True, shift=(1, 1))
        assert torch.allclose(task.decode(back)[..., :2], places, atol=1e-5)


def test_predictions_are_in_pixels_of_the_file() -> None:
    placement = Placement((80, 200), (40, 60), (0.3, 0.3), (0.0, 8.0))
    decoded = torch.tensor([[0.0, 0.0, 0.5], [-1.0, -0.6, 1.0], [1.0, 0.6, 0.2]])
    placed = made().in_file(decoded, placement)
    assert np.allclose(placed[:, :2], [[0, 0], [-1, -1], [1, 1]], atol=1e-6)
    fields = made().describe_in_file(decoded, placement)
    assert fields["points"][0] == ["left", 100.0, 40.0, 0.5]


def test_any_network_with_maps_gets_a_head_and_loses_its_own() -> None:
    from striate.models.build import build_model

    network = with_head(build_model("resnet18", (3, 64, 64)), (3, 64, 64), 5, "heatmaps")
    assert not any(isinstance(module, torch.nn.Linear) for module in network.modules())
    with torch.no_grad():
        assert network.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 5, 32, 32)


def test_a_skeleton_of_the_mean_shape_joins_neighbors() -> None:
    mean = np.array([[0, 0], [1, 0], [2, 0.1], [np.nan, np.nan]])
    assert spanning_tree(mean) == ((0, 1), (1, 2))


def test_drawn_pictures_have_the_size_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,x1,y1,x2,y2"]
    for number in range(30):
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{number / 3},5,12,{number / 2}")
    (tmp_path / "points.csv").write_text("\n".join(lines))
    words = ["train", str(tmp_path), "--model", "conv(4,3,stride=2) relu", "--epochs", "1", "--plan", "plain"]
    assert main([*words, "--task.head", "regress", "--out", "run"]) == 0
    capsys.readouterr()
    Image.new("RGB", (400, 300), (90, 20, 20)).save("large.png")
    assert main(["predict", "run", "large.png", "--draw", "drawn", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert main(["eval", "run", str(tmp_path), "--json"]) == 0
    assert [point[0] for point in line["points"]] == ["1", "2"]
    with Image.open(line["drawn"]) as drawn:
        assert drawn.size == (400, 300)


@pytest.mark.slow
def test_weights_of_a_classifier_go_under_the_head(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,x1,y1,x2,y2"]
    for number in range(40):
        file = tmp_path / "classes" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(file)
        lines.append(f"{file.relative_to(tmp_path)},{number / 2},5,12,{number / 2}")
    (tmp_path / "points.csv").write_text("\n".join(lines))
    network = "conv(4,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap fc(2)"
    words = ["--model", network, "--epochs", "1", "--plan", "plain"]
    assert main(["train", str(tmp_path / "classes"), *words, "--out", "one"]) == 0
    fields = {"model.name": network, "model.weights": "one", "execution.plan": "plain"}
    with torch.random.fork_rng():
        request = merge_request(read_config(None), data=str(tmp_path / "points.csv"), epochs=1, fields=fields)
        prepared = prepare(request)
    saved = load_checkpoint(Path("one/checkpoints/best.pt"))["model"]
    body = prepared.task.bare(prepared.state.module).state_dict()
    assert {key for key in saved if key not in body} == {key for key in saved if saved[key].shape[:1] == (2,)}
    assert all(torch.equal(saved[key], body[key]) for key in body)
