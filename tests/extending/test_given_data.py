"""Data that a call of Python gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import striate
from striate.api import resume
from striate.cli.main import main
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources import objects
from striate.data.sources.objects import given_data
from striate.doctor.in_options import in_options
from striate.errors import DataError, UsageError
from striate.records import Finding, Remedy
from striate.training.config import Config

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (60, 6, 6), dtype=np.uint8), np.arange(60) % 3
WORDS = np.array(["a", "b", "c"])[LABELS]
PLAIN = {"execution.plan": "plain"}


class Pictures(Dataset):
    """Pictures of PIL with class numbers, as torchvision's datasets have them."""

    classes = ("cat", "dog", "owl")

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.fromarray(IMAGES[number]), int(LABELS[number])


def read(data: object) -> striate.data.dataset.Dataset:
    with given_data(data) as source:
        return load_dataset(DataConfig(source=source))


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, LABELS),
        [torch.from_numpy(IMAGES), torch.from_numpy(LABELS)],
        (IMAGES[:, None], LABELS.tolist()),
        (IMAGES[..., None], LABELS),
        (list(IMAGES), list(LABELS)),
        TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
        DataLoader(TensorDataset(torch.from_numpy(IMAGES)[:, None] / 255, torch.from_numpy(LABELS)), batch_size=7),
    ],
    ids=["arrays", "tensors", "channels first", "channels last", "lists", "dataset", "loader of floats"],
)
def test_all_forms_are_the_same_samples_as_those_of_an_npz(data: object) -> None:
    np.savez("same.npz", x=IMAGES, y=LABELS)
    expected, found = load_dataset(DataConfig(source="same.npz")), read(data)
    assert found.kind == "image"
    for name, split in expected.splits.items():
        assert torch.equal(found.splits[name].inputs[:], split.inputs[:])
        assert torch.equal(found.splits[name].targets, split.targets)


@pytest.mark.parametrize(
    "names",
    [WORDS.astype(object), pd.Series(WORDS), pd.Series(WORDS).to_numpy(), pd.Categorical(WORDS)],
    ids=["objects", "series", "its array", "categorical"],
)
def test_texts_in_an_array_of_objects_are_classes(names: object) -> None:
    data = read((IMAGES, names))
    assert data.classes == ("a", "b", "c")
    assert torch.equal(data.splits["train"].targets, read((IMAGES, WORDS)).splits["train"].targets)
    assert read((IMAGES, LABELS.astype(object))).classes == ("0", "1", "2")


def test_a_dataset_names_its_classes() -> None:
    data = read(Pictures())
    assert data.classes == ("cat", "dog", "owl")
    assert data.name == "Pictures"


def test_a_loader_says_that_only_its_dataset_counts() -> None:
    assert any("order and size of batches" in note for note in read(DataLoader(Pictures(), batch_size=4)).notes)


class Drawn(Sampler[int]):
    """Random ones of the first 20 samples: all of these, or as many as `most`."""

    def __init__(self, most: int = 20) -> None:
        self.most = most

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(20)[: self.most].tolist())


TENSORS = TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS))


@pytest.mark.parametrize(
    ("drawn", "expected", "varies"),
    [
        ({"sampler": SubsetRandomSampler(range(10, 40))}, range(10, 40), False),
        ({"sampler": SubsetRandomSampler(range(30), generator=torch.Generator()), "drop_last": True}, range(30), False),
        ({"batch_sampler": BatchSampler(SubsetRandomSampler(range(9)), 4, True)}, range(9), False),
        ({"batch_sampler": [[1, 2], [3, 4]]}, range(1, 5), False),
        ({"sampler": WeightedRandomSampler([1.0] * 20 + [0.0] * 40, 60)}, range(20), False),
        ({"sampler": RandomSampler(Subset(TENSORS, range(7)))}, range(7), False),
        ({"sampler": RandomSampler(TENSORS, num_samples=9)}, None, True),
        ({"sampler": RandomSampler(TENSORS, replacement=True)}, None, False),
        ({"sampler": DistributedSampler(TENSORS, 2, 1)}, None, False),
        ({"shuffle": True}, None, False),
        ({"batch_size": None}, None, False),
        ({"sampler": Drawn()}, range(20), False),
        ({"sampler": Drawn(10)}, None, True),
    ],
    ids=lambda value: next(iter(value.values())).__class__.__name__ if isinstance(value, dict) else "",
)
def test_the_samples_that_a_loader_draws_are_taken(drawn: dict[str, Any], expected: range | None, varies: bool) -> None:
    loader = DataLoader(TENSORS, **drawn)
    state = torch.get_rng_state()
    chosen, notes = objects._drawn_by(loader, "data")
    assert torch.equal(torch.get_rng_state(), state)
    assert chosen == (None if expected is None else list(expected))
    assert ("other samples in each epoch" in notes[0]) == varies


def test_loaders_over_one_dataset_are_splits() -> None:
    parts = {"train": range(30), "val": range(30, 45), "test": range(45, 60)}
    data = read({name: DataLoader(TENSORS, sampler=SubsetRandomSampler(part)) for name, part in parts.items()})
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 30, "val": 15, "test": 15}
    assert torch.equal(data.splits["test"].inputs[:][:, 0], torch.from_numpy(IMAGES[45:]))
    copies = {"train": (IMAGES, LABELS), "test": (IMAGES[:20], LABELS[:20])}
    leak = next(finding for finding in read(copies).findings if finding.code == "data.leak")
    assert "striate data check" not in leak.remedy
    assert any("30 of 60 samples that its SubsetRandomSampler draws" in note for note in data.notes)


def test_a_remedy_names_no_command_for_data_that_lie_in_no_file() -> None:
    remedy = Remedy("Decode once.", command=("data", "pack", "DATA"), advice="smaller images")
    finding = Finding("speed.input-bound", "warning", "metrics.csv", "", "", "", remedy)
    config = replace(Config(), data=DataConfig(source="given in Python: arrays 0"))
    assert in_options(finding, config).remedy == "Smaller images"


def test_splits_are_kept() -> None:
    data = read({"train": (IMAGES[:40], LABELS[:40]), "validation": Pictures(), "test": (IMAGES[40:], LABELS[40:])})
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "val": 60, "test": 20}


class Endless(IterableDataset):
    def __iter__(self) -> object:
        return iter(Pictures())


class Uneven(Pictures):
    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return np.zeros((4, 5 if number == 7 else 4), np.uint8), 0


class Single(Pictures):
    def __getitem__(self, number: int) -> np.ndarray:
        return IMAGES[number]


class Empty(Pictures):
    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (Endless(), "can only be iterated over"),
        (DataLoader(Endless()), "can only be iterated over"),
        (DataLoader(Pictures(), collate_fn=lambda batch: batch), "collate_fn(.|\n)*loader.dataset"),
        (DataLoader(Pictures(), sampler=SubsetRandomSampler([])), "draws nothing"),
        (DataLoader(Pictures(), sampler=SubsetRandomSampler([3, 60])), "numbers from 0 to 59"),
        (Uneven(), r"data\[7\](.|\n)*\(4, 5\), and \(4, 4\) in sample 0"),
        (Single(), r"without targets(.|\n)*task='reconstruct'"),
        (Empty(), "without samples"),
        (IMAGES, r"without targets(.|\n)*\(x, y\)"),
        (LABELS, r"a ndarray(.|\n)*\(x, y\)"),
        ((IMAGES, LABELS[:5]), "as many targets"),
        ((torch.zeros(4, 6, 6, dtype=torch.bfloat16), [0, 1, 0, 1]), r"x\.float\(\)"),
        (({"a": 1}, LABELS), "Python objects"),
        ((IMAGES, np.array(["cat", None] * 30, dtype=object)), r"NoneType and str(.|\n)*only texts"),
        ({"trian": (IMAGES, LABELS)}, "a mapping with trian"),
        ({}, "a mapping with nothing"),
        (3, "an? int"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_are_no_data(data: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(data)


@pytest.mark.parametrize("data", [IMAGES, Single(), TensorDataset(torch.from_numpy(IMAGES))], ids=["x", "own", "torch"])
def test_inputs_alone_train_an_autoencoder(data: object) -> None:
    with given_data(data) as source, given_data({"train": (IMAGES, LABELS)}) as labeled:
        found = load_dataset(DataConfig(source=source), annotation="input")
        expected = load_dataset(DataConfig(source=labeled), annotation="input")
    assert sum(len(split) for split in found.splits.values()) == 60
    assert found.input_shape == expected.input_shape


def test_what_a_dataset_raises_is_told_with_the_sample() -> None:
    class Broken(Pictures):
        def __getitem__(self, number: int) -> tuple[Image.Image, int]:
            return super().__getitem__(number) if number != 7 else {}["label"]

    with pytest.raises(KeyError) as caught:
        read(Broken())
    assert caught.value.__notes__ == ["for sample 7 of data: Broken.__getitem__(7)"]


def test_a_run_says_so_and_asks_for_them_again(capsys: pytest.CaptureFixture[str]) -> None:
    run = striate.train((IMAGES, LABELS), "mlp(4)", epochs=1, out="r", set=PLAIN)
    assert not objects._held
    source = yaml.safe_load(Path("r/config.yaml").read_text())["data"]["source"]
    assert source.startswith("given in Python: arrays ")
    with pytest.raises(DataError, match=r"striate\.evaluate\(run, \(x, y\)\)"):
        striate.evaluate(run)
    with pytest.raises(DataError, match=r"other functions need a file: np\.savez\('data\.npz', x=x, y=y\)"):
        striate.show(run, "embedding")
    assert main(["eval", "r"]) == 2
    assert "given in Python" in capsys.readouterr().err
    assert main(["train", "--config", "r/config.yaml", "--out", "again"]) == 2
    assert "striate.train((x, y), config='RUN/config.yaml')" in " ".join(capsys.readouterr().err.split())
    assert main(["verify", "r"]) == 0  # its files
    assert "data given in Python" in " ".join("".join(capsys.readouterr()).split())
    with pytest.raises(DataError, match="a TensorDataset"):
        run.load().predict(TENSORS)  # type: ignore[call-overload]
    assert striate.evaluate(run, (IMAGES, LABELS)).metrics == run.metrics["test"]
    trained = run.load()
    assert striate.evaluate(trained, (IMAGES, LABELS)).metrics == run.metrics["test"]
    for one in (run, trained):  # other data, all of them
        other = striate.evaluate(one, (IMAGES[:9], LABELS[:9]))
        assert other.n == 9
        assert [finding.code for finding in other.findings] == ["data.leak"]
        assert "were in the training split" in " ".join(str(other).split())
    assert trained.predict(IMAGES[0] / np.float32(255)).fields == trained.predict(IMAGES[0]).fields
    with pytest.raises(DataError, match="float32"):
        trained.predict(IMAGES[0] / np.float32(256))
    assert resume("r", data=(IMAGES, LABELS), quiet=True).metrics == run.metrics
    with pytest.raises(DataError, match="data other than those of r"):
        resume("r", data=(IMAGES[:9], LABELS[:9]), quiet=True)


@pytest.mark.slow
def test_a_cross_validation_of_arrays() -> None:
    run = striate.train((IMAGES, LABELS), "mlp(4)", epochs=1, out="cv", cv="2x1", set=PLAIN)
    assert run.metrics["cv"]["n"] == 60


class ClassLabel:
    """As that of Hugging Face's datasets."""

    names = ("cat", "dog", "owl")


class Rows:
    """What is used of a Dataset of Hugging Face: rows by number, features by column."""

    def __init__(self, image: str = "image", count: int = 60) -> None:
        self.image, self.count = image, count
        self.features = {image: object(), "label": ClassLabel(), "id": object()}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, object]:
        return {self.image: Image.fromarray(IMAGES[number]), "label": int(LABELS[number]), "id": f"row {number}"}


def test_rows_with_columns_are_samples() -> None:
    found, expected = read(Rows()), read((IMAGES, LABELS))
    assert found.classes == ("cat", "dog", "owl")
    assert torch.equal(found.splits["test"].inputs[:], expected.splits["test"].inputs[:])
    by_split = read({"train": Rows(count=40), "validation": Rows(count=10), "test": Rows(count=9)})
    assert {name: len(split) for name, split in by_split.splits.items()} == {"train": 40, "val": 10, "test": 9}


def test_rows_whose_columns_nobody_knows_are_asked_back() -> None:
    with pytest.raises(DataError, match="photo, label and id") as caught:
        read(Rows("photo"))
    assert "rename_columns" in caught.value.remedy


def test_arrays_are_checked_and_planned_as_files_are() -> None:
    x = np.concatenate([IMAGES, IMAGES[:3]])
    found = striate.check_data((x, np.append(LABELS, LABELS[:3])))
    assert any(finding.code == "data.duplicates" for finding in found.findings), found.findings
    assert "63 samples" in str(found)
    assert len(str(found)) < 2000
    with pytest.raises(UsageError, match="in memory"):
        striate.pack((IMAGES, LABELS))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="in memory"):
        striate.api.pack_shards((IMAGES, LABELS), "shards")  # type: ignore[arg-type]
    assert striate.plan_training((IMAGES, LABELS), "mlp(4)", seconds=0.1).data == "arrays"
    assert not objects._held
