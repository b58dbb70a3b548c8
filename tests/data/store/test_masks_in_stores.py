"""Images with masks: memory, pack and stream give the same pixels, the same targets and the same trained weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.loader import batches, epoch_order
from striate.data.materialize import Room
from striate.data.pack_data import pack_data
from striate.data.read import load_dataset, load_for_evaluation
from striate.data.store.pack import Pack, block_digest
from striate.data.store.stored import StoredInputs
from striate.errors import DataError
from striate.runs.checkpoint import load_checkpoint

STORES = ("memory", "pack", "stream")


def write_masks(root: Path, count: int = 24, *, seed: int = 0) -> Path:
    """Images of several sizes, some of them turned by their EXIF, with masks of three values and some of 255."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        height, width = 24 + i % 5, 20 + i % 3
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = rng.choice(np.array([0, 1, 7, 255], np.uint8), (height, width), p=[0.5, 0.3, 0.1, 0.1])
        exif = Image.Exif()
        exif[0x0112] = 1 if i % 4 else 6
        Image.fromarray(pixels).save(root / "images" / f"{i:02}.png", exif=exif)
        Image.fromarray(mask).save(root / "masks" / f"{i:02}.png", exif=exif)
    return root


def load(root: Path, store: str, **fields) -> Dataset:
    return load_dataset(DataConfig(source=str(root), store=store, packs=str(root.parent / "packs"), **fields))


def packs_of(root: Path) -> list[Path]:
    """The packs beside the data: that of the images, and that of the masks."""
    shapes = {path: json.loads((path / "pack.json").read_text())["shape"] for path in (root.parent / "packs").iterdir()}
    return sorted(shapes, key=lambda path: shapes[path][1], reverse=True)


def assert_same(a: Dataset, b: Dataset) -> None:
    assert (a.rows, a.contents, a.classes) == (b.rows, b.contents, b.classes)
    for name, split in a.splits.items():
        other = b.splits[name]
        assert torch.equal(split.ids, other.ids)
        assert torch.equal(split.targets, other.targets)
        assert torch.equal(split.inputs[:], other.inputs[:])


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_each_store_gives_the_same_images_and_masks(tmp_path: Path, fit: str) -> None:
    root = write_masks(tmp_path / "streets")
    trio = [load(root, store, size=(18, 20), fit=fit) for store in STORES]
    assert [data.store for data in trio] == list(STORES)
    assert [isinstance(data.splits["train"].inputs, StoredInputs) for data in trio] == [False, True, True]
    assert trio[0].classes == ("0", "1", "7")
    for other in trio[1:]:
        assert_same(trio[0], other)
        split = other.splits["train"]
        assert isinstance(split.targets, torch.Tensor)
        assert split.targets.dtype == torch.uint8
        order = epoch_order(len(split), 3, 1)
        pairs = zip(batches(trio[0].splits["train"], 5, order=order), batches(split, 5, order=order), strict=True)
        assert all(torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) for a, b in pairs)
    assert trio[0].fingerprint == trio[1].fingerprint == trio[2].fingerprint


def test_a_value_that_is_lost_in_resizing_is_a_class_in_each_store(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "streets", 9)
    for file in (root / "masks").iterdir():
        with Image.open(file) as old:
            exif, mask = old.getexif(), np.zeros_like(np.asarray(old))
        mask[: len(mask) // 2], mask[-1, -1] = 1, 9
        Image.fromarray(mask).save(file, exif=exif)
    for store in STORES:
        assert load(root, store, size=(4, 4)).classes == ("0", "1", "9")


def test_what_cannot_be_read_is_told_the_same_in_each_store(tmp_path: Path) -> None:
    root = tmp_path / "streets"
    for seed, part in enumerate(("train", "val", "test")):
        write_masks(root / part, 8, seed=seed)
    for cut in (root / "train" / "masks" / "03.png", root / "test" / "images" / "05.png"):
        cut.write_bytes(cut.read_bytes()[:-100])
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "test" / "masks" / "05.png")  # no more is asked of it
    trio = [load(root, store, size=(18, 20)) for store in STORES]
    lost = [row.path for row in trio[0].rows if row.split == "unreadable"]
    assert lost == ["test/images/05.png", "train/images/03.png"]
    for other in trio[1:]:
        assert_same(trio[0], other)
        assert [f for f in other.findings if f.code == "data.unreadable"] == [
            f for f in trio[0].findings if f.code == "data.unreadable"
        ]


@pytest.mark.parametrize("store", STORES)
def test_a_mask_of_another_size_is_refused_by_name(tmp_path: Path, store: str) -> None:
    root = write_masks(tmp_path / "streets", 9)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "masks" / "04.png")
    with pytest.raises(DataError, match=r"(?s)masks/04\.png.*3 × 3 pixels"):
        load(root, store)
    assert not list((tmp_path / "packs").glob("*[0-9a-f]"))


def test_packing_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.data.store.stored.BLOCK_BYTES", 4_000)
    root = write_masks(tmp_path / "streets")
    whole = load(root, "memory", size=(18, 20))
    seen: list[str] = []

    def stops(*block) -> str:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(block_digest(*block))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr("striate.data.store.build.block_digest", stops)
        with pytest.raises(KeyboardInterrupt):
            load(root, "pack", size=(18, 20))
    (building,) = (tmp_path / "packs").glob("*.building")
    assert (building / "blocks.jsonl").read_text().count("\n") == 2
    assert_same(whole, load(root, "pack", size=(18, 20)))
    assert len(packs_of(root)) == 2


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("which", [0, 1], ids=["images", "masks"])
@pytest.mark.parametrize("store", ["memory", "pack"])
def test_a_damaged_pack_is_never_believed(tmp_path: Path, which: int, store: str) -> None:
    root = write_masks(tmp_path / "streets")
    whole = load(root, "memory", size=(18, 20))
    load(root, "pack", size=(18, 20))
    file = packs_of(root)[which] / "inputs"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert_same(whole, load(root, store, size=(18, 20)))


def test_a_pack_of_masks_goes_with_its_images(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "streets")
    config = DataConfig(source=str(root), packs=str(tmp_path / "packs"), size=(18, 20))
    packed = pack_data(config)
    images, masks = packs_of(root)
    assert (packed.path, packed.images) == (images, 24)
    assert packed.bytes == sum(file.stat().st_size for path in (images, masks) for file in path.iterdir())
    source = load(root, "pack", size=(18, 20)).splits["train"].inputs.source
    assert isinstance(source, Pack)
    assert source.masks == masks
    before = load(root, "memory", size=(18, 20))
    assert any("read from the pack" in note for note in before.notes)
    mask = root / "masks" / "01.png"
    with Image.open(mask) as old:
        even = np.full_like(np.asarray(old), 7)
    Image.fromarray(even).save(mask)
    pack_data(config)
    assert len(packs_of(root)) == 3  # the images are the same: they are not packed again


def test_images_go_where_there_is_room_and_masks_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_masks(tmp_path / "streets")
    inputs = 24 * 3 * 18 * 20
    for disk, store in ((10 * inputs, "pack"), (0, "stream")):
        monkeypatch.setattr("striate.data.materialize.measure_room", lambda _, disk=disk: Room(inputs, inputs, disk))
        config = DataConfig(source=str(root), size=(18, 20), packs=str(tmp_path / f"packs {store}"))
        data = load_dataset(config)
        assert data.store == store
        assert isinstance(data.splits["train"].targets, torch.Tensor)
        assert any("GB of inputs" in note for note in data.notes)


def test_other_data_are_read_from_each_store(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "streets")
    trained = load(root, "memory", size=(18, 20))
    other = write_masks(tmp_path / "others", 6, seed=1)
    found = []
    for store in STORES:
        config = DataConfig(source=str(other), store=store, packs=str(tmp_path / "packs"))
        found.append(load_for_evaluation(config, trained.preparation, trained.classes, "mask"))
    for one in found[1:]:
        assert_same(found[0], one)


def test_arrays_with_masks_are_stored_like_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 256, (30, 8, 7), dtype=np.uint8), rng.integers(0, 3, (30, 8, 7), dtype=np.uint8)
    np.savez(tmp_path / "arrays.npz", x=x, y=y)
    for size in (None, (4, 7)):
        trio = [load(tmp_path / "arrays.npz", store, size=size) for store in STORES]
        for other in trio[1:]:
            assert_same(trio[0], other)


def test_a_stream_refuses_an_image_that_has_changed(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "streets")
    split = load(root, "stream").splits["train"]
    for file in (root / "images").iterdir():
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(DataError, match="has changed"):
        list(batches(split, 4))


@pytest.mark.slow
def test_training_has_the_same_bits_from_each_store(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "streets")
    weights = []
    for store in STORES:
        fields = {
            "data.store": store,
            **({} if store == "stream" else {"data.packs": str(tmp_path / "packs")}),
            "execution.plan": "plain",
            "execution.threads": 1,
            "augment.flip": True,
            "augment.shift": 2,
        }
        out = tmp_path / store
        striate.train(root, "conv(4,3,pad=same) relu conv(3,1)", epochs=2, batch=5, size=(16, 16), out=out, set=fields)
        weights.append(load_checkpoint(out / "checkpoints" / "last.pt")["model"])
    for other in weights[1:]:
        assert other.keys() == weights[0].keys()
        assert all(torch.equal(other[name], weights[0][name]) for name in other)
