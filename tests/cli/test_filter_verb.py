"""`striate filter` and `striate pixels` as they are typed, with files of every sort."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.cli.main import main

PASTED = re.compile(r"    (\$ )?(striate|printf|python) ")


def save(values: np.ndarray, name: str, mode: str | None = None, **options: object) -> np.ndarray:
    Image.fromarray(values, mode).save(name, **options) if mode else Image.fromarray(values).save(name, **options)
    return values


def color(height: int = 8, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", ["out.png", "out.tif", "out.bmp", "out.ppm"])
def test_identity_gives_the_same_bytes_in_every_exact_format(name) -> None:
    x = save(color(), "in.png")
    assert main(["filter", "in.png", name, "--kernel", "identity"]) == 0
    assert np.array_equal(read(name), x)
    assert [file.name for file in Path().iterdir() if file.name.startswith(".")] == []


def test_gray_stays_gray_and_color_becomes_gray_with_the_stated_weights() -> None:
    x = save(color(), "color.png")
    save(x[..., 0], "gray.png")
    assert main(["filter", "gray.png", "1.png", "--kernel", "sobel-x"]) == 0
    assert read("1.png").shape == (8, 9)
    assert main(["filter", "color.png", "2.png", "--kernel", "identity", "--gray"]) == 0
    exact = x @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read("2.png") - exact).max() <= 0.51


@pytest.mark.parametrize(
    "kernel", ["-1 0 1; -2 0 2; -1 0 1", "-1,0,1;-2,0,2;-1,0,1", " -1 0 1 ; -2 0 2 ; -1 0 1 ;", "kernel.txt"]
)
@pytest.mark.parametrize("equals", [True, False])
def test_a_kernel_may_begin_with_a_minus_and_come_from_a_file(kernel, equals) -> None:
    save(color(), "in.png")
    Path("kernel.txt").write_text("-1 0 1\n-2 0 2  # the middle\n-1 0 1\n", encoding="utf-8")
    words = [f"--kernel={kernel}"] if equals else ["--kernel", kernel]
    assert main(["filter", "in.png", "own.png", *words]) == 0
    assert main(["filter", "in.png", "named.png", "--kernel", "sobel-x"]) == 0
    assert np.array_equal(read("own.png"), read("named.png"))


def test_the_document_says_all_and_the_notes_go_to_stderr(capsys) -> None:
    save(color(), "in.png")
    assert main(["filter", "in.png", "out.jpg", "--kernel", "blur3", "--explain", "0,3", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["width"], found["height"], found["channels"]) == (9, 8, ["red", "green", "blue"])
    assert found["kernel"] == {
        **{"name": "blur3", "weights": [[1, 2, 1], [2, 4, 2], [1, 2, 1]]},
        **{"divisor": 16, "source": "name"},
    }
    assert len(found["explain"]["channels"]) == 3
    assert "JPEG" in err
    assert "JPEG" in found["notes"][0]


def test_explain_alone_needs_no_output_file(capsys) -> None:
    save(color()[..., 0], "in.png")
    assert main(["filter", "in.png", "--kernel", "mean3", "--explain", "2,2"]) == 0
    assert "divided" in capsys.readouterr().out
    assert [file.name for file in Path().iterdir()] == ["in.png"]


def test_transparency_is_kept_and_said(capsys) -> None:
    x = np.dstack([color(), color()[..., 1]])
    save(x, "in.png")
    assert main(["filter", "in.png", "out.png", "--kernel", "sharpen"]) == 0
    assert np.array_equal(read("out.png")[..., 3], x[..., 3])
    assert "transparency is copied" in capsys.readouterr().err
    assert main(["filter", "in.png", "out.jpg", "--kernel", "sharpen"]) == 2
    assert "write to out.png" in capsys.readouterr().err
    assert not Path("out.jpg").exists()


def test_palettes_deep_gray_one_bit_and_animations_are_read_and_said(capsys) -> None:
    x = color()
    Image.fromarray(x).quantize(16).save("palette.png")
    Image.fromarray(x[..., 0]).convert("P").save("gray-palette.png")
    save((x[..., 0].astype(np.uint16) * 257), "deep.png")
    Image.fromarray(x[..., 0]).convert("1").save("bit.png")
    frames = [Image.fromarray(x[..., k]) for k in range(2)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    for name, shape, said in (
        ("palette.png", (8, 9, 3), "palette became red, green, blue"),
        ("gray-palette.png", (8, 9), "palette became gray"),
        ("deep.png", (8, 9), "scaled to 0 to 255"),
        ("bit.png", (8, 9), "black and white became gray"),
        ("moving.gif", (8, 9), "the first of 2 pictures"),
    ):
        assert main(["filter", name, f"out-{name}.png", "--kernel", "identity"]) == 0
        assert read(f"out-{name}.png").shape == shape
        assert said in capsys.readouterr().err
    assert np.array_equal(read("out-deep.png.png"), x[..., 0])
    assert np.array_equal(read("out-moving.gif.png"), x[..., 0])


def test_a_photograph_is_turned_once_as_its_exif_says(capsys) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    x = save(color(), "in.png", exif=exif)
    assert main(["filter", "in.png", "out.png", "--kernel", "identity"]) == 0
    assert np.array_equal(read("out.png"), np.rot90(x, -1))
    with Image.open("out.png") as image:
        assert image.getexif().get(0x0112) is None
    assert "EXIF" in capsys.readouterr().err


def test_a_color_profile_is_kept() -> None:
    save(color(), "in.png", icc_profile=b"a profile")
    assert main(["filter", "in.png", "out.png", "--kernel", "mean3"]) == 0
    with Image.open("out.png") as image:
        assert image.info["icc_profile"] == b"a profile"


def test_nothing_is_overwritten_unasked(capsys) -> None:
    save(color(), "in.png")
    before = Path("in.png").read_bytes()
    assert main(["filter", "in.png", "in.png", "--kernel", "mean3"]) == 2
    assert Path("in.png").read_bytes() == before
    assert "--force" in capsys.readouterr().err
    assert main(["filter", "in.png", "in.png", "--kernel", "mean3", "--force"]) == 0
    assert Path("in.png").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "striate filter photo.png edges.png --kernel sobel-x"),
        (["in.png", "out.png"], "--kernel sobel-x"),
        (["in.png", "--kernel", "mean3"], "striate filter in.png edges.png --kernel mean3"),
        (["in.png", "out.pgm", "--kernel", "mean3"], "write to out.ppm; or --gray"),
        (["in.png", "out.gif", "--kernel", "mean3"], "write to out.png"),
        (["in.png", "out", "--kernel", "mean3"], "write to out.png"),
        (["in.png", ".", "--kernel", "mean3"], "a file that ends in"),
        (["in.png", "no/out.png", "--kernel", "mean3"], "mkdir -p no"),
        (["in.png", "folder.png", "--kernel", "mean3"], "write to folder-2.png"),
        (["none.png", "out.png", "--kernel", "mean3"], "no such file"),
        (["text.png", "out.png", "--kernel", "mean3"], "not a picture"),
        (["folder.png", "out.png", "--kernel", "mean3"], "a folder"),
        (["in.png", "out.png", "--kernel", "sobelx"], "--kernel sobel-x"),
        (["in.png", "out.png", "--kernel", ""], "--kernel"),
        (["in.png", "out.png", "--kernel", "1 2; 3"], "rows of 2, 1 numbers"),
        (["in.png", "out.png", "--kernel", "1 nan 1"], "finite"),
        (["in.png", "out.png", "--kernel", "1 -1"], '--kernel "0 1 -1"'),
        (["in.png", "out.png", "--kernel", "mean3", "--padding-mode", "mirror"], "mirror"),
        (["in.png", "out.png", "--kernel", " ".join(["1"] * 19), "--padding-mode", "reflect"], "replicate"),
        (["in.png", "out.png", "--kernel", "mean3", "--explain", "9,0"], "x from 0 to 8"),
        (["in.png", "out.png", "--kernel", "mean3", "--explain", "-1,0"], "x from 0 to 8"),
        (["in.png", "out.png", "--kernel", "mean3", "--max-pixels", "50"], "--max-pixels 72"),
        (["in.png", "--kernel", "mean3", "--explain", "1,1", "--force"], "leave out --force"),
        (["in.png", "out.png", "--list"], "--list with a picture"),
        (["--list", "--gray"], "--list with --gray"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_nothing(words, said, capsys) -> None:
    save(color(), "in.png")
    Path("text.png").write_text("no picture", encoding="utf-8")
    Path("folder.png").mkdir()
    assert main(["filter", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert sorted(file.name for file in Path().iterdir()) == ["folder.png", "in.png", "text.png"]


def test_the_list_names_every_kernel(capsys) -> None:
    assert main(["filter", "--list"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert main(["filter", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == 14
    assert all(entry["name"] in text for entry in listed)


def test_names_that_are_too_long_are_told_and_nothing_is_left(capsys) -> None:
    save(color(), "in.png")
    assert main(["filter", "in.png", "o" * 300 + ".png", "--kernel", "mean3"]) == 2
    assert "write to out.png" in capsys.readouterr().err
    assert main(["filter", "i" * 300 + ".png", "out.png", "--kernel", "mean3"]) == 2
    assert "name an existing file" in capsys.readouterr().err
    assert [file.name for file in Path().iterdir()] == ["in.png"]


def test_pixels_shows_what_fits_a_terminal_and_says_so(capsys) -> None:
    x = save(color(30, 40), "in.png")
    assert main(["pixels", "in.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:3] == [
        "in.png",
        "40 × 30 pixels (width × height): red, green, blue",
        "values from 0, dark, to 255, bright; shown: x = 0 to 17, y = 0 to 7",
    ]
    row = next(line for line in lines[5:] if line.split()[:1] == ["0"] and len(line.split()) == 19)
    assert [int(word) for word in row.split()][1:] == x[0, :18, 0].tolist()


def test_pixels_of_a_region_and_a_channel_have_their_coordinates(capsys) -> None:
    x = save(color(30, 40), "in.png")
    assert main(["pixels", "in.png", "--region", "3,4,30,2", "--channel", "green"]) == 0
    text = capsys.readouterr().out
    assert "red (" not in text
    numbers = [[int(w) for w in line.split()] for line in text.splitlines()[5:] if line.strip()]
    assert numbers[0] == list(range(3, 21))
    assert numbers[1] == [4, *x[4, 3:21, 1]]
    assert numbers[3] == list(range(21, 33))
    assert numbers[5] == [5, *x[5, 21:33, 1]]
    assert main(["pixels", "in.png", "--region", "3,4,30,2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["channels"]["blue"]["values"] == x[4:6, 3:33, 2].tolist()
    assert (found["channels"]["red"]["min"], found["channels"]["red"]["max"]) == (x[..., 0].min(), x[..., 0].max())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["in.png", "--region", "0,0,41,1"], "--region 0,0,40,1"),
        (["in.png", "--region", "40,0,1,1"], "x 0 to 39"),
        (["in.png", "--region", "-1,0,1,1"], "x 0 to 39"),
        (["in.png", "--region", "0,0,0,1"], "x 0 to 39"),
        (["in.png", "--region", "a,b"], "x,y,width,height"),
        (["in.png", "--channel", "gray"], "--channel red"),
        (["none.png"], "no such file"),
        (["mnist5k#5000"], "mnist5k#4999"),
        (["mnist5k"], "remedy: write mnist5k#0"),
        (["mnist5k#a"], "remedy: write mnist5k#0"),
        (["mnist5k#-1"], "remedy: write mnist5k#0"),
        (["iris#3"], "a table"),
        (["iris"], "a table"),
        (["nothing#3"], "no data set named"),
    ],
)
def test_pixels_that_are_not_there_are_refused(words, said, capsys) -> None:
    save(color(30, 40), "in.png")
    assert main(["pixels", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_pixels_of_a_named_set(capsys) -> None:
    from striate.data.sources.embedded import mnist5k

    assert main(["pixels", "mnist5k#4321", "--region", "0,0,28,28", "--json"]) == 0
    listing = mnist5k()
    found = json.loads(capsys.readouterr().out)
    assert found["channels"]["gray"]["values"] == listing.inputs[4321, 0].tolist()
    assert found["notes"] == [f"mnist5k#4321 is a picture of: {listing.labels[4321]}"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["filter", "in.png", "out.png", "--kernel", "mean3"], ["pixels", "in.png"]])
def test_neither_verb_needs_torch(words) -> None:
    save(color(), "in.png")
    code = (
        f"import sys\nfrom striate.cli.main import main\nassert main({words}) == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_documentation_can_be_pasted_and_its_output_is_real(capsys) -> None:
    save(color(20, 30), "photo.png")
    text = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
    commands = [line.strip().removeprefix("$ ") for line in text.splitlines() if PASTED.match(line)]
    assert len(commands) == 8
    for command in commands:
        if not command.startswith("striate"):
            subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
            continue
        assert main(shlex.split(command)[1:]) == 0, command
        lines = [f"    {line}".rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
        if f"    $ {command}" in text:
            assert "\n".join([f"    $ {command}", *lines]) in text
