"""Memory, pack and stream give the same batches, the same normalization and the same verdicts, bit for bit."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data.config import DataConfig
from striate.data.dataset import Dataset, Split, join_splits
from striate.data.loader import batches, epoch_order, to_device
from striate.data.normalize import measure_normalization
from striate.data.read import load_dataset, load_for_evaluation
from striate.data.store.stored import StoredInputs, channel_sums
from striate.errors import ConfigError, DataError

STORES = ("memory", "pack", "stream")


def write_pictures(root: Path, each: int = 30) -> Path:
    """Two classes of noise in several sizes, as PNG and JPEG, one of them turned by its EXIF, one gray."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 256, (10 + i % 5, 12 + k, 3), dtype=np.uint8)
            image = Image.fromarray(pixels)
            exif = Image.Exif()
            exif[0x0112] = 1 + i % 8
            if i % 2:
                image.save(root / name / f"{i:02}.jpg", exif=exif)
            else:
                (image.convert("L") if i % 4 else image).save(root / name / f"{i:02}.png")
    return root


def load(root: Path, store: str, **fields) -> Dataset:
    config = DataConfig(source=str(root), store=store, packs=str(root.parent / "packs"), **fields)
    return load_dataset(config)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    root = write_pictures(tmp_path_factory.mktemp("stores") / "pictures")
    (root / "cat" / "cut.jpg").write_bytes((root / "cat" / "01.jpg").read_bytes()[:-60])
    return {store: load(root, store, size=(9, 8)) for store in STORES}


def test_each_store_is_what_was_asked_for(trio: dict[str, Dataset]) -> None:
    assert {store: data.store for store, data in trio.items()} == {store: store for store in STORES}
    kinds = [isinstance(data.splits["train"].inputs, StoredInputs) for data in trio.values()]
    assert kinds == [False, True, True]


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_are_the_same_in_any_order_and_part(trio: dict[str, Dataset], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["train", "val", "test"]))
    size = data.draw(st.integers(1, 50))
    first = data.draw(st.integers(0, 4))
    stop = data.draw(st.none() | st.integers(0, 6))
    seed = data.draw(st.none() | st.integers(0, 99))
    results = []
    for one in trio.values():
        split = one.splits[name]
        order = None if seed is None else epoch_order(len(split), seed, 0)
        results.append(list(batches(split, size, order=order, first=first, stop=stop)))
    for other in results[1:]:
        assert len(other) == len(results[0])
        for a, b in zip(results[0], other, strict=True):
            assert b.inputs.dtype == torch.uint8
            assert torch.equal(a.inputs, b.inputs)
            assert torch.equal(a.targets, b.targets)
            assert torch.equal(a.ids, b.ids)


@given(rows=st.lists(st.integers(0, 9), max_size=20))
@settings(max_examples=15)
def test_indexing_is_that_of_a_tensor(trio: dict[str, Dataset], rows: list[int]) -> None:
    whole = trio["memory"].splits["train"].inputs
    chosen, mask = torch.tensor(rows, dtype=torch.int64), torch.arange(len(whole)) % 3 == 0
    for store in ("pack", "stream"):
        stored = trio[store].splits["train"].inputs
        assert (stored.shape, stored.ndim, stored.dtype, stored.device) == (whole.shape, 4, whole.dtype, whole.device)
        for key in (chosen, mask, slice(3, 7), slice(None), slice(0, 0), 2, -1, np.array([1, 0])):
            assert torch.equal(stored[key], whole[key])
        assert torch.equal(stored.take(mask)[:], whole[mask])


def test_splits_contents_verdicts_and_normalization_are_the_same(trio: dict[str, Dataset]) -> None:
    memory = trio["memory"]
    unreadable = [row.path for row in memory.rows if row.split == "unreadable"]
    assert unreadable == ["cat/cut.jpg"]
    for data in trio.values():
        assert data.rows == memory.rows
        assert data.contents == memory.contents
        assert [f for f in data.findings if f.code == "data.unreadable"] == [
            f for f in memory.findings if f.code == "data.unreadable"
        ]
        assert measure_normalization(data.splits["train"]) == measure_normalization(memory.splits["train"])


def test_files_that_fail_in_their_pixels_move_others_in_each_store_alike(tmp_path: Path) -> None:
    root, rng = tmp_path / "pictures", np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(20):
            file = root / name / f"{i:02}.png"
            Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(file)
            if i % 4 == 0:  # the header is read, the pixels are not
                file.write_bytes(file.read_bytes()[:-40])
    memory, *others = (load(root, store) for store in STORES)
    assert sum(row.split == "unreadable" for row in memory.rows) == 10
    for other in others:
        assert other.fingerprint == memory.fingerprint
        for name, split in memory.splits.items():
            assert torch.equal(other.splits[name].ids, split.ids)
            assert torch.equal(other.splits[name].inputs[:], split.inputs)


def test_normalization_is_that_of_all_pixels(trio: dict[str, Dataset]) -> None:
    x = trio["memory"].splits["train"].inputs.double()
    measured = measure_normalization(trio["stream"].splits["train"])
    assert measured.mean == pytest.approx(x.mean((0, 2, 3)).tolist(), rel=1e-13)
    assert measured.std == pytest.approx(x.std((0, 2, 3), correction=0).tolist(), rel=1e-13)


@given(shape=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
def test_sums_by_channel_are_whole_numbers(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    wide = x.astype(np.int64)
    assert np.array_equal(channel_sums(x), np.stack([wide.sum((2, 3)), (wide**2).sum((2, 3))], axis=-1))


def test_a_fingerprint_follows_the_sort_that_a_run_has(trio: dict[str, Dataset], tmp_path: Path) -> None:
    contents, root = trio["memory"].fingerprint, Path(trio["memory"].source)
    assert contents == trio["pack"].fingerprint == trio["stream"].fingerprint
    pixels = load(root, "memory", size=(9, 8), fingerprint="of pixels, of a run of an earlier version").fingerprint
    assert pixels != contents
    assert load(root, "stream", size=(9, 8), fingerprint=pixels).fingerprint == pixels
    assert load(root, "pack", size=(9, 8), fingerprint="no such one").fingerprint == pixels
    assert load(root, "memory", size=(9, 8), fingerprint=contents).fingerprint == contents
    assert load(root, "stream", size=(9, 7)).fingerprint != contents
    assert load(root, "stream", size=(9, 8), split_seed=1).fingerprint != contents


def test_arrays_are_stored_like_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 256, (40, 6, 5), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "arrays.npz", x=x, y=y)
    for size in (None, (4, 7)):
        made = [load(tmp_path / "arrays.npz", store, size=size).splits["train"] for store in STORES]
        for other in made[1:]:
            assert torch.equal(made[0].inputs, other.inputs[:])


def test_evaluation_reads_from_each_store(trio: dict[str, Dataset]) -> None:
    root = Path(trio["memory"].source)
    config = DataConfig(source=str(root), packs=str(root.parent / "packs"))
    found = []
    for store in STORES:
        config = DataConfig(source=str(root), store=store, packs=str(root.parent / "packs"))
        preparation = trio["memory"].preparation
        found.append(load_for_evaluation(config, preparation, ("cat", "dog"), "class").splits["all"])
    assert torch.equal(found[0].inputs, found[1].inputs[:])
    assert torch.equal(found[0].inputs, found[2].inputs[:])


def test_splits_are_joined_without_reading(trio: dict[str, Dataset]) -> None:
    for data in trio.values():
        joined = join_splits([data.splits["val"], data.splits["train"]]).take(torch.tensor([4, 0]))
        both = torch.cat([data.splits["val"].inputs[:], data.splits["train"].inputs[:]])
        assert torch.equal(joined.inputs[:], both[[4, 0]])


def test_what_is_no_image_stays_in_memory() -> None:
    for store in ("pack", "stream"):
        with pytest.raises(ConfigError, match="memory: tables cannot be packed or streamed"):
            load_dataset(DataConfig(source="iris", store=store))


def test_a_stream_refuses_a_file_that_has_changed(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "pictures", 8)
    split = load(root, "stream").splits["train"]
    for file in root.rglob("*.*"):
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(DataError, match="has changed"):
        list(batches(split, 4))
    for file in root.rglob("*.*"):
        file.unlink()
    with pytest.raises(DataError, match="not a regular file"):
        split.inputs[:1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("striate")]


@pytest.mark.parametrize("store", ["pack", "stream"])
def test_threads_end_with_the_batches(trio: dict[str, Dataset], store: str) -> None:
    split = to_device(trio[store].splits["train"], torch.device("cpu"))
    before = threading.active_count()
    passing = batches(split, 2)
    next(passing)
    assert threading.active_count() > before
    passing.close()
    assert threading.active_count() == before
    for _ in batches(split, 2):
        break

    def fail(split: Split) -> None:
        for _ in batches(split, 2):
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        fail(split)
    assert threading.active_count() == before
