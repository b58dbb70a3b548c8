"""A kernel of one's own is taken exactly or not at all; names, numbers and files are told apart."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.errors import UsageError
from striate.layers.kernels import KERNELS, Kernel
from striate.visualize.kernel_text import choose_kernel, kernel_from_rows, parse_kernel


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_of_the_table_written_out_is_known_by_its_name(name) -> None:
    assert parse_kernel(str(KERNELS[name])) == KERNELS[name]


@pytest.mark.parametrize(
    ("text", "weights", "divisor"),
    [
        ("7", ((7,),), 1),
        ("1,2,1", ((1, 2, 1),), 1),
        (" 0.5, 1 ,0.5 ; ", ((1, 2, 1),), 2),
        ("1/9 1/9 1/9", ((1, 1, 1),), 9),
        ("1/2 1/3 1/6", ((3, 2, 1),), 6),
        ("0.1 1e-1 +.1", ((1, 1, 1),), 10),
        ("1 2 1 / 4", ((1, 2, 1),), 4),
        ("2 4 2 /4", ((1, 2, 1),), 2),
        ("1 2 1/4", ((4, 8, 1),), 4),
        ("1 2 1 /-0.5", ((-2, -4, -2),), 1),
        ("# up\n1\n\n0 # nothing\n-1\n", ((1,), (0,), (-1,)), 1),
        ("1e2 0 0", ((100, 0, 0),), 1),
    ],
)
def test_numbers_are_taken_exactly(text, weights, divisor) -> None:
    assert parse_kernel(text) == Kernel(weights, divisor)


@given(st.lists(st.lists(st.fractions(-50, 50, max_denominator=12), min_size=3, max_size=3), min_size=3, max_size=3))
def test_any_fractions_are_kept_as_they_are(rows) -> None:
    kernel = kernel_from_rows(rows)
    assert [[Fraction(weight, kernel.divisor) for weight in row] for row in kernel.weights] == rows
    assert parse_kernel(str(kernel)) == kernel


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("1 2; 3", "rows of 2, 1 numbers"),
        ("1 2 3;;1 2 3", "rows of 3, 0, 3 numbers"),
        (";", "without numbers"),
        ("", "without numbers"),
        ("1 nan 1", "nan"),
        ("1 -inf 1", "-inf"),
        ("1 x 1", "'x'"),
        ("1 1/0 1", "1/0"),
        ("1 2 1 /0", "division by 0"),
        ("1 -1", "1 × 2 numbers"),
        ("1 0;0 1", "2 × 2 numbers"),
        ("; ".join(["1 " * 101] * 3), "3 × 101 numbers"),
        (";".join(["1"] * 101), "101 × 1 numbers"),
        ("1/2/3 0 0", "'1/2/3'"),
    ],
)
def test_what_is_no_kernel_is_refused(text, got) -> None:
    with pytest.raises(UsageError) as caught:
        parse_kernel(text)
    assert got in caught.value.got


@pytest.mark.parametrize("size", [3, 5])
def test_numbers_at_full_precision_are_rounded_and_that_is_said(size) -> None:
    offsets = np.arange(size) - size // 2
    gaussian = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 2)
    gaussian /= gaussian.sum()
    chosen = choose_kernel("; ".join(" ".join(map(repr, row)) for row in gaussian.tolist()))
    assert chosen.kernel.decimals >= 12
    assert f"rounded to {chosen.kernel.decimals} decimals" in chosen.words
    weights = np.array(chosen.kernel.weights) / chosen.kernel.divisor
    np.testing.assert_allclose(weights, gaussian, rtol=0, atol=10.0**-chosen.kernel.decimals)
    third = choose_kernel(f"{1 / 9!r} {1 / 9!r} {1 / 9!r}")
    assert third.kernel.decimals is not None
    assert choose_kernel("0.1 0.25 1/9").kernel.decimals is None


def test_large_whole_numbers_stay_exact_and_others_beside_them_become_whole() -> None:
    assert choose_kernel("9007199254740993 0 -1e20").kernel == Kernel(((9007199254740993, 0, -(10**20)),))
    chosen = choose_kernel("1e-30 1e30 1.6")
    assert chosen.kernel.weights == ((0, 10**30, 2),)
    assert chosen.words.endswith("rounded to 0 decimals")


def test_a_path_that_is_not_there_is_told_as_that() -> None:
    for text, said in (("nofile.txt", True), ("./sobel", True), ("sobl", False)):
        with pytest.raises(UsageError) as caught:
            choose_kernel(text)
        assert ("no such file" in caught.value.got) is said


@pytest.mark.parametrize("text", ["1 -1", "1 0; 0 1", "1; 2", "1 2 3; 4 5 6"])
def test_the_remedy_for_a_kernel_of_the_wrong_form_is_a_kernel(text) -> None:
    with pytest.raises(UsageError) as caught:
        parse_kernel(text)
    proposed = caught.value.remedy.partition('--kernel "')[2].removesuffix('"')
    assert choose_kernel(proposed).source == "text"


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("1 2 1 /0", "1 2 1"),
        ("1 2 1 /nan", "1 2 1"),
        ("nan 1 1", "0 1 1"),
        ("1/0 2 1", "0 2 1"),
        ("1,2,1;1,2", "0 0 0; 1 2 1; 1 2 0"),
    ],
)
def test_what_is_wrong_with_a_kernel_is_mended_in_it(text, mended) -> None:
    with pytest.raises(UsageError) as caught:
        parse_kernel(text)
    assert caught.value.remedy == f'--kernel "{mended}"'


def test_the_difference_of_two_neighbors_is_written_with_a_zero_before_it() -> None:
    with pytest.raises(UsageError) as caught:
        parse_kernel("1 -1")
    assert caught.value.remedy == '--kernel "0 1 -1"'


def test_a_name_comes_first_then_numbers_then_a_file() -> None:
    Path("own.txt").write_text("1 2 1\n2 4 2\n1 2 1\n/16\n", encoding="utf-8")
    Path("sharpen").write_text("1", encoding="utf-8")
    Path("7").write_text("0 3 0", encoding="utf-8")
    assert choose_kernel("own.txt").source == "file"
    assert choose_kernel("own.txt").kernel == KERNELS["blur3"]
    named = choose_kernel("sharpen")
    assert (named.source, named.kernel.name) == ("name", "sharpen")
    assert "./sharpen" in named.words
    assert choose_kernel("./sharpen").kernel.weights == ((1,),)
    assert choose_kernel("7").kernel.weights == ((7,),)
    assert choose_kernel("./7").kernel.weights == ((0, 3, 0),)
    assert choose_kernel("-1 0 1").source == "text"


def test_a_misspelled_name_gets_the_nearest_and_a_broken_file_its_name() -> None:
    with pytest.raises(UsageError) as caught:
        choose_kernel("sobelx")
    assert caught.value.remedy == "--kernel sobel-x"
    Path("bad.txt").write_bytes(b"\xff\xfe\x00")
    Path("words.txt").write_text("1 2 three", encoding="utf-8")
    Path("huge.txt").write_bytes(b"1 " * 600_000)
    for name, got in (("bad.txt", "not text"), ("words.txt", "'three'"), ("huge.txt", "bytes")):
        with pytest.raises(UsageError) as caught:
            choose_kernel(name)
        assert name in caught.value.where
        assert got in caught.value.got
