"""Metrics that nothing defines are refused or left empty, never a number or a silent not-a-number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import r2_score

from striate.cli import main
from striate.data.config import DataConfig
from striate.data.dataset import Split
from striate.data.normalize import measure_normalization
from striate.data.read import load_dataset
from striate.errors import DataError
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress


def regress(numbers: int) -> Regress:
    return Regress(tuple("abc"[:numbers]), (0.0,) * numbers, (1.0,) * numbers)


def test_r2_of_targets_that_do_not_vary_is_not_known() -> None:
    """scikit-learn says 0, or 1 for a perfect answer: neither is measured."""
    truth = torch.full((4, 1), 3.0)
    assert regress(1).measure(truth.clone(), truth)["r2"] is None
    assert regress(1).measure(truth[:1], truth[:1])["r2"] is None


def test_r2_is_of_the_numbers_that_vary() -> None:
    random = torch.Generator().manual_seed(0)
    truth, predicted = torch.randn(9, 3, generator=random), torch.randn(9, 3, generator=random)
    whole = regress(3).measure(predicted, truth)["r2"]
    assert whole == pytest.approx(r2_score(truth, predicted))
    truth[:, 1] = 5.0
    assert regress(3).measure(predicted, truth)["r2"] == pytest.approx(r2_score(truth[:, ::2], predicted[:, ::2]))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 3e-39])
def test_a_constant_column_is_zero(value: float) -> None:
    x = torch.full((1001, 2), value)
    x[:, 1] = torch.arange(1001.0)
    normalization = measure_normalization(Split(x, torch.zeros(1001), torch.arange(1001)))
    normal = normalization.on("cpu", 2)(x)
    assert torch.isfinite(normal).all()
    assert normal[:, 0].abs().max() <= 1e-6 * max(1.0, abs(value))
    assert normal[:, 1].std(correction=0) == pytest.approx(1.0, rel=1e-5)


def test_noise_of_rounding_is_not_made_as_large_as_a_signal() -> None:
    x = torch.full((100, 1), 0.3)
    x[::2] = torch.nextafter(torch.tensor(0.3), torch.tensor(1.0))
    normal = measure_normalization(Split(x, torch.zeros(100), torch.arange(100))).on("cpu", 2)(x)
    assert normal.abs().max() < 1e-6


def test_a_small_spread_that_float32_can_tell_counts() -> None:
    x = 1.7e9 + 1000 * torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    normal = measure_normalization(Split(x, torch.zeros(500), torch.arange(500))).on("cpu", 2)(x)
    assert normal.std(correction=0) == pytest.approx(1.0, rel=1e-2)


def test_a_class_that_a_split_lacks_leaves_all_figures_finite() -> None:
    task = Classify(("a", "b", "c"))
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    metrics = task.measure(probabilities, torch.tensor([0, 1]))
    assert metrics == {"accuracy": 1.0, "top5": 1.0, "macro_f1": 1.0}


def masks(folder: Path, unlabeled: str) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number in range(4):
            for kind in ("images", "masks"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
            image = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / split / "images" / f"{number}.png")
            mask = np.full((8, 8), 255, np.uint8) if split == unlabeled else random.integers(0, 2, (8, 8), np.uint8)
            Image.fromarray(mask).save(folder / split / "masks" / f"{number}.png")
    return folder


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_masks_without_a_labeled_pixel_are_refused_before_training(split: str, tmp_path: Path, capsys: Any) -> None:
    folder = masks(tmp_path / "photos", split)
    with pytest.raises(DataError, match=f"masks of {split}"):
        load_dataset(DataConfig(source=str(folder)))
    assert main(["train", str(folder), "--epochs", "1", "--out", str(tmp_path / "run")]) == 2
    assert "no labeled pixel" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_metrics_json_is_strict_where_r2_is_not_known(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)).astype(np.float32), random.normal(size=60).astype(np.float32)
    held = {"x_test": x[40:], "y_test": np.full(20, 2.5, np.float32)}
    np.savez(tmp_path / "table.npz", x_train=x[:40], y_train=y[:40], **held)
    out = tmp_path / "run"
    assert main(["train", str(tmp_path / "table.npz"), "--model", "mlp(4)", "--epochs", "1", "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert metrics["test"]["r2"] is None
