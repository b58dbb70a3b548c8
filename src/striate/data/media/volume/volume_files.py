"""Volume files: their headers, their voxels in one orientation, and masks written back in their space.

NIfTI and DICOM say where each voxel lies in the body. Their axes are reordered to RAS, the nearest orientation in which
they run to the right, to the front and up. Arrays are (C, D, H, W): depth from feet to head, height from back to front,
width from left to right. NumPy arrays and TIFFs have no orientation, and stay as they are. The first bytes of a file
decide its format.
"""

from __future__ import annotations

import gzip
import math
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import GzipFile
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.media.medium import Unreadable, sample_bytes
from striate.errors import DataError, missing_extra, one_line
from striate.wording import several, show_shape

SUFFIXES = frozenset((".nii", ".nii.gz", ".npy", ".npz", ".dcm"))
STACKS = frozenset((".tif", ".tiff"))
"""Suffixes that volumes share with pictures."""
SERIES = "*.dcm"
"""The last part of the name of a sample that is a folder of DICOM slices."""
MOST_BYTES = 1 << 30
MOST_VOXELS = 1 << 27
"""512 × 512 × 512: a larger volume is refused before it is unpacked."""
MOST_CHANNELS, MOST_SLICES = 64, 4096
_EVEN = 0.01
"""Largest relative difference between distances of slices."""

Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class VolumeHeader:
    """The header of a volume."""

    shape: tuple[int, int, int]
    """(D, H, W) in RAS orientation."""
    channels: int
    spacing: tuple[float, ...] = ()
    """Millimeters between voxels along these axes; empty where the file does not say."""
    affine: Affine = ()
    """(4 × 4), from voxels (W, H, D) in RAS orientation to millimeters in RAS; empty where the file does not say."""
    stored: tuple[int, ...] = ()
    """The shape in the file."""
    axes: str = ""
    """Directions of the axes in the file, such as LPS; empty where the file does not say."""
    modality: str = ""
    """DICOM's modality, such as CT; empty where the file does not say."""


@dataclass(frozen=True)
class _Opened:
    """A file whose header was read."""

    stored: tuple[int, ...]
    """Its shape: spatial axes first (x, y, z) where it has an affine, else (D, H, W), with channels first."""
    affine: NDArray[np.float64] | None
    voxels: Callable[[], NDArray[Any]]
    """Reads the voxels."""
    modality: str = ""
    nifti: Any = None


def library(name: str) -> Any:
    """The module nibabel, pydicom or tifffile. Raises DataError, which names the extra, where it is missing."""
    from importlib import import_module

    # Their warnings are about files that are refused here, or do not matter. Threads share the filter, so it stays.
    warnings.filterwarnings("ignore", module=rf"{name}\b")
    try:
        return import_module(name)
    except ImportError as error:
        raise missing_extra("volumes", error.name or name, "volumes") from None


def read_header(data: bytes | Path, where: str) -> VolumeHeader:
    """The header of a file; its voxels are not read. Raises Unreadable."""
    with _opened(data, where) as file:
        return _header(file)


def read_voxels(data: bytes | Path, where: str, like: VolumeHeader | None = None) -> tuple[NDArray[Any], VolumeHeader]:
    """(C, D, H, W) voxels in RAS orientation, in the type of the file, and the header. Raises Unreadable.

    `like`: for a mask, the header of its image. A mask whose header places it elsewhere, but which has the shape of the
    image in the file, is oriented like the image.
    """
    with _opened(data, where) as file:
        header = _header(file)
        voxels = file.voxels()
        if voxels.dtype.kind not in "biuf":
            raise Unreadable(where, f"values of type {voxels.dtype}", "numbers")
        if voxels.shape != file.stored:
            raise Unreadable(where, f"voxels of shape {voxels.shape}", f"{file.stored}, as its header says")
        if file.affine is None:
            return np.ascontiguousarray(voxels.reshape(header.channels, *header.shape)), header
        turn = _orientation(file.affine)
        if like is not None and like.axes and not placed_alike(header, like) and header.stored == like.stored:
            turn = library("nibabel").orientations.axcodes2ornt(tuple(like.axes))
        turned = library("nibabel").apply_orientation(voxels.reshape(*voxels.shape[:3], -1), turn)
        return np.ascontiguousarray(turned.transpose(3, 2, 1, 0)), header


def placed_alike(one: VolumeHeader, other: VolumeHeader) -> bool:
    """Whether two volumes have the same shape and place, up to a tenth of a voxel."""
    if one.shape != other.shape:
        return False
    if not (one.affine and other.affine):
        return True
    difference = np.abs(np.array(one.affine) - np.array(other.affine)) * np.array([*one.shape[::-1], 1.0])
    return bool(difference[:3].max() <= 0.1 * min(other.spacing))


def mask_file(source: str, values: NDArray[np.uint8]) -> tuple[str, str, bytes]:
    """Stem, suffix and content of a file with the (D, H, W) `values` of a mask, in the space of the volume `source`: a
    NIfTI with its affine, orientation and shape; a TIFF if the source is one; an array if it is one, or a sample of an
    .npz."""
    path, buffer = Path(source), BytesIO()
    if not path.exists():
        np.save(buffer, values)
        return path.name, ".npy", buffer.getvalue()
    stem = path.name if path.is_dir() else path.name.removesuffix(".gz").rpartition(".")[0]
    with _opened(path, source) as file:
        if file.affine is None and path.suffix.lower() in STACKS:
            library("tifffile").imwrite(buffer, values, photometric="minisblack")
            return stem, ".tif", buffer.getvalue()
        if file.affine is None:
            np.save(buffer, values)
            return stem, ".npy", buffer.getvalue()
        nibabel = library("nibabel")
        back = nibabel.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], _orientation(file.affine))
        stored = np.ascontiguousarray(nibabel.apply_orientation(values.transpose(2, 1, 0), back))
        header = None if file.nifti is None else file.nifti.header.copy()
        image = nibabel.Nifti1Image(stored, file.affine, header, dtype=np.uint8)
        if header is None:
            image.set_qform(file.affine, 1)
            image.set_sform(file.affine, 1)
        image.header.set_slope_inter(1, 0)
        image.header["cal_min"] = image.header["cal_max"] = 0
        return stem, ".nii.gz", gzip.compress(image.to_bytes(), mtime=0)


def _header(file: _Opened) -> VolumeHeader:
    if file.affine is None:
        *channels, deep, tall, wide = file.stored
        return VolumeHeader((deep, tall, wide), math.prod(channels), stored=file.stored)
    nibabel = library("nibabel")
    turn = _orientation(file.affine)
    spatial = file.stored[:3]
    turned = file.affine @ nibabel.orientations.inv_ornt_aff(turn, spatial)
    shape = [0, 0, 0]
    for axis, (place, _) in enumerate(turn.astype(int).tolist()):
        shape[place] = spatial[axis]
    wide, tall, deep = shape
    sizes = np.sqrt((turned[:3, :3] ** 2).sum(0))[::-1].tolist()
    return VolumeHeader(
        (deep, tall, wide),
        math.prod(file.stored[3:]),
        tuple(sizes),
        tuple(map(tuple, turned.tolist())),
        file.stored,
        "".join(nibabel.orientations.ornt2axcodes(turn)),
        file.modality,
    )


def _orientation(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each axis of the file, the nearest of right, front and up, and whether it has the same direction."""
    found: NDArray[np.float64] = library("nibabel").io_orientation(affine)
    return found


@contextmanager
def _opened(data: bytes | Path, where: str) -> Iterator[_Opened]:
    """The open file, with its header checked. Any error inside becomes Unreadable."""
    try:
        raw = sample_bytes(data, where, MOST_BYTES, "a volume file", "a volume that fits into memory", _read_series)
        file = _reader(raw, where)(raw, where)
        _refuse_shape(file, where)
        yield file
    except DataError:
        raise
    # Three libraries parse the file, and can raise any exception.
    except Exception as error:
        reason = f"damaged ({type(error).__name__}: {one_line(str(error))[:120]})"
        raise Unreadable(where, reason, "a complete volume file") from None


def _read_series(folder: Path) -> bytes:
    """An archive of the DICOM slices in a folder."""
    parts = sorted(part for part in folder.iterdir() if is_slice(part.name) and part.is_file())
    return pack_series(part.read_bytes() for part in parts)


def is_slice(name: str) -> bool:
    """Whether a file of this name is a DICOM slice."""
    return name.lower().endswith(".dcm")


def with_series(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Entries in the order of the files, each with the files that it consists of. Two or more slices in a folder are
    one entry: the path of the folder, followed by `*.dcm`."""
    found: dict[str, tuple[str, ...]] = {}
    for file in files:
        folder, sign, name = file.rpartition("/")
        entry = f"{folder}{sign}{SERIES}" if is_slice(name) else file
        found[entry] = (*found.get(entry, ()), file)
    return {entry if len(parts) > 1 else parts[0]: parts for entry, parts in found.items()}


def pack_series(slices: Iterable[bytes]) -> bytes:
    """An archive of the files of a series, which is the same for the same bytes."""
    out = BytesIO()
    total = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, content in enumerate(slices):
            total += len(content)
            if number >= MOST_SLICES or total > MOST_BYTES:
                raise Unreadable(SERIES, f"more than {MOST_SLICES:,} slices or {MOST_BYTES:,} bytes", "one series")
            member = tarfile.TarInfo(f"{number}.dcm")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return out.getvalue()


def _reader(raw: bytes, where: str) -> Callable[[bytes, str], _Opened]:
    if not raw:
        raise Unreadable(where, "an empty file", "a volume file")
    if raw[:2] == b"\x1f\x8b" or raw[344:347] in (b"n+1", b"ni1") or raw[4:7] in (b"n+2", b"ni2"):
        return _open_nifti
    if raw[:6] == b"\x93NUMPY":
        return _open_npy
    if raw[:4] == b"PK\x03\x04":
        return _open_npz
    if raw[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return _open_tiff
    if raw[128:132] == b"DICM" or raw[257:262] == b"ustar":
        return _open_dicom
    raise Unreadable(where, f"not a volume: it begins with {raw[:12]!r}", ".nii, .nii.gz, .npy, .npz, .tif or DICOM")


def _refuse_shape(file: _Opened, where: str) -> None:
    shape = file.stored
    spatial, others = (shape[:3], shape[3:]) if file.affine is not None else (shape[-3:], shape[:-3])
    if len(spatial) < 3 or min(shape, default=0) < 1:
        raise Unreadable(where, f"an array of shape {shape}", "three spatial axes")
    if math.prod(spatial) > MOST_VOXELS:
        got = f"{show_shape(spatial)} = {math.prod(spatial):,} voxels"
        raise Unreadable(where, got, f"at most {MOST_VOXELS:,}", "save it at a coarser spacing")
    if len(others) > 2 or math.prod(others) > MOST_CHANNELS:
        raise Unreadable(where, f"{several(math.prod(others), 'value')} a voxel", f"at most {MOST_CHANNELS} channels")
    if file.affine is not None and (
        not np.isfinite(file.affine).all() or abs(np.linalg.det(file.affine[:3, :3])) < 1e-12
    ):
        raise Unreadable(where, "an affine that is singular or not finite", "an invertible affine of finite numbers")


# NIfTI


def _open_nifti(raw: bytes, where: str) -> _Opened:
    nibabel = library("nibabel")
    packed = raw[:2] == b"\x1f\x8b"
    head = _unpacked(raw, 544, where) if packed else raw[:544]
    second = head[4:7] == b"n+2"
    if not second and head[344:347] != b"n+1":
        what = "a header whose voxels are in another file" if b"ni" in (head[4:6], head[344:346]) else "not NIfTI"
        raise Unreadable(where, what, "a single-file NIfTI (.nii, .nii.gz)", "save it again as .nii.gz")
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    own = head[: kind.header_class.template_dtype.itemsize]  # without extensions, which may be longer than `head`
    header = kind.header_class.from_fileobj(BytesIO(own), check=False)
    shape = tuple(map(int, header.get_data_shape()))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    affine = np.asarray(header.get_best_affine(), np.float64)
    if len(shape) < 3 or min(shape) < 1 or math.prod(shape) > MOST_VOXELS * MOST_CHANNELS:
        return _Opened(shape, affine, lambda: np.zeros(0))  # refused by its shape
    size = math.prod(shape) * header.get_data_dtype().itemsize + int(header["vox_offset"])

    def voxels() -> NDArray[Any]:
        if size > MOST_BYTES:
            raise Unreadable(where, f"{several(size, 'byte')} of voxels", f"at most {MOST_BYTES:,}")
        whole = _unpacked(raw, size + 1, where, all_of_it=True) if packed else raw
        if len(whole) != size:
            there = f"more than {size:,}" if len(whole) > size else f"{len(whole):,}"
            cut = "cut off: " if len(whole) < size else ""
            raise Unreadable(
                where, f"{cut}its header says {several(size, 'byte')}, but it has {there}", "a complete NIfTI file"
            )
        return np.asarray(kind.from_bytes(bytes(whole)).dataobj).reshape(shape)

    return _Opened(shape, affine, voxels, nifti=kind(np.zeros((1, 1, 1), np.uint8), affine, header))


def _unpacked(raw: bytes, most: int, where: str, *, all_of_it: bool = False) -> bytes:
    """The first `most` bytes of gzip data."""
    try:
        with GzipFile(fileobj=BytesIO(raw)) as file:
            return file.read(most)
    except (EOFError, OSError, zlib.error) as error:
        if not all_of_it and isinstance(error, EOFError):
            raise Unreadable(where, "cut off: gzip data end within the header", "a complete .nii.gz") from None
        what = "cut off: gzip data end too soon" if isinstance(error, EOFError) else "damaged gzip data"
        raise Unreadable(where, what, "a complete .nii.gz", "get the file again") from None


# Arrays


def _open_npy(raw: bytes, where: str) -> _Opened:
    shape, dtype, start = _npy_header(BytesIO(raw))
    size = math.prod(shape) * dtype.itemsize + start
    if dtype.hasobject or len(raw) != size:
        raise Unreadable(
            where, several(len(raw), "byte"), f"the {size:,} that its header says", "np.save('new.npy', array)"
        )
    return _array(shape, lambda: np.load(BytesIO(raw), allow_pickle=False))


def _open_npz(raw: bytes, where: str) -> _Opened:
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        members = archive.infolist()
        if len(members) != 1:
            got, remedy = f"{several(len(members), 'array')} instead of one", "np.savez('new.npz', x=volume)"
            raise Unreadable(where, got, "one array, which is a volume", remedy)
        if members[0].file_size > MOST_BYTES:
            got = f"an array of {several(members[0].file_size, 'byte')}, more than {MOST_BYTES:,}"
            raise Unreadable(where, got, "a volume that fits into memory")
        with archive.open(members[0]) as file:
            shape, dtype, start = _npy_header(file)
        if dtype.hasobject or members[0].file_size != math.prod(shape) * dtype.itemsize + start:
            raise Unreadable(where, "an array whose header does not fit its bytes", "an .npz of one array of numbers")

    def voxels() -> NDArray[Any]:
        with zipfile.ZipFile(BytesIO(raw)) as archive, archive.open(archive.infolist()[0]) as file:
            found: NDArray[Any] = np.load(BytesIO(file.read(MOST_BYTES)), allow_pickle=False)
        return found

    return _array(shape, voxels)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type, and the offset of the numbers."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype, file.tell()


def _array(shape: tuple[int, ...], read: Callable[[], NDArray[Any]]) -> _Opened:
    """An array as a volume: of four axes, the shorter of the first and the last is that of channels."""
    if len(shape) == 4 and shape[-1] < shape[0]:
        return _Opened((shape[-1], *shape[:-1]), None, lambda: np.moveaxis(read(), -1, 0))
    return _Opened(shape, None, read)


def _open_tiff(raw: bytes, where: str) -> _Opened:
    tifffile = library("tifffile")
    with tifffile.TiffFile(BytesIO(raw)) as file:
        if len(file.pages) > MOST_SLICES:
            raise Unreadable(where, f"{len(file.pages):,} pages", f"at most {MOST_SLICES:,}")
        series = file.series[0]
        shape, axes = tuple(map(int, series.shape)), str(series.axes)
        if math.prod(shape) * series.dtype.itemsize > MOST_BYTES:
            got = several(math.prod(shape), "value")
            raise Unreadable(where, got, f"at most {MOST_BYTES:,} bytes of them", "save it at a coarser spacing")
    if len(shape) == 3 and "S" in axes:
        raise Unreadable(where, f"a picture of {shape[axes.index('S')]} channels", "a stack of pages")
    last = axes.endswith(("S", "C")) and len(shape) == 4

    def voxels() -> NDArray[Any]:
        with tifffile.TiffFile(BytesIO(raw)) as file:
            found: NDArray[Any] = file.series[0].asarray()
        return np.moveaxis(found, -1, 0) if last else np.moveaxis(found, 1, 0) if second else found

    second = len(shape) == 4 and axes[1:2] in ("C", "S")  # ImageJ writes pages of several channels as ZCYX
    stored = (shape[-1], *shape[:-1]) if last else (shape[1], shape[0], *shape[2:]) if second else shape
    return _Opened(stored, None, voxels)


# DICOM


def _open_dicom(raw: bytes, where: str) -> _Opened:
    pydicom = library("pydicom")
    library("nibabel")
    slices = []
    if raw[257:262] == b"ustar" and raw[128:132] != b"DICM":
        with tarfile.open(fileobj=BytesIO(raw)) as archive:
            contents = [file.read() for member in archive if (file := archive.extractfile(member)) is not None]
    else:
        contents = [raw]
    if not contents:
        raise Unreadable(where, "no slice", "DICOM slices, one file each")
    for content in contents:
        head = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
        slices.append((head, content))
    series = {str(head.get("SeriesInstanceUID", "")) for head, _ in slices}
    if len(series) > 1:
        raise Unreadable(
            where,
            f"slices of {len(series)} series, but a folder of slices is read as one volume",
            "one series per folder",
            "list the files in a manifest .csv (path,label), or put each series into a folder of its own",
        )
    first = slices[0][0]
    rows, columns = int(first.Rows), int(first.Columns)
    if any((int(head.Rows), int(head.Columns)) != (rows, columns) for head, _ in slices):
        raise Unreadable(where, "slices of several sizes", "slices of one size")
    frames = int(first.get("NumberOfFrames", 1) or 1)
    if len(slices) == 1:
        gap = float(first.get("SpacingBetweenSlices", 0) or first.get("SliceThickness", 1) or 1)
        across, down, origin = _plane(first)
        normal = np.cross(across, down)
    else:
        if frames > 1:
            raise Unreadable(where, "several files of several frames", "one slice per file, or one file of frames")
        across, down, _ = _plane(first)
        normal = np.cross(across, down)
        places = [float(np.dot(normal, _plane(head)[2])) for head, _ in slices]
        order = np.argsort(places, kind="stable")
        slices = [slices[k] for k in order]
        gaps = np.diff(np.sort(places))
        gap = float(np.median(gaps))
        if gap <= 0 or np.abs(gaps - gap).max() > max(_EVEN * gap, 0.01):
            got = f"slices {gaps.min():.3g} to {gaps.max():.3g} mm apart"
            raise Unreadable(
                where, got, "slices at equal distances, none twice", "add the missing slices, or leave the series out"
            )
        origin = _plane(slices[0][0])[2]
    down_mm, across_mm = map(float, first.get("PixelSpacing", (1.0, 1.0)))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * across_mm, down * down_mm
    affine[:3, 2], affine[:3, 3] = normal * gap, origin
    affine[:2] *= -1  # DICOM's axes point to the left and to the back, RAS to the right and to the front

    def voxels() -> NDArray[Any]:
        planes = []
        for head, content in slices:
            whole = pydicom.dcmread(BytesIO(content))
            pixels = np.asarray(whole.pixel_array)
            slope, start = float(head.get("RescaleSlope", 1)), float(head.get("RescaleIntercept", 0))
            planes.append(pixels if (slope, start) == (1, 0) else (pixels * slope + start).astype(np.float32))
        stack = planes[0].reshape(frames, rows, columns) if len(planes) == 1 else np.stack(planes)
        return stack.transpose(2, 1, 0)

    count = frames if len(slices) == 1 else len(slices)
    return _Opened((columns, rows, count), affine, voxels, str(first.get("Modality", "")))


def _plane(head: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Directions of columns and rows, and the place of the first pixel, in millimeters."""
    cosines = np.array(head.get("ImageOrientationPatient", (1, 0, 0, 0, 1, 0)), np.float64)
    origin = np.array(head.get("ImagePositionPatient", (0, 0, float(head.get("InstanceNumber", 0) or 0))), np.float64)
    return cosines[:3], cosines[3:], origin
