"""Shapes on textures: masks are read, moved with their images, and learned by a layer string."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate
from striate.cli import main

pytestmark = pytest.mark.draws

NETWORK = (
    "conv(16,3,pad=1) bn relu pool(2) conv(32,3,pad=1) bn relu conv(32,3,pad=1) bn relu "
    "up(2) conv(16,3,pad=1) bn relu conv(3,1)"
)


def make_shapes(root: Path, count: int, size: int = 32) -> None:
    """Disks (mask value 1) and squares (2) of one brightness, on noise of another grain."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    y, x = np.mgrid[:size, :size]
    for i in range(count):
        image = rng.normal(90, 25, (size, size))
        mask = np.zeros((size, size), np.uint8)
        for kind in (1, 2):
            cy, cx, radius = rng.integers(7, size - 7), rng.integers(7, size - 7), rng.integers(5, 8)
            inside = np.hypot(y - cy, x - cx) < radius if kind == 1 else np.maximum(abs(y - cy), abs(x - cx)) < radius
            level = 190 if kind == 1 else 20
            image[inside] = level + rng.normal(0, 12, int(inside.sum()))
            mask[inside] = kind
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / "images" / f"{i:03}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i:03}.png")


@pytest.mark.slow
def test_a_layer_string_learns_to_segment(capsys: pytest.CaptureFixture[str]) -> None:
    make_shapes(Path("shapes"), 150)
    words = ["train", "shapes", "--model", NETWORK, "--epochs", "20", "--augment.flip", "true", "--augment.shift", "3"]
    assert main([*words, "--out", "run", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["task"] == "segment"
    keys = {
        "n",
        "loss",
        "iou",
        "dice",
        "pixel_accuracy",
        "iou_per_class",
        "dice_per_class",
        "boundary_f1",
        "iou_interval",
    }
    assert set(metrics["test"]) == keys
    assert metrics["test"]["iou"] >= 0.9
    assert (Path("run") / "plots" / "masks.png").exists()
    assert Path("run/classes.txt").read_text() == "0\n1\n2\n"
    answer = striate.load("run").predict("shapes/images/007.png").decoded.numpy()
    truth = np.asarray(Image.open("shapes/masks/007.png"))
    assert (answer == truth).mean() > 0.95
    assert main(["predict", "run", "shapes/images/007.png", "--masks", "out", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert np.array_equal(np.asarray(Image.open(line["mask"])), answer)
    assert sum(line["shares"].values()) == pytest.approx(1)
    assert main(["eval", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iou"] == metrics["test"]["iou"]


def test_a_network_with_one_answer_an_image_is_refused(capsys) -> None:
    make_shapes(Path("shapes"), 30)
    assert main(["train", "shapes", "--model", "conv(8,3) relu gap fc(3)"]) == 2
    assert "remedy:" in capsys.readouterr().err
