"""What every medium must pass. A new one is covered by a maker of its samples, under its name in MAKERS."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

import striate
from striate.data.augment.augment import Augmentation, check_augmentation
from striate.data.augment.volume import VolumeWarp
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig, DataConfig
from striate.data.dataset import Dataset
from striate.data.loader import batches, epoch_order
from striate.data.media.every_medium import MEDIA, all_media, is_sample, medium_of, medium_of_file, medium_of_files
from striate.data.media.medium import Medium, Preparation, Unreadable
from striate.data.read import load_dataset
from striate.data.store.stored import StoredInputs
from striate.errors import ConfigError, DataError

COUNT = 30
ANIMATED = frozenset((".gif",))
"""A picture, or a clip: what is in them says which."""
Arrays = NDArray[Any]


@dataclass(frozen=True)
class Maker:
    """How samples of a medium are made for these tests.

    `arrays(rng)`: (COUNT, …), two classes in turn, as inputs must be: of the medium's dtype, channels first.
    `write(root, arrays, order)`: a data set of them at a new path under `root`, its samples laid down in this order;
    sample k has class k % 2, and equal arrays give equal contents. `model`: a layer string that learns from them.
    Of media in files, `encode(array)`: the bytes of a file that decodes to exactly that array, and `suffix`.
    `fields` of `DataConfig` that the medium needs.
    """

    arrays: Callable[[np.random.Generator], Arrays]
    write: Callable[[Path, Arrays, list[int]], Path]
    model: str
    encode: Callable[[Arrays], bytes] | None = None
    suffix: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def config(self, source: Path, **others: Any) -> DataConfig:
        return DataConfig(source=str(source), **self.fields, **others)


def as_png(x_CHW: Arrays) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.moveaxis(x_CHW, 0, -1))).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(root: Path, arrays: Arrays, order: list[int]) -> Path:
    for k in order:
        folder = root / f"class{k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{k:02}.png").write_bytes(as_png(arrays[k]))
    return root


def as_bands(x_CHW: Arrays) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, x_CHW.astype(np.uint8), photometric="minisblack", planarconfig="separate")
    return buffer.getvalue()


def write_bands(root: Path, arrays: Arrays, order: list[int]) -> Path:
    for k in order:
        folder = root / f"class{k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{k:02}.tif").write_bytes(as_bands(arrays[k]))
    return root


def write_npz(root: Path, arrays: Arrays, order: list[int]) -> Path:
    root.mkdir(parents=True)
    np.savez(root / "arrays.npz", x=arrays[order], y=np.array([k % 2 for k in order]))
    return root / "arrays.npz"


def waveforms(rng: np.random.Generator) -> Arrays:
    return (rng.integers(-(2**14), 2**14, (COUNT, 1, 1200)) / 2**15).astype(np.float32)


def as_wav(x: Arrays) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, x[0], 8000, "PCM_16", format="WAV")
    return buffer.getvalue()


HEARD: dict[bytes, Arrays] = {}  # of a spectrogram, the waveform that it is of


def spectrograms(rng: np.random.Generator) -> Arrays:
    made = Preparation("spectrogram", (1, 64, 9), rate=8000, samples=1200, window=512, hop=80)
    found = []
    for waveform in waveforms(rng):
        found.append(medium_of("spectrogram").prepare(waveform[0], made))
        HEARD[found[-1].tobytes()] = waveform
    return np.stack(found)


def as_heard(x: Arrays) -> bytes:
    return as_wav(HEARD[x.tobytes()])


FILMED: dict[bytes, Arrays] = {}  # of an input, the frames that it is of


def filmed(kind: str, channels: int) -> Callable[[np.random.Generator], Arrays]:
    def make(rng: np.random.Generator) -> Arrays:
        made, found = Preparation(kind, (channels, 4, 16, 16)), []
        for number in range(COUNT):
            frames = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
            found.append(medium_of(kind).decode(as_film(frames), str(number), made))
            FILMED[found[-1].tobytes()] = frames
        return np.stack(found)

    return make


def as_film(frames: Arrays) -> bytes:
    """Without loss."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as film:
        stream = film.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        film.mux(stream.encode())
    return buffer.getvalue()


def as_filmed(x: Arrays) -> bytes:
    return as_film(FILMED[x.tobytes()])


def write_files(suffix: str, encode: Callable[[Arrays], bytes]) -> Callable[[Path, Arrays, list[int]], Path]:
    def write(root: Path, arrays: Arrays, order: list[int]) -> Path:
        for k in order:
            folder = root / f"class{k % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{k:02}{suffix}").write_bytes(encode(arrays[k]))
        return root

    return write


def clips(kind: str, view: str, channels: int, model: str = "conv(4,3) relu fc(2)") -> Maker:
    write, fields = write_files(".avi", as_filmed), {"view": view, "frames": 4}
    return Maker(filmed(kind, channels), write, model, as_filmed, ".avi", fields)


def as_npy(x: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, x[0])
    return buffer.getvalue()


def write_volumes(root: Path, arrays: Arrays, order: list[int]) -> Path:
    for k in order:
        folder = root / f"class{k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{k:02}.npy").write_bytes(as_npy(arrays[k]))
    return root


MAKERS: dict[str, Maker] = {
    "image": Maker(
        lambda rng: rng.integers(0, 256, (COUNT, 3, 9, 8), dtype=np.uint8),
        write_folder,
        "conv(4,3) relu fc(2)",
        as_png,
        ".png",
    ),
    "raster": Maker(
        lambda rng: rng.integers(0, 256, (COUNT, 5, 9, 8)).astype(np.float32),
        write_bands,
        "conv(4,3) relu fc(2)",
        as_bands,
        ".tif",
    ),
    "spectrogram": Maker(spectrograms, write_files(".wav", as_heard), "conv(4,3) relu fc(2)", as_heard, ".wav"),
    "waveform": Maker(
        waveforms, write_files(".wav", as_wav), "conv(4,9,4) relu fc(2)", as_wav, ".wav", {"view": "waveform"}
    ),
    "rgb-clip": clips("rgb-clip", "rgb", 3),
    "flow-clip": clips("flow-clip", "flow", 2),
    "two-stream-clip": clips("two-stream-clip", "both", 5, "two-stream(width=4)"),
    "volume": Maker(
        lambda rng: rng.normal(size=(COUNT, 1, 8, 8, 16)).astype(np.float32),
        write_volumes,
        "conv(4,3) relu fc(2)",
        as_npy,
        ".npy",
        {"intensity": "as-is"},
    ),
    "grid": Maker(
        lambda rng: rng.normal(size=(COUNT, 2, 5, 6, 4)).astype(np.float32), write_npz, "conv(4,3) relu fc(2)"
    ),
    "table": Maker(lambda rng: rng.normal(size=(COUNT, 6)).astype(np.float32), write_npz, "fc(4) relu fc(2)"),
}


@dataclass(frozen=True)
class Made:
    """A medium with its maker, arrays and the data set that was read from them."""

    medium: Medium
    maker: Maker
    arrays: Arrays
    source: Path
    data: Dataset

    @property
    def preparation(self) -> Preparation:
        return self.data.preparation


SLOW = ("rgb-clip", "flow-clip")
"""Clips in two streams have both, and go the same way through the code."""


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in MEDIA])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    name = request.param
    if name not in MAKERS:
        pytest.fail(f"the medium {name} has no maker: add MAKERS[{name!r}] to {Path(__file__).name}")
    maker = MAKERS[name]
    arrays = maker.arrays(np.random.default_rng(0))
    source = maker.write(tmp_path_factory.mktemp(name) / "data", arrays, list(range(COUNT)))
    return Made(medium_of(name), maker, arrays, source, load_dataset(maker.config(source)))


def inputs_by_content(data: Dataset) -> dict[str, tuple[str, bytes, int]]:
    """By digest of what a sample holds: its split, its input, and its target."""
    return {
        content: (name, np.ascontiguousarray(x).tobytes(), int(y))
        for name, split in data.splits.items()
        for content, x, y in zip(data.contents[name], split.inputs[:].numpy(), split.targets.tolist(), strict=True)
    }


def test_every_maker_is_of_a_medium() -> None:
    assert MAKERS.keys() <= MEDIA.keys(), "a maker of a medium that is not in data/media/every_medium.py"


@pytest.mark.each_nth(3)
def test_a_medium_says_what_it_is(made: Made) -> None:
    medium = made.medium
    assert medium.name in MEDIA
    assert medium.a.split(" ")[0] in ("a", "an")
    assert medium.many
    assert medium.values
    assert np.dtype(medium.dtype) in (np.uint8, np.float32)
    assert medium.augmentations <= AugmentConfig.__dataclass_fields__.keys()
    assert not (medium.pictures and medium.flat)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in medium.suffixes)
    assert (made.maker.encode is not None) == bool(medium.suffixes), "a medium of files has `encode`, others have none"


def test_no_suffix_is_of_two_media() -> None:
    views = {name for medium in all_media() for name in (*list(medium.views.values())[1:], *medium.others)}
    first = [medium for medium in all_media() if medium.name not in views]
    suffixes = [suffix for medium in first for suffix in medium.suffixes - ANIMATED]
    assert len(suffixes) == len(set(suffixes))
    assert not is_sample("notes.txt")
    assert medium_of_file("notes.txt") is None
    for medium in first:
        for suffix in medium.suffixes - ANIMATED:
            assert medium_of_file(f"a.b/c{suffix.upper()}") is medium
            assert medium_of_files([f"1{suffix}", "2.txt", f"3{suffix}"]) is medium


def test_inputs_are_what_the_files_hold(made: Made) -> None:
    data, medium = made.data, made.medium
    assert (data.kind, data.medium, made.preparation.kind) == (medium.name, medium, medium.name)
    assert data.input_shape == made.arrays.shape[1:]
    held = {np.ascontiguousarray(x).tobytes(): k % 2 for k, x in enumerate(made.arrays)}
    seen = inputs_by_content(data)
    assert {x: y for _, x, y in seen.values()} == held
    for split in data.splits.values():
        x = split.inputs[:].numpy()
        assert x.dtype == np.dtype(medium.dtype)
        if medium.bounds is not None:
            assert medium.bounds[0] <= x.min() <= x.max() <= medium.bounds[1]


def test_a_file_is_decoded_to_what_it_says(made: Made, tmp_path: Path) -> None:
    one, maker, medium = made.arrays[0], made.maker, made.medium
    if maker.encode is None:
        with pytest.raises(DataError, match=medium.a):
            medium.decode(b"anything", "some file", made.preparation)
        return
    data = maker.encode(one)
    file = tmp_path / f"one{maker.suffix}"
    file.write_bytes(data)
    assert medium.owns(str(file))
    for given in (data, file):
        medium.header(given, "one", max_pixels=64_000_000)
        decoded = medium.decode(given, "one", made.preparation)
        assert decoded.dtype == np.dtype(medium.dtype)
        assert np.array_equal(decoded, one)


def test_damaged_and_hostile_files_are_refused_with_a_reason(made: Made, tmp_path: Path) -> None:
    if made.maker.encode is None:
        return
    data = made.maker.encode(made.arrays[0])
    assert 16 < len(data) <= made.medium.largest_file
    hostile = [b"", b"\0" * 64, b"#!/bin/sh\nexit 0\n", data[: len(data) // 2], data[:-24], bytes(reversed(data))]
    for damaged in hostile:
        with pytest.raises(Unreadable) as caught:
            made.medium.decode(damaged, "the/file", made.preparation)
        assert caught.value.where == "the/file"
        assert caught.value.reason
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(Unreadable):
            made.medium.decode(path, "the/file", made.preparation)


@pytest.mark.each_nth(3)
def test_a_damaged_file_in_a_data_set_is_named_and_left_out(made: Made, tmp_path: Path) -> None:
    if made.maker.encode is None:
        return
    source = made.maker.write(tmp_path / "data", made.arrays, list(range(COUNT)))
    file = sorted(source.rglob(f"*{made.maker.suffix}"))[3]
    file.write_bytes(file.read_bytes()[:-24])
    data = load_dataset(made.maker.config(source))
    assert [row.path for row in data.rows if row.split == "unreadable"] == [file.relative_to(source).as_posix()]
    assert sum(map(len, data.splits.values())) == COUNT - 1


def test_a_sample_for_predict_becomes_the_input(made: Made, tmp_path: Path) -> None:
    one, preparation = made.arrays[0], made.preparation
    assert np.array_equal(made.medium.prepare(one, preparation), one)
    if made.medium.dtype == "float32":
        assert np.array_equal(made.medium.prepare(one.tolist(), preparation), one)
    with pytest.raises(DataError, match="shape"):
        made.medium.prepare(one[..., :-1], preparation)
    if made.maker.encode is None:
        for given in (tmp_path / "file.png", Image.new("L", (3, 3))):
            with pytest.raises(DataError, match=f"trained on {made.medium.a}"):
                made.medium.prepare(given, preparation)
        return
    file = tmp_path / f"one{made.maker.suffix}"
    file.write_bytes(made.maker.encode(one))
    assert np.array_equal(made.medium.prepare(file, preparation), one)
    assert np.array_equal(made.medium.prepare(str(file), preparation), one)


def test_a_preparation_is_the_same_after_a_checkpoint(made: Made) -> None:
    plain = json.loads(json.dumps(asdict(made.preparation)))
    again = Preparation(**{key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()})
    assert again == made.preparation
    assert medium_of(again.kind) is made.medium


def test_two_flips_are_none_and_what_has_no_meaning_is_refused(made: Made) -> None:
    x = made.data.splits["train"].inputs[:]
    if "flip" not in made.medium.takes(made.data.input_shape):
        with pytest.raises(ConfigError, match=r"augment\.flip") as caught:
            check_augmentation(AugmentConfig(flip=True), made.data)
        assert made.medium.a in str(caught.value)
        return
    check_augmentation(AugmentConfig(flip=True), made.data)
    every, none = torch.ones(len(x), dtype=torch.bool), torch.zeros(len(x), 2, dtype=torch.int64)
    for upside_down in (None, every):
        warp: Warp | VolumeWarp = Warp(every, none, vertical_flip=upside_down)
        if x.ndim == 5 and x.is_floating_point():
            mirror = torch.tensor([[upside_down is None, False, True]]).expand(len(x), 3)
            warp = VolumeWarp(mirror, torch.zeros(len(x), 3, dtype=torch.int64))
        flip = Augmentation(warp=warp)
        once = flip.apply(x)
        assert not torch.equal(once, x)
        assert torch.equal(flip.apply(once), x)


def test_the_fields_that_a_medium_takes_are_taken(made: Made) -> None:
    for name in made.medium.augmentations & {"noise", "mixup"}:
        check_augmentation(AugmentConfig(**{name: 0.1}), made.data)


@pytest.mark.each_nth(3)
def test_packs_and_streams_give_the_same_batches(made: Made, tmp_path: Path) -> None:
    for store in ("pack", "stream"):
        config = made.maker.config(made.source, store=store, packs=str(tmp_path / "packs"))
        if not made.medium.stored:
            with pytest.raises(ConfigError, match=f"{made.medium.name}s"):
                load_dataset(config)
            continue
        data = load_dataset(config)
        split, whole = data.splits["train"], made.data.splits["train"]
        assert isinstance(split.inputs, StoredInputs)
        assert data.rows == made.data.rows
        order = epoch_order(len(whole), 1, 0)
        for a, b in zip(batches(whole, 7, order=order), batches(split, 7, order=order), strict=True):
            assert torch.equal(a.inputs, b.inputs)
            assert torch.equal(a.targets, b.targets)


def test_a_sample_is_drawn_or_is_none(made: Made) -> None:
    with pytest.raises(DataError) as refused:
        made.medium.prepare(np.zeros((2, 2), made.medium.dtype), made.preparation)
    assert ("PIL" in refused.value.remedy) <= made.medium.pictures
    drawn = made.medium.drawn(made.arrays[0], made.preparation)
    if not made.medium.pictures:
        assert drawn is None or drawn.dtype == np.uint8
        return
    assert drawn is not None
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 2 or (drawn.ndim == 3 and drawn.shape[2] == 3)
    assert drawn.shape[:2] == made.arrays.shape[2:]
    assert not made.medium.shows_itself or made.medium.drawn(made.arrays[0].astype(float), made.preparation) is None


@pytest.mark.each_nth(3)
def test_samples_laid_down_in_another_order_are_the_same_samples(made: Made, tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(COUNT).tolist()
    other = load_dataset(made.maker.config(made.maker.write(tmp_path / "data", made.arrays, order)))
    assert inputs_by_content(other) == inputs_by_content(made.data)
    if made.maker.encode is not None:
        assert other.rows == made.data.rows


def test_arrays_are_fitted_as_files_are(made: Made) -> None:
    fitted = made.medium.refit(made.arrays, made.preparation)
    assert np.array_equal(fitted, made.arrays)
    if made.medium.any_size:
        shape = (made.preparation.input_shape[0], *(side + 3 for side in made.preparation.input_shape[1:]))
        larger = replace(made.preparation, input_shape=shape)
        assert made.medium.refit(made.arrays, larger).shape == (COUNT, *shape)


@pytest.mark.each_nth(3)
def test_a_size_is_for_what_has_one(made: Made) -> None:
    config = made.maker.config(made.source, size=(6, 6))
    if "size" in made.medium.settings:
        assert load_dataset(config).input_shape[-2:] == (6, 6)
        return
    with pytest.raises(ConfigError, match=made.medium.many):
        load_dataset(config)


@pytest.mark.parametrize(("name", "value"), [("fit", "pad"), ("max_pixels", 9), ("reduced_decoding", False)])
def test_fields_of_pictures_are_refused_for_other_media(name: str, value: object) -> None:
    takes = {kind: name in medium_of(kind).settings for kind in MEDIA}
    assert takes["image"]
    assert takes["raster"]
    assert takes["rgb-clip"] == (name != "reduced_decoding")
    assert not any(takes[kind] for kind in ("grid", "table", "waveform", "spectrogram", "volume"))
    for kind in MEDIA:
        given = DataConfig(**{name: value})
        if takes[kind]:
            medium_of(kind).refuse_settings("mine", given)
            continue
        with pytest.raises(ConfigError, match=f"data.{name}") as error:
            medium_of(kind).refuse_settings("mine", given)
        assert str(value).lower() in error.value.got
        assert error.value.remedy == f"leave out --data.{name}"


@pytest.mark.each_nth(2)
def test_a_network_is_trained_saved_and_asked(made: Made, tmp_path: Path) -> None:
    fields = {"execution.plan": "plain", "execution.threads": 1}
    fields |= {f"data.{name}": value for name, value in made.maker.fields.items()}
    out = tmp_path / "run"
    striate.train(made.source, made.maker.model, epochs=1, batch=8, out=out, set=fields)
    trained = striate.load(out)
    assert trained.preparation == made.preparation
    assert len(trained.predict(list(made.arrays[:3]))) == 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert made.medium.describe(made.data.input_shape) in page
