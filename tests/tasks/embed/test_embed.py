"""Embeddings from data to verdict: whole classes in splits, losses in training, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig, DataConfig
from striate.data.dataset import Split
from striate.data.media.every_medium import medium_of
from striate.data.read import load_dataset, load_for_evaluation
from striate.errors import ConfigError, DataError
from striate.tasks.config import TaskConfig
from striate.tasks.embed.mirrors import ENOUGH, mirrors_keep_class
from striate.tasks.embed.task import Embed
from striate.tasks.evaluation import Evaluation


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 12
    x = (rng.integers(0, 60, (120, 8, 8)) + 15 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "twelve.npz", x=x, y=np.array([f"p{k:02}" for k in y]))
    return tmp_path / "twelve.npz"


def test_no_class_is_in_two_splits(arrays: Path) -> None:
    data = load_dataset(DataConfig(str(arrays)), annotation="identity")
    homes = {name: set(split.targets.tolist()) for name, split in data.splits.items()}
    assert {name: len(found) for name, found in homes.items()} == {"train": 8, "val": 2, "test": 2}
    assert len(set().union(*homes.values())) == 12
    assert data.has_one_class_each
    assert any("whole classes" in note for note in data.notes)
    task = Embed.make(data, TaskConfig(), "arcface")
    assert set(task.seen) == homes["train"]
    assert float(task.weight(data.splits["val"].targets)) < 1e-6, "classes that were not seen count for nothing"


def test_groups_of_classes_stay_together(tmp_path: Path) -> None:
    """Letters of an alphabet: none is trained whose alphabet is tested."""
    from PIL import Image

    rows = ["path,label,group"]
    for number in range(96):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,letter{number % 24},alphabet{number % 12}")
    (tmp_path / "all.csv").write_text("\n".join(rows))
    data = load_dataset(DataConfig(str(tmp_path / "all.csv")), annotation="identity")
    alphabets = [{data.classes[k][6:] for k in split.targets.tolist()} for split in data.splits.values()]
    found = [{int(name) % 12 for name in names} for names in alphabets]
    assert not found[0] & found[1]
    assert not found[0] & found[2]
    assert not found[1] & found[2]


def test_given_splits_with_the_same_classes_are_made_anew(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).integers(0, 255, (160, 8, 8)).astype(np.uint8), np.arange(160) % 8
    np.savez(tmp_path / "given.npz", x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    data = load_dataset(DataConfig(str(tmp_path / "given.npz")), annotation="identity")
    assert any("share 8 classes" in note for note in data.notes)
    classes = [set(split.targets.tolist()) for split in data.splits.values()]
    assert sum(map(len, classes)) == len(set().union(*classes)) == 8


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "four.npz", x=np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype("u1"), y=np.arange(40) % 4
    )
    with pytest.raises(DataError, match="six in total"):
        load_dataset(DataConfig(str(tmp_path / "four.npz")), annotation="identity")


def test_other_data_have_classes_of_their_own(arrays: Path, tmp_path: Path) -> None:
    data = load_dataset(DataConfig(str(arrays)), annotation="identity")
    np.savez(tmp_path / "new.npz", x=np.zeros((6, 8, 8), np.uint8), y=np.array(["new", "other"] * 3))
    found = load_for_evaluation(DataConfig(str(tmp_path / "new.npz")), data.preparation, data.classes, "identity")
    assert found.classes == ("new", "other")
    assert found.splits["all"].targets.tolist() == [0, 1] * 3


@pytest.mark.slow
def test_the_losses_load_neither_torchvision_nor_faiss() -> None:
    code = (
        "import sys; from striate.tasks.embed.losses import loss_of; loss_of('triplet', 0);"
        "print([m for m in ('torchvision', 'faiss', 'tensorboard') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_probability_and_threshold_say_the_same() -> None:
    task = Embed(("a",), (0,), 2, threshold=0.6, slope=8.0)
    for similarity in np.linspace(-1, 1, 20):
        threshold, probability = task.threshold_of_pairs(float(similarity))
        assert (similarity >= threshold) == (probability >= 0.5)


@pytest.mark.parametrize("loss", ["arcface", "supcon"])
def test_blank_outputs_have_a_loss(loss: str) -> None:
    task = Embed(("a", "b", "c"), (0, 2), 4, loss)
    outputs = torch.zeros(3, task.outputs, requires_grad=True)
    for targets in (torch.tensor([1, 1, 1]), torch.tensor([0, 2, 0])):
        total = task.loss_sum(outputs, targets)
        assert torch.isfinite(total)
        assert total.requires_grad


def test_collapsed_embeddings_are_noticed_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 6
    task = Embed(tuple("abcdef"), (0,), 8)

    def said(vectors: np.ndarray) -> list[str]:
        decoded = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        metrics = task.measure(torch.from_numpy(decoded), torch.from_numpy(truth))
        found = Evaluation("made", "test", "embed", task.classes, 60, metrics, decoded, truth, np.arange(60))
        return [finding.why for finding in task.prediction_findings(found)]

    collapsed = np.ones((60, 8)) + 0.01 * rng.normal(size=(60, 8))
    assert "collapse" in said(collapsed)[0]
    assert "hardly more similar" in said(rng.normal(size=(60, 8)))[0]
    assert not said(rng.normal(size=(6, 8))[truth] + 0.5 * rng.normal(size=(60, 8)))


def test_mirror_images_count_where_they_keep_the_class() -> None:
    rng = np.random.default_rng(0)
    bodies = rng.integers(0, 255, (8, 16, 16))
    labels = torch.arange(80) % 8
    even = (bodies + bodies[:, :, ::-1]) // 2
    network, x = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 8)), torch.randn(4, 1, 16, 16)
    for shapes, expected in ((even, True), (bodies, False)):
        noisy = np.clip(shapes[labels] + rng.normal(0, 20, (80, 16, 16)), 0, 255).astype(np.uint8)[:, None]
        train = Split(torch.from_numpy(noisy), labels, torch.arange(80))
        fields = {"classes": tuple("abcdefgh"), "input_shape": (1, 16, 16), "medium": medium_of("image")}
        data = cast(Any, SimpleNamespace(splits={"train": train}, **fields))
        task = Embed.make(data, TaskConfig(dimensions=8), "triplet")
        ratio = mirrors_keep_class(data)
        assert (task.mirrored, task.mirror_ratio, ratio >= ENOUGH) == (expected, ratio, expected)
        decided = task.decided(TaskConfig())
        assert (decided.mirrored, decided.turned_classes) == (expected, False)
        made = task.attach(network, (1, 16, 16)).eval()
        outputs = [made(part)[:, :8] for part in (x, x.flip(-1))]
        assert torch.allclose(*outputs, atol=1e-6) is expected
        varied, said = task.augmentation(AugmentConfig(flip=False, crop=1.0), AugmentConfig())
        assert varied.flip is expected
        assert (f"{ratio:.2f} times as often" in said) is expected


def test_turned_images_are_classes_of_their_own_in_training_alone() -> None:
    task = Embed(tuple("abcde"), (0, 2, 3), 4, turned_classes=4)
    still = torch.zeros(4, dtype=torch.bool)
    warp = Warp(still, torch.zeros(4, 2), turns=torch.tensor([0, 1, 2, 3]))
    targets = task.warp_targets(torch.tensor([2, 2, 2, 1]), warp)
    assert targets.tolist() == [2, 7, 12, 16]
    assert [task.target_text(k) for k in targets] == [
        "c",
        "c, rotated by 90°",
        "c, rotated by 180°",
        "b, rotated by 270°",
    ]
    assert float(task.weight(targets)) == 3, "b is not trained, however it is turned"
    assert task.outputs == 4 + 4 * 3
    angles = torch.nn.functional.one_hot(torch.tensor([1, 4, 7, 0]), 12).float()
    right = torch.cat([torch.zeros(4, 4), angles], dim=1)
    assert task.loss(right, targets) < task.loss(right, torch.tensor([2, 2, 2, 1])), "each has a proxy of its own"
    usual, said = task.augmentation(AugmentConfig(), AugmentConfig())
    assert usual.quarter_turns
    assert "rotated by 90, 180 and 270°" in said
    assert Embed.from_state(task.state()) == task


def test_images_that_are_not_square_are_turned_upside_down_alone() -> None:
    task = Embed(tuple("ab"), (0, 1), 4, turned_classes=2)
    warp = Warp(torch.zeros(2, dtype=torch.bool), torch.zeros(2, 2), turns=torch.tensor([0, 2]))
    assert task.warp_targets(torch.tensor([0, 1]), warp).tolist() == [0, 3]
    assert task.outputs == 4 + 2 * 2
    assert task.target_text(torch.tensor(3)) == "b, rotated by 180°"
    assert float(task.weight(torch.tensor([0, 4]))) == 1, "there is no third turn"


def test_few_classes_whose_mirror_images_are_others_are_turned(arrays: Path) -> None:
    data = load_dataset(DataConfig(str(arrays)), annotation="identity")
    count = len(data.splits["train"].targets.unique())
    for mirrored, asked, ways in ((False, None, 4), (True, None, 1), (True, True, 4), (False, False, 1)):
        task = Embed.make(data, TaskConfig(turned_classes=asked, mirrored=mirrored), "arcface")
        assert task.turned_classes == ways
        assert task.outputs == task.dimensions + ways * count
    for loss in ("triplet", "supcon"):
        assert Embed.make(data, TaskConfig(mirrored=False), loss).turned_classes == 1, "samples are compared in pairs"


def test_turned_classes_are_refused_where_nothing_can_be_turned(arrays: Path) -> None:
    data = load_dataset(DataConfig(str(arrays)), annotation="identity")
    table = cast(Any, SimpleNamespace(medium=medium_of("table"), splits=data.splits, input_shape=(8,), classes=("a",)))
    with pytest.raises(ConfigError, match="turned_classes"):
        Embed.make(table, TaskConfig(turned_classes=True, mirrored=False), "arcface")
