"""Volumes: what files say, what is refused, how they are turned and resampled, masks in the space of the input."""

from __future__ import annotations

import gzip
import io
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform
from pydicom.dataset import FileDataset, FileMetaDataset

import striate
from striate.api import check_data
from striate.data.audit.check import check_evidence
from striate.data.audit.evidence import gather_evidence
from striate.data.augment.augment import augment_batch
from striate.data.augment.volume import VolumeWarp, describe_volume_augmentation
from striate.data.config import AugmentConfig, DataConfig
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Preparation, Unreadable, WrongSizeError
from striate.data.media.volume import volume_files
from striate.data.media.volume.resampling import resample_linear, resample_nearest
from striate.data.media.volume.volume_files import mask_file, read_header, read_voxels
from striate.data.predict_inputs import list_inputs, read_inputs
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import ConfigError, DataError, UsageError
from striate.inference.windows import InWindows
from striate.report.explanation import explanation_page

RNG = np.random.default_rng(0)
ARRAY = RNG.normal(size=(7, 9, 5)).astype(np.float32)
"""x, y, z: right, front, up."""
AFFINE = np.array([[1.0, 0, 0, -3], [0, 1.5, 0, 4], [0, 0, 2.0, 5], [0, 0, 0, 1]])


def nifti(values: np.ndarray, affine: np.ndarray = AFFINE, axes: str = "RAS", packed: bool = True) -> bytes:
    """Values that lie as RAS, stored along other axes."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(axes)))
    stored = nibabel.apply_orientation(values, turn)
    own = affine @ nibabel.orientations.inv_ornt_aff(turn, values.shape[:3])
    data = nibabel.Nifti1Image(stored, own).to_bytes()
    return gzip.compress(data, mtime=0) if packed else bytes(data)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def dicom(folder: Path, values: np.ndarray, gap: float = 2.0, left_out: int | None = None) -> Path:
    """A series of (D, H, W) int16, the last slice first by its name."""
    folder.mkdir(parents=True)
    for k, plane in enumerate(values):
        if k == left_out:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.SeriesInstanceUID, one.Modality = "1.2.3", "CT"
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [-10, -20, 5 + gap * k]
        one.PixelSpacing, one.RescaleSlope, one.RescaleIntercept = [0.5, 0.75], 1, -1024
        one.PixelData = plane.astype("<i2").tobytes()
        one.save_as(folder / f"{99 - k}.dcm", enforce_file_format=True)
    return folder


def mask_of(source: Path, values: np.ndarray) -> Any:
    stem, suffix, content = mask_file(str(source), values)
    assert (stem, suffix) == ("one", ".nii.gz")
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAL", "PIR"])
def test_files_are_turned_to_ras_and_masks_back_to_how_the_file_lies(axes: str, tmp_path: Path) -> None:
    source = tmp_path / "one.nii.gz"
    source.write_bytes(nifti(ARRAY, axes=axes))
    voxels, header = read_voxels(source, "one")
    assert np.array_equal(voxels[0], ARRAY.transpose(2, 1, 0))
    assert (header.shape, header.spacing, header.axes) == ((5, 9, 7), (2.0, 1.5, 1.0), axes)
    assert np.allclose(header.affine, AFFINE)
    mask = (ARRAY > 0).astype(np.uint8)
    written = mask_of(source, mask.transpose(2, 1, 0))
    original = nibabel.load(source)
    assert written.shape == original.shape
    assert np.allclose(written.affine, original.affine)
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(original.dataobj) > 0)


def test_a_folder_of_slices_is_one_volume_in_hounsfield_units(tmp_path: Path) -> None:
    values = RNG.integers(0, 2000, (6, 4, 5))
    folder = dicom(tmp_path / "ct" / "one", values)
    voxels, header = read_voxels(folder, "one")
    # Rows run to the back and columns to the left: RAS is the other way round.
    assert np.array_equal(voxels[0], values[:, ::-1, ::-1] - 1024)
    assert (header.spacing, header.axes, header.modality) == ((2.0, 0.5, 0.75), "LPS", "CT")
    written = mask_of(folder, np.zeros((6, 4, 5), np.uint8))
    assert written.shape == (5, 4, 6)
    assert np.allclose(written.affine[:3, 3], [10, 20, 5])
    dicom(tmp_path / "ct" / "two", values + 1)
    dicom(tmp_path / "none" / "three", values + 2)
    listing = list_source(DataConfig(source=str(tmp_path)))
    assert listing.paths == ("ct/one/*.dcm", "ct/two/*.dcm", "none/three/*.dcm")
    assert (listing.kind, listing.labels) == ("volume", ("ct", "ct", "none"))
    assert np.array_equal(read_voxels(listing.read(0), "one")[0], voxels)  # type: ignore[misc]
    for given in (tmp_path / "ct", folder):
        assert list_inputs([given], medium_of("volume"))[0][0] == str(folder)
    (read,) = read_inputs([str(folder)], Preparation("volume", (1, 6, 4, 5), intensity="as-is"))
    assert (read.path, read.error) == (str(folder), None)
    with pytest.raises(Unreadable, match="apart"):
        read_header(dicom(tmp_path / "gap", values, left_out=2), "gap")


def test_single_slices_in_class_folders_get_a_remedy_that_works(tmp_path: Path) -> None:
    values, rows = RNG.integers(0, 2000, (8, 4, 5)), ["path,label"]
    for label in ("a", "b"):
        dicom(tmp_path / label, values := values + 1)
        for number, file in enumerate(sorted((tmp_path / label).iterdir())):
            one = pydicom.dcmread(file)
            one.SeriesInstanceUID = f"1.2.{number}"
            one.save_as(file)
            rows.append(f"{label}/{file.name},{label}")
    with pytest.raises(DataError, match="slices of 8 series") as found:
        load_dataset(DataConfig(source=str(tmp_path)))
    assert "manifest .csv (path,label)" in found.value.remedy
    dicom(tmp_path / "c" / "one", values)  # one that can be read: the others are left out, with the same remedy
    remedy = next(str(one.remedy) for one in check_data(tmp_path).findings if one.code == "data.unreadable")
    assert "manifest .csv (path,label)" in remedy
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "all.csv").write_text("\n".join(rows))
    assert len(list_source(DataConfig(source=str(tmp_path / "all.csv")))) == 16


def test_stacks_of_pages_and_arrays_are_volumes(tmp_path: Path) -> None:
    stack = ARRAY.transpose(2, 1, 0).copy()
    for k in range(4):
        (tmp_path / f"{k % 2}").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"{k % 2}" / f"{k}.tif", stack + k, photometric="minisblack")
    listing = list_source(DataConfig(source=str(tmp_path)))
    assert listing.kind == "volume"
    assert np.array_equal(read_voxels(listing.read(0), "0")[0][0], stack)  # type: ignore[misc]
    assert np.array_equal(read_voxels(npy(np.stack([stack] * 2, -1)), "two")[0], np.stack([stack] * 2))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=stack)
    assert np.array_equal(read_voxels(buffer.getvalue(), "one")[0][0], stack)


def lying() -> dict[str, bytes]:
    """Files that are refused, by what is said of them."""
    plain = nifti(ARRAY, packed=False)
    header = np.frombuffer(plain[:348], nibabel.Nifti1Header.template_dtype).copy()
    large, small, moved = header.copy(), header.copy(), header.copy()
    large["dim"][0, 1:4] = 30_000
    small["dim"][0, 3] = 2
    moved["srow_x"], moved["srow_y"] = 0, 0
    rest = plain[348:]
    return {
        "voxels": large.tobytes() + rest,
        "more than": gzip.compress(small.tobytes() + rest),
        "cut off: its header": plain[:-8],
        "cut off: gzip": nifti(ARRAY)[:-40],
        "affine": moved.tobytes() + rest,
        "NaN": nifti(np.where(ARRAY > 2, np.nan, ARRAY).astype(np.float32)),
        "three spatial axes": npy(ARRAY[0]),
        "bytes": npy(ARRAY)[:-4],
        "header says": gzip.compress(plain[:352]),
        "not a volume": b"hello, I am no volume at all" * 20,
    }


@pytest.mark.parametrize("why", lying())
def test_lying_and_damaged_files_are_refused_with_the_reason(why: str) -> None:
    made = Preparation("volume", (1, 8, 16, 8), intensity="as-is", spacing=(2.0, 1.5, 1.0))
    with pytest.raises(Unreadable, match=why):
        medium_of("volume").decode(lying()[why], "the/file", made)


@pytest.mark.parametrize("packed", ["nifti", "gz", "npy", "npz", "tif", "dicom"])
def test_mutated_files_are_read_or_refused(packed: str, tmp_path: Path) -> None:
    small, buffer = ARRAY[:3, :4, :2].copy(), io.BytesIO()
    if packed == "npz":
        np.savez_compressed(buffer, x=small)
    elif packed == "tif":
        tifffile.imwrite(buffer, small, photometric="minisblack")
    elif packed == "dicom":
        buffer = io.BytesIO((dicom(tmp_path / "one", RNG.integers(0, 9, (1, 4, 5))) / "99.dcm").read_bytes())
    whole = buffer.getvalue() or (npy(small) if packed == "npy" else nifti(small, packed=packed == "gz"))
    drawn = np.random.default_rng(5)
    for _ in range(25):
        data = bytearray(whole)
        for place in drawn.integers(0, len(data), drawn.integers(1, 9)):
            data[place] = drawn.integers(256)
        with suppress(Unreadable):
            read_voxels(bytes(data[: len(data) - drawn.integers(0, 9) // 5]), "mutated")


def test_a_file_of_several_volumes_is_refused_with_what_is_expected() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=ARRAY, y=ARRAY)
    with pytest.raises(Unreadable, match="2 arrays instead of one"):
        read_header(buffer.getvalue(), "one")
    with pytest.raises(Unreadable, match="2 channels instead of 1"):
        medium_of("volume").decode(npy(np.stack([ARRAY, ARRAY])), "one", Preparation("volume", (1, 7, 9, 5)))


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_files, "MOST_VOXELS", 100)
    with pytest.raises(Unreadable, match="at most 100"):
        read_header(nifti(ARRAY), "bomb")


@pytest.mark.parametrize(("name", "data"), [("nibabel", nifti(ARRAY)), ("tifffile", b"II*\x00" + b"\0" * 9)])
def test_without_the_extra_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch, name: str, data: bytes) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"pip install 'striate\[volumes\]'"):
        read_header(data, "one")


def test_resampling_keeps_straight_lines_constants_and_labels() -> None:
    ramp = np.tile(np.arange(12, dtype=np.float32), (1, 3, 3, 1))
    finer = resample_linear(ramp, (3, 3, 24))
    assert np.allclose(finer[0, 1, 1, 1:-1], (np.arange(1, 23) + 0.5) / 2 - 0.5, atol=1e-5)
    coarser = resample_linear(ramp, (3, 3, 4))
    assert np.allclose(coarser[0, 1, 1, 1:-1], [4, 7], atol=1e-5)
    assert np.allclose(resample_linear(np.ones((1, 5, 6, 7), np.float32), (9, 2, 7)), 1, atol=1e-6)
    labels = RNG.integers(0, 3, (4, 5, 6))
    assert np.array_equal(resample_nearest(labels, (8, 10, 12))[1::2, 1::2, 1::2], labels)


def test_masks_move_with_their_volumes_and_two_mirrors_are_none() -> None:
    x = torch.randn(4, 1, 8, 10, 12)
    mirror = torch.tensor([[True, False, False], [False, True, True], [True, True, True], [False, False, False]])
    flip = VolumeWarp(mirror, torch.zeros(4, 3, dtype=torch.int64))
    assert torch.equal(flip.apply(flip.apply(x)), x)
    assert torch.equal(flip.apply(x)[0], x[0].flip(1))
    labels = (x > 0).to(torch.uint8)
    config = AugmentConfig(flip=True, vertical_flip=True, depth_flip=True, shift=2, window=6)
    ids = torch.arange(4)
    moved, warp = augment_batch(x, config, 3, 1, ids)
    assert warp is not None
    assert moved.shape == (4, 1, 6, 6, 6)
    inside = warp.apply(torch.ones_like(labels), nearest=True, fill=0) == 1
    assert torch.equal((moved > 0)[inside], warp.apply(labels, nearest=True, fill=255)[inside] == 1)
    assert (warp.apply(labels, nearest=True, fill=255)[~inside] == 255).all()
    again, _ = augment_batch(x[2:3], config, 3, 1, ids[2:3])
    assert torch.equal(again[0], moved[2]), "a sample's part does not depend on its batch"


def test_patches_are_described_as_no_larger_than_the_grid() -> None:
    assert "patches of at most 40 voxels per side" in describe_volume_augmentation(AugmentConfig(window=40))


def test_rare_classes_are_in_a_share_of_the_patches() -> None:
    """A class of one voxel and one of 200 are the middles of as many patches; without masks nothing differs."""
    masks = torch.zeros(600, 24, 24, 24, dtype=torch.uint8)
    masks[:, 2:12, 2:6, 2:7], masks[:, 20, 12, 3], masks[:, :, :, 23] = 1, 2, 255
    masks[0] = 0
    x, ids = masks[:, None].float(), torch.arange(600)
    config = AugmentConfig(window=8, foreground=0.33)
    moved, warp = augment_batch(x, config, 0, 0, ids, masks=masks)
    free, before = augment_batch(x, config, 0, 0, ids)
    assert isinstance(warp, VolumeWarp)
    assert isinstance(before, VolumeWarp)
    assert warp.corner is not None
    assert before.corner is not None
    aimed = (warp.corner != before.corner).any(1)
    assert 0.27 < aimed.float().mean() < 0.39
    assert not aimed[0], "there is no foreground"
    rare = (moved == 2).flatten(1).any(1)
    assert 0.4 < rare[aimed].float().mean() < 0.6
    assert (free == 2).flatten(1).any(1).float().mean() < 0.1
    assert bool(((moved[aimed] == 1) | (moved[aimed] == 2)).flatten(1).any(1).all())
    again, _ = augment_batch(x[9:30], config, 0, 0, ids[9:30], masks=masks[9:30])
    assert torch.equal(again, moved[9:30])


def test_a_turn_about_depth_is_a_quarter_turn_of_each_slice() -> None:
    x = torch.randn(1, 1, 4, 6, 6)
    turn = torch.tensor([[[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]], dtype=torch.float64)
    warp = VolumeWarp(torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64), turn)
    assert torch.allclose(warp.apply(x), torch.rot90(x, -1, (3, 4)), atol=1e-4)
    labels = (x > 0).to(torch.uint8)
    assert torch.equal(warp.apply(labels, nearest=True, fill=255), torch.rot90(labels, -1, (3, 4)))


def test_windows_add_up_to_the_whole_for_what_sees_one_voxel() -> None:
    network = InWindows(torch.nn.Conv3d(1, 2, 1), side=16).eval()
    x = torch.randn(1, 1, 21, 40, 9)
    with torch.no_grad():
        assert torch.allclose(network(x), network.network(x), atol=1e-5)


def write_pairs(root: Path, count: int = 12, mask_affine: np.ndarray = AFFINE) -> Path:
    """Volumes of several shapes and spacings with a bright ball in each, and its mask."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for k in range(count):
        shape = (12 + k % 3, 14, 10)
        places = np.indices(shape).T - rng.uniform(4, 8, 3)
        ball = ((places**2).sum(-1).T < 9).astype(np.float32)
        affine = AFFINE @ np.diag([1.0, 1, 2 if k == 0 else 1, 1])
        values = (ball * 3 + rng.normal(size=shape)).astype(np.float32)
        axes = "LPS" if k % 2 else "RAS"
        (root / "images" / f"{k:02}.nii.gz").write_bytes(nifti(values, affine, axes))
        own = affine if mask_affine is AFFINE else mask_affine
        (root / "masks" / f"{k:02}.nii.gz").write_bytes(nifti(ball.astype(np.uint8), own, axes))
    return root


def test_what_is_decided_of_volumes_is_said(tmp_path: Path) -> None:
    data = load_dataset(DataConfig(source=str(write_pairs(tmp_path / "balls"))))
    assert data.input_shape == (1, 24, 16, 16), "the coarse one has twice as many slices at the spacing of the others"
    assert data.preparation.spacing == (2.0, 1.5, 1.0)
    said = " ".join(data.notes)
    for words in ("6 LPS of 12", "1 volume of 12 with another spacing", "24×16×16 voxels", "z-score", "feet to head"):
        assert words in said
    x, y = data.splits["train"].inputs[:], data.splits["train"].targets
    assert float(x[:, 0][y == 1].mean()) > float(x[:, 0][y == 0].mean()) + 2, "masks lie where the balls are"
    assert (y == 255).any(), "around volumes nothing is labeled"


def config_error(**fields: Any) -> str:
    made = DataConfig(source="x", **fields)
    with pytest.raises(ConfigError) as caught:
        print(made.sides, made.steps, made.limits)
    return caught.value.where


def test_settings_that_are_no_numbers_are_refused() -> None:
    assert config_error(voxels="32x48") == "data.voxels"
    assert config_error(spacing="0x1x1") == "data.spacing"
    assert config_error(window="100,20") == "data.window"
    assert DataConfig(source="x", spacing="2").steps == (2.0, 2.0, 2.0)


def test_a_window_of_ct_is_the_same_for_all() -> None:
    made = Preparation("volume", (1, 5, 9, 7), intensity="window", limits=(-1.0, 1.0), spacing=(2.0, 1.5, 1.0))
    decoded = medium_of("volume").decode(nifti(ARRAY), "one", made)
    assert np.allclose(decoded[0], (ARRAY.transpose(2, 1, 0).clip(-1, 1) + 1) / 2, atol=1e-6)


def test_data_check_finds_masks_that_lie_elsewhere_copies_and_faults(tmp_path: Path) -> None:
    moved = np.diag([1.0, 1.0, 1.0, 1.0])
    root = write_pairs(tmp_path / "balls", mask_affine=moved)
    (root / "images" / "03.nii.gz").write_bytes(nifti(np.ones((12, 14, 10), np.float32)))
    twin, _ = read_voxels(root / "images" / "04.nii.gz", "04")
    (root / "images" / "05.nii.gz").write_bytes(nifti(2 * twin[0].transpose(2, 1, 0) + 7))
    (root / "masks" / "05.nii.gz").write_bytes((root / "masks" / "04.nii.gz").read_bytes())
    (root / "images" / "06.nii.gz").write_bytes(b"\x1f\x8bcut")
    (root / "masks" / "07.nii.gz").write_bytes(nifti(np.zeros((3, 3, 3), np.uint8)))
    config = DataConfig(source=str(root))
    checked = check_evidence(gather_evidence(list_source(config), config))
    found = {mark.finding.code: mark.finding for mark in checked.sample_findings}
    assert {"data.mask-affine", "data.constant-volumes", "data.mixed-spacing", "data.mask-size"} <= found.keys()
    assert "06.nii.gz" in found["data.unreadable"].measured
    assert "04" in found["data.near-duplicates"].measured
    with pytest.raises(WrongSizeError, match="3 × 3 × 3 voxels"):
        load_dataset(config)


@pytest.mark.slow
def test_a_run_learns_where_balls_are_and_writes_masks_that_fit_their_files(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "balls", 30)
    run = striate.train(str(source), "small-unet3d(width=4)", epochs=60, batch=4, out=tmp_path / "run")
    assert run.metrics["test"]["dice_per_class"]["1"] > 0.7
    trained = striate.load(run.path)
    file = source / "images" / "00.nii.gz"
    prediction = trained.predict(str(file))
    written = trained.task.write_prediction(tmp_path / "masks", str(file), prediction.decoded)
    there, original = nibabel.load(written["mask"]), nibabel.load(file)
    assert there.shape == original.shape
    assert np.allclose(there.affine, original.affine)
    truth = np.asarray(nibabel.load(source / "masks" / "00.nii.gz").dataobj) > 0
    found = np.asarray(there.dataobj) > 0
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.6
    explained = striate.explain(run.path, str(file), "saliency")
    ball = trained.predict(str(file)).decoded == 1
    strength = np.abs(explained.maps.chosen.values)
    around = [(side - own) // 2 for side, own in zip(strength.shape, ball.shape, strict=True)]
    ball = np.pad(
        ball, [(gap, side - own - gap) for gap, side, own in zip(around, strength.shape, ball.shape, strict=True)]
    )
    assert strength[ball].mean() > 3 * strength[~ball].mean()
    share = prediction.fields["shares"]["1"]
    assert f"{100 * share:.3g} % of the volume" in explained.part
    assert explained.fields == prediction.fields
    page = explanation_page(explained)
    assert page.count("data:image/gif") >= 2
    assert "most important at slice" in page
    assert "The volume as the network sees it" in page
    with pytest.raises(UsageError, match="of a volume"):
        striate.explain(run.path, str(file), "saliency", pixel=(3, 4))


def test_a_volume_that_is_not_there_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"got: +No such file or directory"):
        read_header(tmp_path / "none.nii", "none.nii")
    with pytest.raises(Unreadable, match="not a regular file"):
        read_header(Path("/dev/null"), "null.nii")
