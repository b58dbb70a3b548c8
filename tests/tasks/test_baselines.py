"""Baselines on data whose answer is known: agreement with the definition, and honesty about the test split."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from made_data import blobs, line, made_dataset, squares, stripes
from striate.api import baselines
from striate.data.dataset import Split
from striate.errors import ConfigError, DataError
from striate.evaluation.baselines import fit_baselines, refuse_network_fields
from striate.tasks.classify import baselines as classify_baselines
from striate.tasks.config import TaskConfig
from striate.tasks.kmeans_features import learn_kmeans_features
from striate.tasks.registry import make_task
from striate.tasks.regress import baselines as regress_baselines
from striate.tasks.segment import baselines as segment_baselines


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    """Hundreds of trees are for the data of users."""
    monkeypatch.setattr(regress_baselines, "_LEAVES", (4, 8))
    monkeypatch.setattr(regress_baselines, "_TREES", (25, 50))


def fitted(data, seed=0, **task):
    found = fit_baselines(data, make_task(data, TaskConfig(**task)), seed=seed)
    return {baseline.name: baseline for baseline in found}


def with_targets(data, split, targets):
    old = data.splits[split]
    return replace(data, splits=data.splits | {split: Split(old.inputs, targets, old.ids)})


def test_majority_is_the_share_of_the_commonest_training_class():
    data = blobs()
    data = with_targets(data, "train", torch.where(torch.arange(90) % 3 == 0, 0, 2))
    data = with_targets(data, "test", torch.arange(30) % 3)
    majority = fitted(data)["majority class"]
    assert majority.metrics["accuracy"] == 10 / 30  # class 2 of the test split
    assert set(majority.decoded.argmax(1)) == {2}
    assert majority.metrics["top5"] == 1.0
    assert majority.n_train == 90


def test_what_is_separable_is_separated():
    assert fitted(blobs())["logistic regression"].metrics["accuracy"] == 1.0
    gray = fitted(stripes())
    assert gray["HOG + linear SVM"].metrics["accuracy"] == 1.0
    assert gray["k-means features + linear SVM"].metrics["accuracy"] == 1.0
    assert gray["logistic regression"].metrics["accuracy"] < 0.9  # no single pixel tells the direction
    assert fitted(stripes(channels=3))["HOG + color + linear SVM"].metrics["accuracy"] == 1.0


def test_kmeans_features_are_the_definition():
    images = stripes().splits["train"].inputs[:40]
    learned = learn_kmeans_features(images, seed=0)
    size, (height, width) = learned.patch, images.shape[2:]
    codes = np.zeros((2, 2, len(learned.centers)))
    image = images[7, 0].numpy().astype(np.float64)
    for row in range(height - size + 1):
        for column in range(width - size + 1):
            patch = image[row : row + size, column : column + size].ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
            z = (patch - learned.mean.numpy()) @ learned.whiten.numpy()
            far = np.linalg.norm(z - learned.centers.numpy(), axis=1)
            place = int(row >= (height - size + 1) // 2), int(column >= (width - size + 1) // 2)
            codes[place] += np.maximum(0, far.mean() - far)
    expected = (codes.reshape(-1) - learned.center) / learned.std
    np.testing.assert_allclose(learned(images[7:8])[0], expected, atol=2e-3, rtol=1e-3)
    whitened = learned(images)
    assert np.abs(whitened.mean(0)).max() < 1e-3
    again = learn_kmeans_features(images, seed=0)
    np.testing.assert_array_equal(again.centers.numpy(), learned.centers.numpy())


def test_color_is_seen_where_edges_say_nothing():
    data = stripes(channels=3)
    gray = {name: (s.inputs.float().mean(1, keepdim=True).byte(), s.targets) for name, s in data.splits.items()}
    assert fitted(made_dataset("image", "class", gray, ("a", "b")))["HOG + linear SVM"].metrics["accuracy"] < 0.85


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("channels", [1, 3])
def test_shuffled_labels_leave_chance(channels):
    sizes = {"train": 200, "val": 100, "test": 300}
    for baseline in fitted(stripes(channels, 12, shuffled=True, sizes=sizes)).values():
        assert abs(baseline.metrics["accuracy"] - 0.5) < 0.1


def test_figures_have_the_keys_of_the_network_and_an_interval():
    for baseline in fitted(stripes()).values():
        keys = {"n", "accuracy", "macro_f1", "accuracy_interval"}
        assert set(baseline.metrics) == keys | (set() if "SVM" in baseline.name else {"top5"})
        low, high = baseline.metrics["accuracy_interval"]
        assert low <= baseline.metrics["accuracy"] <= high
        document = json.loads(json.dumps(baseline.to_json()))
        assert document["accuracy"] == baseline.metrics["accuracy"]
        assert document["seconds"] >= 0


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize("data", [stripes(), line(), squares()], ids=["classes", "numbers", "masks"])
def test_the_test_split_decides_nothing(data):
    truth = data.splits["test"].targets
    changed = fitted(with_targets(data, "test", truth.flip(0) if data.annotation != "class" else 1 - truth))
    for name, baseline in fitted(data).items():
        assert changed[name].hyperparameters == baseline.hyperparameters
        np.testing.assert_array_equal(changed[name].decoded, baseline.decoded)


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize("data", [stripes(), line(curved=True), squares()], ids=["classes", "numbers", "masks"])
def test_the_same_seed_gives_the_same_answers(data):
    again = fitted(data, seed=3)
    for name, baseline in fitted(data, seed=3).items():
        np.testing.assert_array_equal(again[name].decoded, baseline.decoded)


def test_the_validation_split_decides_the_strength_of_ridge():
    data = line()
    assert fitted(data)["ridge regression"].hyperparameters["alpha"] <= 1
    mean = float(data.splits["train"].targets.mean())
    even = with_targets(data, "val", torch.full((30, 1), mean))
    assert fitted(even)["ridge regression"].hyperparameters["alpha"] == 1e5


def test_numbers_agree_with_their_definition():
    data = line()
    found = fitted(data)
    train, test = data.splits["train"], data.splits["test"]
    error = test.targets.double() - train.targets.double().mean()
    assert found["mean"].metrics["rmse"] == pytest.approx(float(error.square().mean().sqrt()), rel=1e-6)
    x, mean, std = (
        train.inputs.double().numpy(),
        train.inputs.double().mean(0).numpy(),
        train.inputs.double().std(0, correction=0).numpy(),
    )
    model = Ridge(found["ridge regression"].hyperparameters["alpha"]).fit((x - mean) / std, train.targets.numpy())
    expected = model.predict((test.inputs.double().numpy() - mean) / std).reshape(-1, 1)
    np.testing.assert_allclose(found["ridge regression"].decoded, expected, rtol=1e-4, atol=1e-4)
    assert set(found["mean"].metrics) == {"n", "rmse", "rmse_interval", "mae", "r2"}
    assert found["ridge regression"].metrics["rmse"] < 0.1


def test_boosting_finds_what_no_line_does():
    found = fitted(line(curved=True, sizes={"train": 300, "val": 60, "test": 60}))
    assert found["gradient boosting"].metrics["rmse"] < 0.5 * found["ridge regression"].metrics["rmse"]


def test_several_targets_each_have_their_trees():
    data = line()
    for name, split in data.splits.items():
        data = with_targets(data, name, torch.cat([split.targets, split.inputs[:, :1] ** 2], 1))
    data = replace(data, target_names=("a", "b"))
    found = fitted(data)
    assert len(found["gradient boosting"].hyperparameters["trees"]) == 2
    assert found["gradient boosting"].decoded.shape == found["ridge regression"].decoded.shape == (30, 2)


def test_numbers_of_images_have_no_boosting():
    data = stripes()
    splits = {name: (s.inputs, s.inputs.float().mean((1, 2, 3))[:, None]) for name, s in data.splits.items()}
    found = fitted(made_dataset("image", "number", splits))
    assert set(found) == {"mean", "ridge regression"}
    assert found["ridge regression"].metrics["r2"] > 0.9


def test_masks():
    data = squares()
    found = fitted(data)
    assert set(found["majority class"].decoded.ravel()) == {0}
    labeled = data.splits["test"].targets != 255
    share = float((data.splits["test"].targets[labeled] == 0).double().mean())
    assert found["majority class"].metrics["pixel_accuracy"] == pytest.approx(share)
    assert found["random forest on pixels"].metrics["iou"] > 0.9
    assert found["random forest on pixels"].n_train == int((data.splits["train"].targets != 255).sum())


def test_fewer_pixels_are_said(monkeypatch):
    monkeypatch.setattr(segment_baselines, "_PIXELS", 600)
    forest = fitted(squares())["random forest on pixels"]
    assert forest.n_train == 600
    assert forest.note == "Fitted on 600 of the 2,880 labeled pixels, drawn from all images."


def test_large_sets_are_cut_and_the_note_says_so(monkeypatch):
    monkeypatch.setattr(classify_baselines, "CHOICE", 20)
    monkeypatch.setattr(classify_baselines, "_WORK", 0)
    monkeypatch.setattr(classify_baselines, "_LEAST", 40)
    svm = fitted(stripes())["HOG + linear SVM"]
    assert svm.n_train == 40
    assert svm.note == (
        "Fitted on 40 of the 90 training samples, a stratified sample. Hyperparameters were chosen on 20 of them."
    )
    assert svm.metrics["n"] == 30


def test_weights_of_classes_are_followed():
    rng = np.random.default_rng(0)
    splits = {}
    for name, n in {"train": 200, "val": 100, "test": 200}.items():
        targets = (np.arange(n) % 10 == 0).astype(np.int64)
        splits[name] = ((rng.normal(0, 1, (n, 2)) + 0.8 * targets[:, None]).astype(np.float32), targets)
    data = made_dataset("table", "class", splits, ("often", "rare"))
    plain, balanced = (
        fitted(data, class_weights=weights)["logistic regression"].decoded.argmax(1).sum()
        for weights in ("none", "balanced")
    )
    assert balanced > 3 * plain


def test_a_class_without_training_samples_is_never_named():
    data = blobs()
    data = with_targets(data, "train", data.splits["train"].targets.clamp(max=1))
    decoded = fitted(data)["logistic regression"].decoded
    assert decoded.shape == (30, 3)
    assert not decoded[:, 2].any()
    np.testing.assert_allclose(decoded.sum(1), 1, rtol=1e-5)


def test_one_class_alone_is_named_always():
    data = with_targets(stripes(), "train", torch.zeros(90, dtype=torch.int64))
    for baseline in fitted(data).values():
        assert set(baseline.decoded.argmax(1)) == {0}


@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 12, 12)])
def test_no_gradients_where_there_is_no_room_or_no_color(shape):
    rng = np.random.default_rng(0)
    splits = {
        name: (rng.integers(0, 255, (20, *shape), dtype=np.uint8), np.arange(20) % 2)
        for name in ("train", "val", "test")
    }
    assert set(fitted(made_dataset("image", "class", splits, ("a", "b")))) == {"majority class", "logistic regression"}


@pytest.mark.parametrize("shape", [(2, 3000), (1, 40, 50), (1, 12, 12, 12)])
def test_signals_and_volumes(shape):
    rng = np.random.default_rng(0)
    splits = {}
    for name in ("train", "val", "test"):
        targets = np.arange(20) % 2
        x = rng.normal(0, 1, (20, *shape)) + targets.reshape(-1, *[1] * len(shape))
        splits[name] = (x.astype(np.float32), targets)
    found = fitted(made_dataset("grid", "class", splits, ("a", "b")))
    assert set(found) == {"majority class", "logistic regression"}
    assert found["logistic regression"].metrics["accuracy"] == 1.0
    assert "averaged down" in found["logistic regression"].features


def test_nothing_is_warned_of_and_each_is_announced():
    said = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = stripes(shuffled=True)
        fit_baselines(data, make_task(data, TaskConfig()), announce=said.append)
    names = ["majority class", "logistic regression", "HOG + linear SVM", "k-means features + linear SVM"]
    assert said == [f"baseline: {name}" for name in names]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_missing_split_is_refused(split):
    data = blobs()
    data = replace(data, splits={name: s for name, s in data.splits.items() if name != split})
    with pytest.raises(DataError, match=f"no (samples in )?{split}"):
        fit_baselines(data, make_task(blobs(), TaskConfig()))


def test_fields_of_networks_are_refused():
    refuse_network_fields({"data.split_seed": 1, "task.class_weights": "balanced", "seed": 3})
    for name in ("optim.lr", "task.loss", "model.name", "batch", "augment.flip"):
        with pytest.raises(ConfigError, match=f"leave out --{name}"):
            refuse_network_fields({"seed": 0, name: "x"})


def test_data_in_memory_have_the_baselines_that_training_would_show():
    data = blobs()
    inputs = np.concatenate([split.inputs for split in data.splits.values()])
    targets = np.concatenate([split.targets for split in data.splits.values()])
    found = {baseline.name: baseline for baseline in baselines((inputs, targets))}
    assert found["logistic regression"].metrics["accuracy"] == 1.0
    assert "array(" not in repr(found["logistic regression"])
