"""`striate connectivity`: as a user types it."""

from __future__ import annotations

import json

import pytest

from striate.cli import main


def test_the_edge_filter_as_text(capsys) -> None:
    assert main(["connectivity", "1x280x320", "--kernel", "1x2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for said in ("8,003,072,000", "178,640", "267,960", "16,006,054,680", "4,001,536,000 times fewer numbers"):
        assert said in out


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1x5", "--kernel", "3"], "stores 5 times fewer numbers, and needs 1.8 times fewer operations"),
        (["1x7x7", "--kernel", "3", "--stride", "3"], "stores 21.8 times fewer numbers, and needs 5.7 times"),
        (["1x1", "--kernel", "3", "--pad", "1"], "stores 3 times more numbers, and needs 5 times more operations"),
        (["1x3", "--kernel", "3"], "stores as many numbers, and needs as many operations"),
        (["1x7x7", "--kernel", "3", "--stride", "3"], "ignored inputs: 13 of 49 positions;"),
        (["3x100000x100000", "--kernel", "3"], "3.00·10^20"),
        (["3x100000x100000", "--kernel", "3"], "stores 1.11·10^19 times fewer"),
    ],
)
def test_ratios_and_what_is_left_over(capsys, words: list[str], said: str) -> None:
    assert main(["connectivity", *words]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("shape", ["1x280x320", "3x100000x100000", "9999x30000x30000", "10000x9999x9999x9999"])
def test_the_table_of_huge_maps_fits_with_whole_names(capsys, shape: str) -> None:
    assert main(["connectivity", shape, "--kernel", "3", "--filters", "100", "--bias"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(f"\n{name} " in out for name in ("fully connected", "locally connected", "convolution", "sparse matrix"))


@pytest.mark.parametrize(("shape", "told"), [("8x8", True), ("1x8x8", False), ("3x100", False)])
def test_a_picture_without_its_channel_is_told(capsys, shape: str, told: bool) -> None:
    assert main(["connectivity", shape, "--kernel", "3"]) == 0
    assert ("A gray picture of this size is 1x8x8" in capsys.readouterr().err) is told


def test_json(capsys) -> None:
    words = [
        "connectivity",
        "3x8x8",
        "--kernel",
        "3",
        "--filters",
        "4",
        "--stride",
        "2",
        "--pad",
        "1",
        "--bias",
        "--json",
    ]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["out_shape"] == [4, 4, 4]
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert list(layers) == ["fully connected", "locally connected", "convolution", "sparse matrix"]
    assert layers["convolution"]["parameters"] == 4 * 27 + 4
    assert all(layer["description"] for layer in layers.values())


def test_same_padding(capsys) -> None:
    assert main(["connectivity", "1x200x200", "--kernel", "10", "--pad", "same"]) == 0
    assert "4,000,000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1x280x320"], "kernel"),
        (["abc", "--kernel", "3"], "remedy:   striate connectivity 1x280x320 --kernel 1x2"),
        (["1x280x320", "--kernel", "a"], "--kernel 1x2"),
        (["1x2", "--kernel", "3"], "--kernel 2"),
        (["5", "--kernel", "3"], "channels"),
        (["1x5x5", "--kernel", "3", "--pad", "full"], "--pad"),
        (["1x5x5", "--kernel", "3", "--filters", "0"], "--filters 1"),
        (["1x5x5", "--kernel", "3", "--stride", "0"], "--stride"),
    ],
)
def test_wrong_requests(capsys, words: list[str], said: str) -> None:
    assert main(["connectivity", *words]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert not out
