"""Filters compute what the definition says, in whole numbers, with the pages' own examples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate import reference
from striate.errors import UsageError
from striate.layers.kernels import KERNELS, Kernel
from striate.visualize import filter_picture as module
from striate.visualize.filter_picture import PADDING_MODES, divide, explain_pixel, filter_picture, filter_values
from striate.visualize.kernel_text import parse_kernel
from striate.visualize.picture import Picture


def numbers(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


def by_definition(x: np.ndarray, kernel: Kernel, mode: str) -> np.ndarray:
    """The reference's sums, divided as fractions and rounded with halves up."""
    pads = kernel.center
    sums = reference.convolve(x[None, None], [[kernel.weights]], padding=pads, padding_mode=mode)[0, 0]
    exact = np.array([[int(np.floor(Fraction(int(s), kernel.divisor) + Fraction(1, 2))) for s in row] for row in sums])
    return np.clip(exact, 0, 255)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_is_the_cross_correlation_of_the_definition(name, mode) -> None:
    x = numbers(0, 9, 11)
    assert filter_values(x, KERNELS[name], mode).tolist() == by_definition(x, KERNELS[name], mode).tolist()


@given(
    rows=st.sampled_from([1, 3, 5]),
    columns=st.sampled_from([1, 3, 7]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    divisor=st.integers(1, 40),
    largest=st.sampled_from([3, 300, 10**9]),
    mode=st.sampled_from(["replicate", "zeros"]),
    seed=st.integers(0, 10**6),
)
def test_any_kernel_on_any_size(rows, columns, height, width, divisor, largest, mode, seed) -> None:
    weights = np.random.default_rng(seed).integers(-largest, largest, (rows, columns)).tolist()
    kernel = Kernel(tuple(map(tuple, weights)), divisor)
    x = numbers(seed, height, width)
    assert filter_values(x, kernel, mode).tolist() == by_definition(x, kernel, mode).tolist()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("side", [17, 31, 99])
@pytest.mark.parametrize("largest", [3, 20_000, 10**9])
def test_large_kernels_are_as_exact_as_small_ones(side, largest, monkeypatch) -> None:
    rng = np.random.default_rng(side)
    weights = rng.integers(-largest, largest, (side, side))
    weights[0, 0] -= weights.sum()  # so that results are not all black or white
    kernel = Kernel(tuple(map(tuple, weights.tolist())), 40 * largest)
    x = numbers(side, 120, 90)
    fast = filter_values(x, kernel)
    monkeypatch.setattr(module, "_MANY_WEIGHTS", 10**9)
    assert np.array_equal(fast, filter_values(x, kernel))
    assert len(np.unique(fast)) > 10


@pytest.mark.parametrize("power", [16, 18, 20, 40, 999])
def test_numbers_of_any_size_are_summed_exactly(power) -> None:
    x = numbers(power, 6, 7)
    large = 10**power
    kernel = parse_kernel(f"-1e{power} 1e{power} 0; 0 1 0; 1e{power} 0 -1e{power}")
    assert kernel.weights == ((-large, large, 0), (0, 1, 0), (large, 0, -large))
    padded = np.pad(x, 1, mode="edge").astype(object)
    sums = sum(
        weight * padded[a : a + 6, b : b + 7] for a, row in enumerate(kernel.weights) for b, weight in enumerate(row)
    )
    assert filter_values(x, kernel).tolist() == np.clip(sums, 0, 255).tolist()
    pixel = explain_pixel(Picture(x[..., None]), kernel, "replicate", "3,2")
    assert (pixel.channels[0].sum, pixel.channels[0].value) == (sums[2, 3], filter_values(x, kernel)[2, 3])


def test_pictures_of_many_bands_have_no_seams(monkeypatch) -> None:
    x = numbers(1, 400, 50)
    whole = filter_values(x, KERNELS["gaussian5"])
    monkeypatch.setattr(module, "_BAND", 1)
    assert np.array_equal(whole, filter_values(x, KERNELS["gaussian5"]))


def test_the_blur_of_the_pages_replicates_the_border_and_rounds_to_nearest() -> None:
    ring = np.full((5, 5), 100, np.uint8)
    ring[1:4, 1:4] = 0
    printed = [[94, 81, 75, 81, 94], [81, 44, 25, 44, 81], [75, 25, 0, 25, 75]]
    assert filter_values(ring, KERNELS["blur3"]).tolist() == [*printed, printed[1], printed[0]]
    assert filter_values(ring, KERNELS["blur3"], "zeros")[0, 0] == 50  # 800 / 16 = 50: with zeros the frame is dark


def test_the_sharpened_corner_of_the_pages_is_white_in_a_picture() -> None:
    x = np.array(
        [[105, 102, 100, 97], [103, 99, 103, 101], [101, 98, 104, 102], [99, 101, 106, 104]],
        np.uint8,
    )
    pixel = explain_pixel(Picture(x[..., None]), KERNELS["sharpen"], "zeros", "0,0")
    assert pixel.channels[0].sum == 320  # as printed; a byte holds at most 255
    assert pixel.channels[0].value == filter_values(x, KERNELS["sharpen"], "zeros")[0, 0] == 255


def test_the_vertical_edge_of_the_pages() -> None:
    x = np.array([[10, 10, 10, 0, 0, 0]] * 6, np.uint8)
    assert filter_values(x, KERNELS["vertical-edge"])[1:-1, 1:-1].tolist() == [[0, 30, 30, 0]] * 4
    assert filter_values(x, KERNELS["prewitt-x"]).max() == 0, "brighter to the left is below 0, and so black"


def test_halves_go_up_and_nothing_wraps_around() -> None:
    assert divide(np.array([1, 3, 5, -1, -3, 509, 510, 511, 10**9, -(10**9)]), 2).tolist() == [
        *(1, 2, 3, 0, 0, 255, 255, 255, 255, 0)
    ]
    x = np.array([[0, 255]], np.uint8)
    assert filter_values(x, parse_kernel("2 0 0")).tolist() == [[0, 0]]
    assert filter_values(x, parse_kernel("-1")).tolist() == [[0, 0]]
    assert filter_values(x, parse_kernel("300")).tolist() == [[0, 255]]


def test_color_is_filtered_a_channel_at_a_time_and_alpha_not_at_all() -> None:
    planes = np.stack([numbers(k, 6, 7) for k in range(3)], axis=-1)
    alpha = numbers(9, 6, 7)
    found = filter_picture(Picture(planes, alpha), KERNELS["mean3"])
    for k in range(3):
        assert np.array_equal(found.values[..., k], filter_values(planes[..., k], KERNELS["mean3"]))
    assert np.array_equal(found.alpha, alpha)
    assert "transparency" in found.notes[-1]


@pytest.mark.parametrize(
    ("mode", "size", "fits"),
    [("reflect", (3, 3), True), ("reflect", (2, 9), False), ("circular", (2, 2), True), ("circular", (1, 9), False)],
)
def test_a_border_that_the_picture_cannot_give_is_refused(mode, size, fits) -> None:
    x = numbers(0, *size)
    if fits:
        assert filter_values(x, KERNELS["gaussian5"], mode).shape == size
        return
    with pytest.raises(UsageError, match="--padding-mode replicate"):
        filter_values(x, KERNELS["gaussian5"], mode)
    assert filter_values(x, KERNELS["gaussian5"], "replicate").shape == size


def test_an_unknown_border_is_refused() -> None:
    with pytest.raises(UsageError, match="zeros or reflect or replicate"):
        filter_values(numbers(0, 3, 3), KERNELS["mean3"], "mirror")


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("name", ["blur3", "gaussian5", "sobel-diagonal", "emboss"])
def test_the_explanation_ends_with_the_pixel_that_the_filter_gives(name, mode) -> None:
    picture = Picture(np.stack([numbers(k, 5, 4) for k in range(3)], axis=-1))
    filtered = filter_picture(picture, KERNELS[name], mode).values
    for y in range(5):
        for x in range(4):
            pixel = explain_pixel(picture, KERNELS[name], mode, f"{x},{y}")
            assert [channel.value for channel in pixel.channels] == filtered[y, x].tolist()


def test_the_explanation_shows_every_step() -> None:
    picture = Picture(np.array([[[10], [20], [30]], [[40], [50], [61]]], np.uint8))
    text = str(explain_pixel(picture, KERNELS["blur3"], "replicate", "2,1"))
    assert text.splitlines() == [
        "output pixel x = 2, y = 1 (column and row, counted from 0)",
        "( ) is beyond the border: the nearest pixel (padding mode replicate)",
        "",
        "gray",
        "  pixels            kernel    products",
        "    20   30 (30)    1 2 1      20  60  30",
        "    50   61 (61)    2 4 2     100 244 122",
        "  (50) (61) (61)    1 2 1      50 122  61",
        "  sum      20 + 60 + 30 + 100 + 244 + 122 + 50 + 122 + 61 = 809",
        "  divided  809 / 16 = 50.5625",
        "  rounded  51",
        "  value    51",
    ]
    dark = str(explain_pixel(picture, KERNELS["laplacian"], "zeros", "1,1"))
    assert "limited  0, because -79 is below 0" in dark
    assert "( ) is beyond the border: 0 (padding mode zeros)" in dark
    assert "rounded  13, halves go up" in str(explain_pixel(picture, parse_kernel("1 0 0 /4"), "replicate", "2,1"))
    third = str(explain_pixel(picture, parse_kernel("1 1 0 /3"), "replicate", "0,0"))
    assert "divided  20 / 3 ≈ 6.666666667\n  rounded  7\n" in third
    assert "rounded" not in str(explain_pixel(picture, parse_kernel("1 1 0 /4"), "replicate", "0,0"))


@pytest.mark.parametrize("side", [1, 3, 9, 21, 99])
def test_the_explanation_of_any_kernel_fits_a_terminal(side) -> None:
    kernel = Kernel(((-7,) * side,) * side, 3)
    picture = Picture(numbers(0, 120, 110)[..., None])
    assert max(map(len, str(explain_pixel(picture, kernel, "replicate", "3,3")).splitlines())) <= 80


@pytest.mark.parametrize("at", ["4,0", "0,5", "-1,0", "1", "1,2,3", "a,b", "", "1.5,2", "9" * 200])
def test_a_pixel_outside_is_refused_with_one_inside(at) -> None:
    picture = Picture(numbers(0, 5, 4)[..., None])
    with pytest.raises(UsageError) as caught:
        explain_pixel(picture, KERNELS["mean3"], "replicate", at)
    explain_pixel(picture, KERNELS["mean3"], "replicate", caught.value.remedy.removeprefix("--explain "))
