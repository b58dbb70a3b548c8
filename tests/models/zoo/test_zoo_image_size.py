"""Which sizes a chain of windows takes: the arithmetic, against torch."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.zoo.image_size import Slide, chain_sizes, check_image, smallest_size

WINDOWS = st.builds(
    lambda kernel, stride, padded, round_up: Slide(kernel, stride, kernel // 2 if padded else 0, round_up),
    st.integers(1, 7), st.integers(1, 4), st.booleans(), st.booleans(),
)  # fmt: skip


@given(st.integers(1, 40), WINDOWS)
def test_a_window_fits_as_often_as_torch_pools(size, window):
    pool = nn.MaxPool1d(window.kernel, window.stride, window.padding, ceil_mode=window.round_up)
    found = window.fit(size)
    try:
        count = pool(torch.zeros(1, 1, size)).shape[2]
    except RuntimeError:
        count = 0
    assert found == count


@given(st.lists(WINDOWS, min_size=1, max_size=5).map(tuple))
def test_the_smallest_size_is_the_first_that_leaves_something(windows):
    smallest = smallest_size(windows)
    assert chain_sizes(smallest, windows)[-1] > 0
    assert smallest == 1 or chain_sizes(smallest - 1, windows)[-1] == 0
    check_image("x", (3, smallest, smallest + 1), windows)
    if smallest > 1:
        with pytest.raises(ModelError):
            check_image("x", (3, smallest, smallest - 1), windows)


def test_the_arithmetic_is_told():
    with pytest.raises(ModelError) as caught:
        check_image("net", (3, 20, 62), (Slide(11, 4, 2), Slide(3, 2), Slide(3, 2)))
    error = caught.value
    assert error.got == "images of 20×62: 20 → 4 → 1, and no window of 3 fits into 1"
    assert error.expected == "images of at least 31×31"
    assert "--size 31x62" in error.remedy


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("shape", [(13,), (2, 50), (1, 8, 8, 8)])
@pytest.mark.parametrize(
    "name", ["resnet50", "resnext50_32x4d", "seresnet50", "senet154", "resnet20", "vgg11", "neocognitron"]
)
def test_what_is_no_image_gets_a_network_that_takes_it(name, shape):
    with pytest.raises(ModelError) as caught:
        build_model(name, shape, 3)
    assert name in caught.value.where
    other = re.search(r"--model ([\w-]+)", caught.value.remedy).group(1)
    assert build_model(other, shape, 3).eval()(torch.zeros(1, *shape)).shape == (1, 3)
