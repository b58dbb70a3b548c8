"""The named kernels hold exactly the numbers they are known for, and what is no kernel is refused."""

from __future__ import annotations

import ast

import pytest

from striate.errors import UsageError
from striate.layers.kernels import KERNELS, PURPOSES, check_form

WRITTEN = {
    "identity": "0 0 0;0 1 0;0 0 0",
    "mean3": "1 1 1;1 1 1;1 1 1 /9",
    "blur3": "1 2 1;2 4 2;1 2 1 /16",
    "gaussian5": "1 4 7 4 1;4 16 26 16 4;7 26 41 26 7;4 16 26 16 4;1 4 7 4 1 /273",
    "sharpen": "0 -1 0;-1 5 -1;0 -1 0",
    "sobel-x": "-1 0 1;-2 0 2;-1 0 1",
    "sobel-y": "-1 -2 -1;0 0 0;1 2 1",
    "sobel-diagonal": "2 1 0;1 0 -1;0 -1 -2",
    "prewitt-x": "-1 0 1;-1 0 1;-1 0 1",
    "prewitt-y": "-1 -1 -1;0 0 0;1 1 1",
    "vertical-edge": "1 0 -1;1 0 -1;1 0 -1",
    "horizontal-edge": "1 1 1;0 0 0;-1 -1 -1",
    "laplacian": "0 1 0;1 -4 1;0 1 0",
    "emboss": "-2 -1 0;-1 1 1;0 1 2",
}


def test_every_name_has_its_numbers_and_its_purpose() -> None:
    assert KERNELS.keys() == WRITTEN.keys() == PURPOSES.keys()
    for name, text in WRITTEN.items():
        assert str(KERNELS[name]).replace("; ", ";") == text


def test_blurs_keep_an_even_gray_and_edges_make_it_black() -> None:
    keeping = {name for name, kernel in KERNELS.items() if kernel.total == kernel.divisor}
    assert keeping == {"identity", "mean3", "blur3", "gaussian5", "sharpen", "emboss"}
    assert {kernel.total for name, kernel in KERNELS.items() if name not in keeping} == {0}


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ([], "without numbers"),
        ([[]], "without numbers"),
        ([[1, 2], [3]], "rows of 2, 1 numbers"),
        ([[1, -1]], "1 × 2 numbers"),
        ([[1, 0], [0, 1]], "2 × 2 numbers"),
        ([[1], [2]], "2 × 1 numbers"),
    ],
)
def test_what_is_no_kernel_is_refused_with_an_argument_that_is_one(rows, got) -> None:
    with pytest.raises(UsageError) as caught:
        check_form(rows)
    assert got in caught.value.got
    check_form(ast.literal_eval(caught.value.remedy.removeprefix("kernel=")))
