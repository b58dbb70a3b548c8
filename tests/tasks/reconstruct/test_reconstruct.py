"""Reconstruction as a task: figures, targets, baselines, typical mistakes, images without classes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import striate
from made_data import stripes
from striate.cli import main
from striate.data.config import AugmentConfig, DataConfig
from striate.data.dataset import Dataset, Split
from striate.data.read import load_dataset
from striate.errors import ConfigError, DataError, ModelError
from striate.tasks.evaluation import Evaluation
from striate.tasks.reconstruct.baselines import reconstruct_methods
from striate.tasks.reconstruct.doctor import reconstruction_findings
from striate.tasks.reconstruct.head import CodedNetwork, as_autoencoder
from striate.tasks.reconstruct.metrics import psnr, squared_errors
from striate.tasks.reconstruct.task import Reconstruct
from striate.training.config import RegularizeConfig
from striate.training.objective import divergence_penalty, hidden_activity, refuse_invisible_units


def _images(count: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 6, 6), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def _evaluation(images: torch.Tensor, made: torch.Tensor) -> Evaluation:
    return Evaluation(
        data="made",
        split="test",
        task="reconstruct",
        classes=(),
        n=len(images),
        metrics={},
        decoded=made.numpy(),
        targets=images.numpy(),
        ids=np.arange(len(images)),
        confusion=None,
        per_class=(),
    )


def test_figures_are_those_of_pixels_from_0_to_1() -> None:
    images = torch.tensor([[0, 255], [255, 51]], dtype=torch.uint8).view(2, 1, 1, 2)
    made = torch.tensor([[0.5, 1.0], [1.0, 0.0]]).view(2, 1, 1, 2)
    assert squared_errors(made.numpy(), images.numpy()) == pytest.approx([0.125, 0.02])
    assert psnr(0.01) == pytest.approx(20)
    assert psnr(0.0) is None
    task = Reconstruct((1, 1, 2), "squared")
    found = task.measure(made, images)
    assert found["mse"] == pytest.approx(0.0725)
    assert found["squared_error"] == pytest.approx(0.145)
    assert task.summarize(task.tally(made, images))["mse"] == pytest.approx(0.0725)
    assert float(task.loss(made, images)) == pytest.approx(0.0725)
    logits = made.clamp(1e-6, 1 - 1e-6).logit()
    entropy = Reconstruct((1, 1, 2))
    assert torch.allclose(entropy.decode(logits), made, atol=1e-5)
    truth = images / 255
    expected = nn.functional.binary_cross_entropy_with_logits(logits, truth)
    assert float(entropy.loss(logits, images)) == pytest.approx(float(expected))


def test_noise_is_suggested_where_it_is_not_given() -> None:
    task = Reconstruct((1, 1, 2))
    suggested = [
        "--augment.noise" in task.augmentation(AugmentConfig(), AugmentConfig(noise=noise))[1] for noise in (None, 0.3)
    ]
    assert suggested == [True, False]


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    data = stripes()
    own = Dataset(**(vars(data) | {"splits": {k: Split(s.inputs, s.inputs, s.ids) for k, s in data.splits.items()}}))
    task = Reconstruct(data.input_shape)
    methods = reconstruct_methods(own, code=5)
    assert [method.name for method in methods] == ["mean image", "PCA, 5 components"]
    x, t = (data.splits[name].inputs.reshape(len(data.splits[name]), -1).numpy() / 255.0 for name in ("train", "test"))
    mean = x.mean(0)
    basis = np.linalg.svd(x - mean, full_matrices=False)[2][:5]
    for method, expected in zip(
        methods, (np.tile(mean, (len(t), 1)), mean + (t - mean) @ basis.T @ basis), strict=True
    ):
        found = method.fit(own, task, 0).decoded.reshape(len(t), -1).numpy()
        assert np.abs(found - expected).max() < 1e-4


def test_networks_get_what_they_lack() -> None:
    whole = striate.build("autoencoder(8,3)", (1, 6, 6))
    assert as_autoencoder(whole, (1, 6, 6), 4, logits=True) is whole
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, 36))
    assert as_autoencoder(flat, (1, 6, 6), 4, logits=True) is flat
    made = as_autoencoder(striate.build("mnist-cnn", (3, 16, 24), 10), (3, 16, 24), 4, logits=True)
    assert isinstance(made, CodedNetwork)
    x = torch.zeros(2, 3, 16, 24)
    assert made.body(x).shape == (2, 4)
    assert made(x).shape == x.shape
    with pytest.raises(ModelError, match="values of the image"):
        as_autoencoder(striate.build("conv(3,3)", (1, 6, 6)), (1, 6, 6), 4, logits=True)
    machine = as_autoencoder(striate.build("rbm(4)", (1, 6, 6), 10), (1, 6, 6), 4, logits=True)
    assert machine(torch.zeros(2, 1, 6, 6)).numel() == 72


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        ("one image", "fit.same-image"),
        ("relu", "fit.output-range"),
        ("tanh", "fit.output-range"),
        ("scale", "fit.no-better-than-mean"),
        ("none", None),
        ("blurred", None),
    ],
)
def test_typical_mistakes_are_named(mistake: str, code: str | None) -> None:
    images = _images(200)
    truth = images / 255
    made = {
        "one image": truth.mean(0, keepdim=True).expand(truth.shape),
        "relu": truth.logit(1e-3).relu().sigmoid(),
        "tanh": truth.logit(1e-3).tanh().sigmoid(),
        "scale": 3 * truth,
        "none": truth + 0.01,
        "blurred": 0.5 + 0.6 * (truth - 0.5),
    }[mistake]
    found = reconstruction_findings(_evaluation(images, made))
    assert [finding.code for finding in found] == ([code] if code else [])


def test_one_image_for_all_has_a_remedy_for_any_network() -> None:
    images = _images(200)
    (found,) = reconstruction_findings(_evaluation(images, (images / 255).mean(0, keepdim=True).expand(images.shape)))
    assert "--lr; for a network trained by gradients, striate lr-find" in found.remedy
    assert "leaky in place of relu" in found.remedy


def test_divergence_is_that_of_the_mean_activation() -> None:
    network = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Sigmoid())
    nn.init.zeros_(network[0].weight)
    with hidden_activity(network) as seen:
        network(torch.randn(4, 3))
    expected = 2 * (0.05 * np.log(0.1) + 0.95 * np.log(1.9))
    assert float(divergence_penalty(seen, 0.05).detach()) == pytest.approx(expected)
    refuse_invisible_units(network, RegularizeConfig(kl=0.1), torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="weight for this penalty"):
        refuse_invisible_units(network, RegularizeConfig(kl_target=0.1), torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="logistic"):
        refuse_invisible_units(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), RegularizeConfig(kl=0.1), torch.zeros(1, 3))


def _write(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), number * 5, np.uint8)).save(path)
    return folder


def test_images_need_no_classes(tmp_path: Path) -> None:
    read = lambda source: load_dataset(DataConfig(source=str(source)), annotation="input")  # noqa: E731
    loose = read(_write(tmp_path / "loose", [f"{k}.png" for k in range(20)]))
    assert sum(map(len, loose.splits.values())) == 20
    assert all(split.of_inputs and split.take(torch.arange(1)).of_inputs for split in loose.splits.values())
    names = [f"{split}/{k}.png" for split, n in (("train", 10), ("val", 3), ("test", 4)) for k in range(n)]
    given = read(_write(tmp_path / "given", names))
    assert {name: len(split) for name, split in given.splits.items()} == {"train": 10, "val": 3, "test": 4}
    (tmp_path / "loose" / "list.csv").write_text("path\n" + "\n".join(f"{k}.png" for k in range(20)) + "\n")
    assert sum(map(len, read(tmp_path / "loose" / "list.csv").splits.values())) == 20
    classes = read(_write(tmp_path / "classes", [f"{c}/{k}.png" for c in "ab" for k in range(c == "b", 20, 2)]))
    assert set(classes.facts["train"].columns["class"]) == {"a", "b"}
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.savez(tmp_path / "alone.npz", x=images)
    np.savez(tmp_path / "splits.npz", x_train=images, x_test=255 - images)
    assert sum(map(len, read(tmp_path / "alone.npz").splits.values())) == 20
    assert len(read(tmp_path / "splits.npz").splits["test"]) == 20
    with pytest.raises(DataError, match="--task reconstruct"):
        load_dataset(DataConfig(source=str(tmp_path / "alone.npz")))
    np.savez(tmp_path / "table.npz", x=images[:, 0])
    (tmp_path / "volumes").mkdir()
    np.save(tmp_path / "volumes" / "0.npy", images)
    for others in ("iris", tmp_path / "table.npz", tmp_path / "volumes"):
        with pytest.raises(DataError, match="images whose pixels"):
            read(others)


def test_measured_numbers_as_labels_leave_no_split_empty(tmp_path: Path) -> None:
    _write(tmp_path, [f"{k}.png" for k in range(40)])
    rows = "".join(f"{k}.png,{'often' if k < 10 else k + 0.5}\n" for k in range(40))
    (tmp_path / "list.csv").write_text(f"path,label\n{rows}")
    data = load_dataset(DataConfig(source=str(tmp_path / "list.csv")), annotation="input")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 28, "val": 4, "test": 8}
    assert data.facts["test"].columns["class"].count("often") == 2


def test_a_manifest_with_many_rows_per_image_has_one_sample_per_image(tmp_path: Path) -> None:
    _write(tmp_path, [f"{k}.png" for k in range(20)])
    source = tmp_path / "list.csv"
    rows = [f"{k}.png,caption {row} of {k},camera {k % 2}" for row in range(2) for k in range(20)]
    source.write_text("\n".join(["path,caption,camera", *rows]) + "\n")
    data = load_dataset(DataConfig(source=str(source)), annotation="input")
    assert len(data.rows) == 20
    assert list(data.facts["train"].columns) == ["camera"]
    source.write_text("path,split\n" + "".join(f"{k}.png,{split}\n" for k in range(20) for split in ("train", "val")))
    with pytest.raises(DataError, match=r"0\.png in another split or group than above"):
        load_dataset(DataConfig(source=str(source)), annotation="input")


def test_splits_are_those_of_the_same_data_with_classes() -> None:
    own = load_dataset(DataConfig(source="digits"), annotation="input")
    labeled = load_dataset(DataConfig(source="digits"))
    assert all(torch.equal(own.splits[name].ids, labeled.splits[name].ids) for name in labeled.splits)


@pytest.mark.slow
def test_a_trained_code_is_searched_and_begins_a_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, again = tmp_path / "ae", tmp_path / "classes"
    options = ["--plan", "plain", "--seed", "1"]
    network = "fc(64) relu code(16)"
    words = ["digits", "--task", "reconstruct", "--model", network, "--epochs", "30", *options, "--out", str(run)]
    assert main(["train", *words, "--augment.noise", "0.3", "--baseline"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    by_name = {entry["name"]: entry for entry in metrics["baselines"]}
    assert metrics["test"]["mse"] < 0.5 * by_name["mean image"]["mse"]
    assert main(["train", "digits", "--weights", str(run), "--epochs", "5", *options, "--out", str(again)]) == 0
    said = capsys.readouterr()
    assert "not the decoder" in said.out + said.err
    assert json.loads((again / "metrics.json").read_text())["model"] == "fc(64) relu code(16) fc(10)"
    folder = _write(tmp_path / "files", [f"{k}.png" for k in range(6)])
    assert main(["search", str(run), str(folder / "0.png"), "--in", str(folder), "--json"]) == 0
    hits = json.loads(capsys.readouterr().out.splitlines()[0])["hits"]
    assert Path(hits[0][0]).name == "1.png"  # the next gray; the query itself is no hit
    assert main(["predict", str(run), str(folder / "3.png"), "--json", "--draw", str(tmp_path / "drawn")]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"path", "mse", "drawn"}


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(os.environ.get("STRIATE_DATA", "")) / "mnist").is_dir(), reason="STRIATE_DATA has no mnist"
)
def test_components_of_mnist_have_the_published_error() -> None:
    # Hinton and Salakhutdinov 2006: 13.87 for 30 components.
    data = load_dataset(DataConfig(source="mnist"), annotation="input")
    task = Reconstruct(data.input_shape)
    made = reconstruct_methods(data)[1].fit(data, task, 0).decoded
    assert task.measure(made, data.splits["test"].all_targets())["squared_error"] == pytest.approx(13.87, abs=0.05)
