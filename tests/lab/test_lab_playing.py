"""Play: windows, products and sums are those of the reference; pictures are those of `striate filter`."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from striate.errors import ShapeError, UsageError
from striate.lab.play_page import digits, kernel_of, read_kernel, windows_on_map
from striate.layers.axis_windows import AxisWindows
from striate.layers.kernels import KERNELS
from striate.reference import convolve
from striate.visualize.filter_picture import filter_picture
from striate.visualize.picture import sample_picture

MODES = ("zeros", "reflect", "replicate", "circular")


@given(
    st.integers(1, 12), st.integers(1, 7), st.integers(1, 4), st.integers(0, 5), st.integers(1, 3),
    st.sampled_from(MODES), st.sampled_from(("ones", "digits", "sobel-x", "gaussian5")),
)  # fmt: skip
def test_what_is_shown_is_the_reference(size, kernel, stride, padding, dilation, mode, weights) -> None:
    laid = windows_on_map(AxisWindows(size, kernel, stride, padding, padding, dilation), mode, weights)
    w = np.array(kernel_of(weights, kernel).weights)
    x = digits(size)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "padding_mode": mode}
    if "problem" in laid:
        with pytest.raises(ShapeError, match=re.escape(laid["problem"]["got"])):
            convolve(x[None, None], w[None, None], **settings)
        return
    y = convolve(x[None, None], w[None, None], **settings)[0, 0]
    assert laid["sums"] == y.astype(int).tolist()
    assert y.shape == (laid["count"], laid["count"])
    assert laid["arithmetic"].endswith(f" = {laid['count']}") or laid["uncovered"] or "." in laid["arithmetic"]
    padded, inside = np.array(laid["padded"]), slice(padding, padding + size)
    assert (padded[inside, inside] == x).all()
    for row, down in enumerate(laid["taps"]):
        for column, across in enumerate(laid["taps"]):
            products = laid["products"][row * laid["count"] + column]
            assert products == (padded[np.ix_(down, across)] * w).ravel().tolist()
            assert sum(products) == laid["sums"][row][column]
    read = {position - padding for taps in laid["taps"] for position in taps}
    assert laid["uncovered"] == [position for position in range(size) if position not in read]


def test_what_does_not_fit_is_told_with_its_remedy(client) -> None:
    laid = client.get("/api/play/windows", params={"size": 3, "kernel": 3, "dilation": 2}).json()
    assert laid["count"] == 0
    assert "sums" not in laid
    assert laid["problem"]["remedy"] == "padding 1"
    left = client.get("/api/play/windows", params={"size": 7, "kernel": 3, "stride": 3}).json()
    assert (left["arithmetic"], left["count"], left["uncovered"]) == ("(7−3)/3+1 = 2.33", 2, [6])
    assert left["ways_out"][0] == "pad 1 → 3"


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "wrong", [{"size": 17}, {"kernel": 8}, {"stride": 0}, {"mode": "x"}, {"padding": -1}, {"size": "x"}]
)
def test_sizes_have_limits(client, wrong: dict) -> None:
    answer = client.get("/api/play/windows", params={"size": 7, "kernel": 3} | wrong)
    assert answer.status_code == 422
    where = next(iter(wrong))
    assert answer.json()["error"]["where"] == ("input" if where == "size" else where)  # as the page calls its field


def test_a_filtered_picture_is_that_of_the_command_line(client) -> None:
    asked = {"image": "mnist5k#7", "kernel": "sharpen", "mode": "zeros"}
    answer = client.get("/api/play/filtered", params=asked)
    with Image.open(io.BytesIO(answer.content)) as read:
        shown = np.asarray(read)
    expected = filter_picture(sample_picture("mnist5k#7"), KERNELS["sharpen"], "zeros").values[..., 0]
    assert (shown == expected).all()
    about = client.get("/api/play/filter", params=asked | {"x": 14, "y": 9}).json()
    assert about["pixel"]["channels"][0]["value"] == expected[9, 14]
    assert about["kernel"]["weights"] == [list(row) for row in KERNELS["sharpen"].weights]


def test_a_large_picture_is_made_smaller_and_that_is_said(client) -> None:
    out = io.BytesIO()
    Image.fromarray(np.zeros((600, 1200, 3), np.uint8)).save(out, "PNG")
    name = client.post("/api/images/upload", content=out.getvalue()).json()["name"]
    about = client.get("/api/play/filter", params={"image": name, "kernel": "mean3"}).json()
    assert (about["width"], about["height"]) == (512, 256)
    assert about["notes"] == ["made smaller, from 1200 × 600 to 512 × 256 pixels"]


def test_a_kernel_is_never_a_file(client, tmp_path) -> None:
    (tmp_path / "kernel.txt").write_text("1")
    (tmp_path / "9").write_text("1 1 1")
    for text in ("kernel.txt", "./9", f"{tmp_path}/kernel.txt", "", "sobel", "1 2", "nan", "1" * 3000):
        with pytest.raises(UsageError):
            read_kernel(text)
        error = client.get("/api/play/filter", params={"image": "mnist5k#0", "kernel": text}).json()["error"]
        assert "--kernel" not in error["remedy"]
    assert read_kernel("9").weights == ((9,),)
    assert read_kernel("0 -1 0; -1 5 -1; 0 -1 0") == KERNELS["sharpen"]
