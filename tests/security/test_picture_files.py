"""Pictures from strangers: a small file of a huge picture is refused by its header, before it is decoded."""

from __future__ import annotations

import io
import os
import struct
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.dataset import Preparation
from striate.data.media.image.pictures import UnreadableImage, decode_image, read_header

SMALL = Preparation("image", (3, 8, 8))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, pixels: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(pixels)),
            chunk(b"IEND", b""),
        )
    )


def saved(form: str, size: tuple[int, int] = (6, 4), mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 7).save(out, form, **options)
    return out.getvalue()


def huge_gif() -> bytes:
    data = bytearray(saved("GIF", mode="L"))
    data[6:10] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


def huge_tiff() -> bytes:
    data = bytearray(saved("TIFF"))
    entries = struct.unpack("<I", data[4:8])[0]
    for at in range(entries + 2, len(data) - 12, 12):
        if struct.unpack("<H", data[at : at + 2])[0] in (256, 257):
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 1_000_000)
    return bytes(data)


def huge_webp() -> bytes:
    payload = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\x00\xff\x3f\x00"
    return b"RIFF" + struct.pack("<I", 4 + len(payload)) + b"WEBP" + payload


def huge_bmp() -> bytes:
    data = bytearray(saved("BMP"))
    data[18:26] = struct.pack("<ii", 2_000_000, 2_000_000)
    return bytes(data)


def huge_jpeg(width: int = 10_000, height: int = 10_000) -> bytes:
    data = saved("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


BOMBS = {
    "png": png(100_000, 100_000, pixels=bytes(1000)),
    "gif": huge_gif(),
    "tiff": huge_tiff(),
    "webp": huge_webp(),
    "bmp": huge_bmp(),
    "jpeg": huge_jpeg(),
    "ppm": b"P6 1000000 1000000 255\n" + bytes(100),
    "pgm-deep": b"P5 999999999 999999999 65535\n",
}


def zip_bomb(path: Path) -> Path:
    """A checkpoint of a megabyte whose weights unpack to 800."""
    torch.save({"format": 1, "model": {"w": torch.zeros(4)}}, "plain.pt")
    with zipfile.ZipFile("plain.pt") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for info in source.infolist():
            out.writestr(info.filename, bytes(800 << 20) if info.filename.endswith("data/0") else source.read(info))
    assert path.stat().st_size < 1 << 20
    return path


@pytest.mark.parametrize("form", BOMBS)
def test_a_small_file_of_a_huge_picture_is_refused_by_its_header(form) -> None:
    with pytest.raises(UnreadableImage) as caught:
        read_header(BOMBS[form], "x")
    assert "pixels, more than the 64,000,000 allowed" in caught.value.got or form in ("webp", "tiff", "bmp")
    with pytest.raises(UnreadableImage):
        decode_image(BOMBS[form], "x", SMALL)


@pytest.mark.slow
def test_bombs_are_named_and_the_rest_is_answered(measured, small_run) -> None:
    """And a checkpoint that is a zip bomb is refused, in the same process, since that is what takes the time."""
    folder = Path("mail")
    folder.mkdir()
    for form, data in BOMBS.items():
        (folder / f"{form}.{form.partition('-')[0]}").write_bytes(data)
    (folder / "good.png").write_bytes(saved("PNG"))
    with (folder / "long.png").open("wb") as file:
        file.truncate(40 << 30)  # a hole: nothing is written
    os.mkfifo(folder / "pipe.png")
    (folder / "out.png").symlink_to("/dev/zero")
    bomb = zip_bomb(Path("x.pt"))
    told, refused = measured(("predict", small_run, folder), ("predict", bomb, folder))
    refused.refused("x.pt")
    assert refused.memory < 900
    assert told.code == 1
    assert told.out.count("\n") == 1
    assert told.out.startswith("mail/good.png")
    assert told.err.count("unreadable: ") == len(BOMBS) + 3
    assert "a file of 42,949,672,960 bytes" in told.err
    assert told.err.count("not a regular file") == 2
    assert told.memory < 900


@pytest.mark.slow
def test_a_jpeg_of_100_megapixels_is_refused_by_both_decoders_and_read_where_it_is_allowed() -> None:
    row = Image.new("RGB", (10_000, 10_000), (200, 100, 50))
    out = io.BytesIO()
    row.save(out, "JPEG", quality=30)
    with pytest.raises(UnreadableImage, match=r"--data.max_pixels 100000000"):
        decode_image(out.getvalue(), "x", SMALL)
    allowed = Preparation("image", (3, 8, 8), max_pixels=100_000_000, reduced=True)
    pixels = decode_image(out.getvalue(), "x", allowed)
    assert np.abs(pixels.reshape(3, -1).mean(1) - (200, 100, 50)).max() < 4


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    data = saved("JPEG", (64, 64), progressive=True)
    start = data.rindex(b"\xff\xda")
    many = data[:start] + data[start:-2] * 1000 + data[-2:]
    for read in (lambda d: decode_image(d, "x", SMALL), lambda d: read_header(d, "x")):
        with pytest.raises(UnreadableImage, match="more than 500 scans"):
            read(many)
        read(data)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt", b"iCCP"])
def test_huge_text_in_a_png_is_refused_or_left_out(kind) -> None:
    many = zlib.compress(bytes(80 << 20))
    body = {
        b"zTXt": b"k\0\0" + many,
        b"iTXt": b"k\0\x01\0\0\0" + many,
        b"tEXt": b"k\0" + b"a" * (4 << 20),
        b"iCCP": b"k\0\0" + many,
    }[kind]
    data = png(4, 4, chunk(kind, body), pixels=bytes(4 * 13))
    try:
        assert decode_image(data, "x", SMALL).shape == (3, 8, 8)
    except UnreadableImage as error:
        assert "\n" not in error.reason  # noqa: PT017


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_every_beginning_of_a_picture_gives_pixels_or_the_one_error(form) -> None:
    data = saved(form, (40, 30))
    for length in range(0, len(data), max(1, len(data) // 25)):
        for read in (lambda d: decode_image(d, "x", SMALL), lambda d: read_header(d, "x")):
            try:
                read(data[:length])
            except UnreadableImage:
                continue


@pytest.mark.parametrize("verb", ["filter", "pixels"])
def test_what_is_no_file_is_not_waited_for(striate, verb) -> None:
    os.mkfifo("pipe.png")
    more = ("out.png", "--kernel", "sharpen") if verb == "filter" else ()
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(striate(verb, "pipe.png", *more).code), daemon=True)
    thread.start()
    thread.join(30)
    assert done == [2]
    striate(verb, "/dev/zero", *more).refused("not a regular file")
    Path("bomb.png").write_bytes(BOMBS["png"])
    striate(verb, "bomb.png", *more).refused("--max-pixels 10000000000")
    assert not Path("out.png").exists()
