"""docs/lectures.md works: every command on the page, its example, and the pages' numbers by these commands."""

from __future__ import annotations

import doctest
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

import striate
from striate.cli import main
from striate.cli.main import join_fields, make_app
from striate.data.sources.named import catalogue
from striate.models.registry import MODELS
from striate.training.config_file import field_names

PAGE = Path(__file__).parents[2] / "docs" / "lectures.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = sorted({*re.findall(r"^    (striate .+)$", TEXT, re.M), *re.findall(r"`(striate [^`]+)`", TEXT)})
COLORS = ("red", "green", "blue")
LONG = ("train", "lr-find", "baseline")  # what these do has tests of its own; here it is read, not done
READ = ("striate lab", "striate env --measure")  # one serves, the other measures for a while
OF_RUN = [command for command in COMMANDS if "RUN" in command.split() or command in READ]


def verb(command: str) -> str:
    return command.split()[1]


@pytest.fixture
def photo() -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    Image.fromarray(pixels[:5, :5, 0]).save("slide.png")
    return Path("photo.png")


def run(capsys, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def documented(capsys, *words: str) -> dict:
    return json.loads(run(capsys, *words, "--json"))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("command", [c for c in COMMANDS if verb(c) not in LONG and c not in OF_RUN])
def test_a_command_of_the_page_works(command: str, photo: Path, capsys) -> None:
    before = set(Path().iterdir())
    assert run(capsys, *shlex.split(command)[1:]) or set(Path().iterdir()) > before


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("command", [c for c in COMMANDS if verb(c) in LONG and c not in OF_RUN])
def test_a_long_command_of_the_page_is_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    _, bound, *_ = make_app().parse_args(join_fields(words), exit_on_error=False, print_error=False)
    data = bound.args[0]
    (info,) = (info for info in catalogue() if info.name == data)
    model = bound.kwargs.get("model")
    if model is not None:
        assert striate.build(model, info.shape, max(len(info.classes), 1)) is not None
    fields = {field.partition("=")[0] for field in bound.kwargs.get("set") or []}
    assert fields <= set(field_names())


@pytest.mark.parametrize("command", OF_RUN)
def test_a_command_of_the_page_about_a_run_is_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    make_app().parse_args(join_fields(words), exit_on_error=False, print_error=False)


def test_the_page_has_commands_of_every_kind() -> None:
    verbs = {verb(command) for command in COMMANDS}
    assert {"models", "summary", "connectivity", "filter", "pixels", "datasets", "train", "lr-find"} <= verbs
    assert len(COMMANDS) > 40


def test_the_example_of_the_page_prints_what_it_says() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert (found.attempted > 5, found.failed) == (True, 0)


def test_every_function_and_network_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`reference\.(\w+)", TEXT):
        assert callable(getattr(striate.reference, name)), name
    table = TEXT.partition("| topic | name |")[2].partition("\n\n")[0]
    names = [name.partition("(")[0] for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) > 15
    assert set(names) <= set(MODELS)
    for file in re.findall(r"`(?:python )?((?:tests|examples)/[\w/]+\.py)`", TEXT):
        assert (PAGE.parents[1] / file).is_file(), file


def test_the_table_of_alexnet_on_the_page_is_the_ledger() -> None:
    table = TEXT.partition("| layer | activation | size | parameters |")[2].partition("\n\n")[0]
    page = [[cell.strip().replace(",", "") for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    ledger = striate.summarize("alexnet-2012(groups=1)", (3, 227, 227))
    rows = [row for row in ledger.rows if row.kind in ("conv", "pool", "fc")]
    assert [[name.split()[0], shape, int(size), int(count or 0)] for name, shape, size, count in page[:-1]] == [
        [row.kind, "×".join(map(str, row.out_shape)), int(np.prod(row.out_shape)), row.params] for row in rows
    ]
    assert int(page[-1][-1]) == ledger.params


@pytest.mark.parametrize(
    ("kernel", "options", "rows", "expected"),
    [
        (
            "blur3",
            [],
            [[100] * 5, *[[100, 0, 0, 0, 100]] * 3, [100] * 5],
            [
                [94, 81, 75, 81, 94],
                [81, 44, 25, 44, 81],
                [75, 25, 0, 25, 75],
                [81, 44, 25, 44, 81],
                [94, 81, 75, 81, 94],
            ],
        ),
        ("vertical-edge", [], [[10, 10, 10, 0, 0, 0]] * 6, [[0, 0, 30, 30, 0, 0]] * 6),
    ],
)
def test_worked_examples_by_filter(capsys, kernel: str, options: list[str], rows, expected) -> None:
    Image.fromarray(np.array(rows, dtype=np.uint8)).save("in.png")
    run(capsys, "filter", "in.png", "out.png", "--kernel", kernel, *options)
    assert np.asarray(Image.open("out.png")).tolist() == expected


def test_the_320_of_the_sharpening_example_is_explained(capsys) -> None:
    image = [[105, 102, 100, 97, 96], [103, 99, 103, 101, 102], [101, 98, 104, 102, 100]]
    Image.fromarray(np.array(image, dtype=np.uint8)).save("in.png")
    out = run(capsys, "filter", "in.png", "--kernel", "sharpen", "--padding-mode", "zeros", "--explain", "0,0")
    assert "105" in out
    assert "320" in out
    assert "255" in out  # a byte holds no more


def test_the_picture_that_the_page_makes_of_the_slide_has_the_sum_that_the_page_shows(capsys) -> None:
    example = TEXT.partition("### The 320 of the slide")[2].partition("\n## ")[0]
    exec("\n".join(re.findall(r"^    >>> (.+)$", example, re.M)), {})
    command, printed = re.search(r"^\$ striate (.+?)\n(.+?)^```$", example, re.M | re.S).groups()
    assert run(capsys, *shlex.split(command)) == printed


def test_kernels_without_their_divisor_would_brighten_the_picture(capsys) -> None:
    # Pages print ones and the Gaussian 1 4 7 4 1; … without dividing by their sums.
    divisors = {kernel["name"]: kernel["divisor"] for kernel in documented(capsys, "filter", "--list")}
    assert (divisors["mean3"], divisors["gaussian5"], divisors["blur3"]) == (9, 273, 16)


def test_blue_is_0_0_255_and_dark_in_gray(capsys) -> None:
    Image.new("RGB", (3, 2), (0, 0, 255)).save("blue.png")
    text = run(capsys, "pixels", "blue.png")
    assert [int(re.search(rf"{color} \(whole picture: (\d+) to", text).group(1)) for color in COLORS] == [0, 0, 255]
    run(capsys, "filter", "blue.png", "gray.png", "--kernel", "identity", "--gray")
    assert np.asarray(Image.open("gray.png")).tolist() == [[round(0.114 * 255)] * 3] * 2


def test_what_does_not_fit_is_said_with_the_arithmetic_and_ways_out(capsys) -> None:
    said = " ".join(run(capsys, "summary", "conv(1,3,3)", "--input", "1x7x7").split())
    assert "7 with kernel 3 and stride 3 does not fit: (7−3)/3+1 = 2.33; the last row and column are never seen" in said
    assert "pad 1 → 3; stride 2 → 3; input 9 → 3" in said
    for model, size in (("conv(1,3,3,pad=1)", 7), ("conv(1,3,2)", 7), ("conv(1,3,3)", 9)):
        assert documented(capsys, "summary", model, "--input", f"1x{size}x{size}")["rows"][0]["out_shape"] == [1, 3, 3]


@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 5),
    pad=st.integers(0, 4),
    channels=st.integers(1, 6),
    filters=st.integers(1, 6),
)
def test_the_summary_of_a_convolutional_layer(size, kernel, stride, pad, channels, filters) -> None:
    # W₂ = (W₁ − F + 2P)/S + 1, rounded down; D₂ = K; F·F·D₁·K weights and K biases.
    assume(kernel <= size + 2 * pad and pad < kernel)
    (row,) = striate.summarize(f"conv({filters},{kernel},{stride},pad={pad})", (channels, size, size)).rows
    out = (size - kernel + 2 * pad) // stride + 1
    assert row.out_shape == (filters, out, out)
    assert row.params == kernel * kernel * channels * filters + filters
    assert row.macs == out * out * filters * kernel * kernel * channels
    seen = {place * stride + tap - pad for place in range(out) for tap in range(kernel)} & set(range(size))
    assert row.leftover == (size - len(seen),) * 2


def test_the_discrete_formula_at_two_places() -> None:
    # Y[0,3] and Y[1,3] = σ(Σ X[t₁ + a, 3 + b] · W[a, b]), a and b from 0 to 2: no kernel is turned around.
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(7, 7)), rng.normal(size=(3, 3))
    y = striate.reference.sigmoid(striate.reference.convolve(x[None, None], w[None, None]))[0, 0]
    for row in (0, 1):
        total = sum(x[row + a, 3 + b] * w[a, b] for a in range(3) for b in range(3))
        assert y[row, 3] == pytest.approx(1 / (1 + np.exp(-total)))


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ("1x280x320 --kernel 1x2", (8_003_072_000, 178_640, 2)),
        ("1x200x200 --kernel 10 --pad same", (1_600_000_000, 4_000_000, 100)),
        ("1x200x200 --kernel 10", (191 * 191 * 40_000, 3_648_100, 100)),
        ("1x7 --kernel 3 --stride 2", (21, 9, 3)),
    ],
)
def test_one_map_in_four_ways(capsys, words: str, weights: tuple[int, ...]) -> None:
    layers = {one["name"]: one for one in documented(capsys, "connectivity", *words.split())["layers"]}
    assert tuple(layers[name]["weights"] for name in ("fully connected", "locally connected", "convolution")) == weights
    if words.startswith("1x280"):
        assert layers["sparse matrix"]["weights"] == 178_640
        assert layers["sparse matrix"]["operations"] == layers["convolution"]["operations"] == 267_960
        assert layers["fully connected"]["operations"] > 16e9


@pytest.mark.parametrize(
    ("name", "samples", "shape"),
    [
        ("cifar10", 60_000, (3, 32, 32)),  # a page says 70,000
        ("mnist", 70_000, (1, 28, 28)),
        ("fashion-mnist", 70_000, (1, 28, 28)),
        ("iris", 150, (4,)),
        ("boston", 506, (13,)),
    ],
)
def test_sizes_of_the_data_sets(name: str, samples: int, shape: tuple[int, ...]) -> None:
    (info,) = (info for info in catalogue() if info.name == name)
    assert (sum(info.samples), tuple(info.shape)) == (samples, shape)
    assert len(info.classes) == {"iris": 3, "boston": 0}.get(name, 10)


def test_a_shift_by_whole_strides_shifts_the_map_and_another_does_not() -> None:
    rng = np.random.default_rng(0)
    picture = np.zeros((1, 1, 16, 16))
    picture[0, 0, 4:9, 4:9] = rng.normal(size=(5, 5))
    kernel = rng.normal(size=(1, 1, 3, 3))

    def mapped(shift: int):
        return striate.reference.convolve(np.roll(picture, shift, axis=3), kernel, stride=2, padding=1)

    np.testing.assert_allclose(mapped(2), np.roll(mapped(0), 1, axis=3))
    assert not any(np.allclose(mapped(1), np.roll(mapped(0), k, axis=3)) for k in range(8))
    pooled = [striate.reference.max_pool(mapped(shift), 8).item() for shift in (0, 2, 4)]
    assert pooled == pytest.approx([pooled[0]] * 3)
