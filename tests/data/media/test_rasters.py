"""Pictures from instruments: what is in a file is in the input."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from striate.api import check_data
from striate.data.config import DataConfig
from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.media.image.pictures import UnreadableImage
from striate.data.media.image.raster_files import RasterHeader, header_of, read_raster
from striate.data.media.image.raster_plan import raster_findings
from striate.data.normalize import measure_normalization
from striate.data.read import load_dataset, load_for_evaluation
from striate.data.sources.list_source import list_source
from striate.data.store.stored import StoredInputs
from striate.errors import ConfigError
from striate.visualize.picture import listed_picture

PIXELS = 64_000_000


def tiff(values, **options):
    out = io.BytesIO()
    options.setdefault("photometric", "rgb" if values.shape[2:] == (3,) else "minisblack")
    tifffile.imwrite(out, values, **options)
    return out.getvalue()


def png(values):
    """A PNG of 16 bits, by its specification: unfiltered rows, big end first."""
    height, width = values.shape[:2]
    kind = {1: 0, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = np.ascontiguousarray(values, ">u2").view(np.uint8).reshape(height, -1)
    packed = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def whole(kind, shape, top=None):
    return np.random.default_rng(0).integers(0, top or np.iinfo(kind).max, shape).astype(kind)


BANDS = whole("uint16", (7, 9, 5))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(whole("uint16", (7, 9))), whole("uint16", (7, 9))[..., None]),
        (png(whole("uint16", (7, 9, 3))), whole("uint16", (7, 9, 3))),
        (tiff(whole("uint16", (7, 9, 3))), whole("uint16", (7, 9, 3))),
        (tiff(BANDS, planarconfig="contig"), BANDS),
        (tiff(np.moveaxis(BANDS, -1, 0), planarconfig="separate"), BANDS),
        (tiff(BANDS, planarconfig="contig", compression="lzw", predictor=True), BANDS),
        (tiff(whole("int16", (7, 9))), whole("int16", (7, 9))[..., None]),
        (tiff(whole("uint32", (7, 9))), whole("uint32", (7, 9))[..., None]),
        (tiff(whole("uint8", (7, 9, 4)), photometric="rgb", extrasamples=[0]), whole("uint8", (7, 9, 4))),
        (tiff(np.float32([[0.5, -3e9], [1e-9, 7]])), np.float32([[0.5, -3e9], [1e-9, 7]])[..., None]),
        (tiff(np.float64([[0.1, 1e200]])), np.float64([[0.1, 1e200]])[..., None]),
        (b"P5\n2 1\n65535\n\x01\x02\xff\x03", np.uint16([[0x102, 0xFF03]])[..., None]),
    ],
    ids=[
        "png-gray",
        "png-color",
        "tiff-color",
        "bands",
        "planes",
        "lzw",
        "signed",
        "32-bit",
        "rgb+infrared",
        "float",
        "double",
        "pgm",
    ],
)
def test_every_value_is_that_of_the_file(data, expected):
    found = read_raster(data, "a file", max_pixels=PIXELS)
    assert found.depth == str(expected.dtype)
    assert np.array_equal(found.values, expected)
    header = header_of(data, "a file", max_pixels=PIXELS)
    assert isinstance(header, RasterHeader)
    assert (header.height, header.width, header.channels) == expected.shape
    assert (header.low, header.high, header.missing) == (expected.min(), expected.max(), 0)


def test_alpha_of_sixteen_bits_is_laid_over_white():
    values = np.zeros((2, 3, 4), np.uint16)
    values[..., 3] = 0x3333  # a fifth
    for data in (png(values), tiff(values, photometric="rgb", extrasamples=["unassalpha"])):
        assert (read_raster(data, "a file", max_pixels=PIXELS).values == 65535 - 0x3333).all()


def test_ordinary_pictures_stay_ordinary():
    for values, options in (
        (whole("uint8", (7, 9)), {}),
        (whole("uint8", (7, 9, 3)), {}),
        (whole("uint8", (7, 9, 4)), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (whole("uint8", (7, 9, 4)), {"photometric": "separated"}),
    ):
        assert not isinstance(header_of(tiff(values, **options), "a file", max_pixels=PIXELS), RasterHeader)


def test_pages_are_counted_and_smaller_copies_are_none():
    pages = whole("uint16", (3, 7, 9))
    data = tiff(pages)
    assert header_of(data, "a file", max_pixels=PIXELS).pages == 3
    stacked = read_raster(data, "a file", max_pixels=PIXELS, all_pages=True).values
    assert np.array_equal(stacked, np.moveaxis(pages, 0, -1))
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(pages[0])
        file.write(pages[0, ::2, ::2], subfiletype=1)
    assert header_of(out.getvalue(), "a file", max_pixels=PIXELS).pages == 1


def test_what_is_no_value_is_counted_and_is_the_low_end_of_the_range():
    values = np.float32([[np.nan, 1, np.inf], [-9999, 2, 3]])
    data = tiff(values, extratags=[(42113, "s", 0, "-9999", True)])
    header = header_of(data, "a file", max_pixels=PIXELS)
    assert (header.low, header.high, header.missing, header.values) == (1, 3, 3, 6)
    preparation = Preparation("raster", (1, 2, 3), low=(1.0,), high=(3.0,), depths=("float32",))
    levels = medium_of("raster").decode(data, "a file", preparation)
    assert levels.tolist() == [[[0, 0, 0], [0, 127.5, 255]]]
    with pytest.raises(UnreadableImage, match="without valid values"):
        header_of(tiff(np.full((2, 2), np.nan, np.float32)), "a file", max_pixels=PIXELS)


def test_too_much_is_refused_by_its_header():
    with pytest.raises(UnreadableImage, match="more than the 50 allowed"):
        header_of(tiff(whole("uint16", (7, 9))), "a file", max_pixels=50)
    with pytest.raises(UnreadableImage, match="channels"):
        header_of(tiff(np.zeros((1030, 2, 2), np.uint16), planarconfig="separate"), "a file", max_pixels=PIXELS)
    bomb = tiff(np.zeros((64, 64), np.uint16), compression="zlib")
    lying = bomb.replace(struct.pack("<HHII", 256, 4, 1, 64), struct.pack("<HHII", 256, 4, 1, 2))
    lying = lying.replace(struct.pack("<HHIHH", 256, 3, 1, 64, 0), struct.pack("<HHIHH", 256, 3, 1, 2, 0))
    assert lying != bomb
    with pytest.raises(UnreadableImage):
        read_raster(lying, "a file", max_pixels=PIXELS)


def write(root, make, suffix="tif", each=12):
    rng = np.random.default_rng(1)
    for k in range(2):
        (root / f"class{k}").mkdir(parents=True)
        for number in range(each):
            (root / f"class{k}" / f"{number:02}.{suffix}").write_bytes(make(rng, k))
    return root


def twelve_bits(rng, k):
    return tiff(rng.integers(1000 * k, 2000 + 1000 * k, (8, 8)).astype(np.uint16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("twelve") / "data", twelve_bits)


@pytest.fixture(scope="module")
def data(folder):
    return load_dataset(DataConfig(str(folder)))


def test_twelve_bits_of_sixteen_have_the_range_of_the_data(data, folder):
    preparation = data.preparation
    assert (data.kind, preparation.depths) == ("raster", ("uint16",))
    (low,), (high,) = preparation.low, preparation.high
    assert 0 <= low < 20 < 2980 < high < 3000
    assert any(f"{low:.6g} to {high:.6g}" in note for note in data.notes)
    x = torch.cat([split.inputs for split in data.splits.values()])
    values = low + x.double() * (high - low) / 255
    assert (values - values.round()).abs().max() < 1e-3, "every whole number is there"
    assert len(x.unique()) > 1000
    headers = [header_of(path, path.name, max_pixels=PIXELS) for path in folder.rglob("*.tif")]
    assert "12 of 16 bits used" in medium_of("image").described(headers)


def test_stores_agree_also_on_the_normalization(data, folder, tmp_path):
    whole_ = measure_normalization(data.splits["train"])
    for store in ("pack", "stream"):
        other = load_dataset(DataConfig(str(folder), store=store, packs=str(tmp_path)))
        inputs = other.splits["train"].inputs
        assert isinstance(inputs, StoredInputs)
        assert torch.equal(inputs[:], data.splits["train"].inputs)
        assert measure_normalization(other.splits["train"]) == whole_
    assert np.allclose(whole_.std, data.splits["train"].inputs.double().std(correction=0))


def test_other_depths_and_channels_are_refused_by_a_network(data, folder, tmp_path):
    medium, preparation = medium_of("raster"), data.preparation
    with pytest.raises(UnreadableImage, match="8 bits, among pictures of 16 bits"):
        medium.decode(tiff(whole("uint8", (8, 8))), "a file", preparation)
    with pytest.raises(UnreadableImage, match="5 channels"):
        medium.decode(tiff(BANDS, planarconfig="contig"), "a file", preparation)
    with pytest.raises(UnreadableImage, match="8 bits"):
        medium.prepare(Image.new("L", (8, 8)), preparation)
    again = load_for_evaluation(DataConfig(str(folder)), preparation, data.classes, "class")
    assert again.preparation == preparation
    assert again.kind == "raster"


def test_mixed_depths_pages_and_channels_are_findings(tmp_path):
    root = write(tmp_path / "data", twelve_bits)
    (root / "class0/a.tif").write_bytes(tiff(whole("uint8", (8, 8))))
    (root / "class0/b.tif").write_bytes(tiff(whole("uint16", (3, 8, 8))))
    (root / "class0/c.tif").write_bytes(tiff(whole("uint16", (8, 8, 5)), planarconfig="contig"))
    found = load_dataset(DataConfig(str(root)))
    codes = {finding.code: finding for finding in found.findings}
    assert {"data.mixed-depths", "data.pages", "data.unreadable"} <= codes.keys()
    assert "c.tif (5 channels, not 1)" in codes["data.unreadable"].measured
    assert "up to 3" in codes["data.pages"].measured
    headers = [header_of(path, path.name, max_pixels=PIXELS) for path in root.rglob("*.tif")]
    assert "data.mixed-channels" in {finding.code for finding in raster_findings("here", headers, DataConfig())}
    first = load_dataset(DataConfig(str(root), pages="first"))
    assert "data.pages" not in {finding.code for finding in first.findings}
    checked = check_data(root, set={"data.pages": "first"})
    assert "data.pages" not in {finding.code for finding in checked.findings}


def test_pages_are_channels_where_asked(tmp_path):
    root = write(tmp_path / "data", lambda rng, k: tiff(rng.integers(0, 99 + k, (4, 8, 8)).astype(np.uint8)))
    assert load_dataset(DataConfig(str(root))).kind == "volume"
    data = load_dataset(DataConfig(str(root), pages="channels"))
    assert (data.kind, data.input_shape) == ("raster", (4, 8, 8))
    with pytest.raises(ConfigError, match="channels"):
        load_dataset(DataConfig(str(root), pages="channels", channels=1))


def test_parts_are_those_of_the_whole(data, tmp_path):
    path = tmp_path / "large.tif"
    path.write_bytes(tiff(whole("uint16", (30, 40), 3000)))
    medium, preparation = medium_of("raster"), data.preparation
    all_of_it, size = medium.uncropped(path, "large", replace(preparation, native=True))
    parts = medium.parts(path, "large", preparation)
    assert parts.size == size == (30, 40)
    assert np.array_equal(parts.read((3, 5, 10, 12)), all_of_it[:, 3:13, 5:17])


def test_a_sample_is_drawn_over_its_range_and_says_so(folder):
    picture = listed_picture(list_source(DataConfig(str(folder))), 0)
    assert picture.values.shape == (8, 8, 1)
    assert picture.values.max() - picture.values.min() > 200
    assert "16 bits: values" in picture.notes[0]


def test_ten_bits_of_heic_are_told():
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_bytes("I;16", (64, 64), whole("uint16", (64, 64)).tobytes()).save(out, quality=90)
    header = header_of(out.getvalue(), "a file", max_pixels=PIXELS)
    assert header.squeezed in (10, 12)
    (finding,) = raster_findings("here", [header], DataConfig())
    assert finding.code == "data.squeezed"
