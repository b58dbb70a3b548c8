"""A fixed filter computes what the definition says, exactly, and does not learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from striate import reference
from striate.errors import StriateError
from striate.layers.fixed_filter import PADDING_MODES, FixedFilter
from striate.layers.kernels import KERNELS
from striate.visualize.kernel_text import parse_kernel


def bytes_of(channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (2, channels, 7, 9), generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("name", KERNELS)
def test_by_name_it_is_the_definition_to_the_last_digit(name, mode) -> None:
    x, kernel = bytes_of(), KERNELS[name]
    weights = np.array([[kernel.weights]] * 3)
    exact = reference.convolve(x.numpy(), weights, padding=kernel.center, groups=3, padding_mode=mode) / kernel.divisor
    assert torch.equal(FixedFilter(name, 3, mode).double()(x), torch.from_numpy(exact))
    single = FixedFilter(name, 3, mode)(x.float())
    assert torch.equal(single, torch.from_numpy(exact.astype(np.float32))), "sums of bytes are whole in float32 too"


def test_rows_and_kernels_are_taken_as_they_are() -> None:
    x = bytes_of(1)
    rows = [[0.25, 0.5, 0.25]]
    torch.testing.assert_close(FixedFilter(rows).double()(x), FixedFilter(parse_kernel("1 2 1 /4")).double()(x))
    assert torch.equal(FixedFilter([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])(x.float()), FixedFilter("sharpen")(x.float()))
    assert torch.equal(FixedFilter([[2.0]])(x.float()), 2 * x.float())


def test_the_weights_are_saved_and_moved_but_not_trained() -> None:
    layer = FixedFilter("sobel-x", 2)
    assert list(layer.parameters()) == []
    assert layer.state_dict()["weight"].tolist() == [[[list(row) for row in KERNELS["sobel-x"].weights]]]
    assert layer.half().weight.dtype == torch.float16


def test_gradients_go_through_it_to_what_is_before() -> None:
    x = bytes_of(2)[:, :, :4, :5].requires_grad_()
    assert torch.autograd.gradcheck(FixedFilter("gaussian5", 2).double(), (x,))


def test_an_edge_detector_before_a_network() -> None:
    net = nn.Sequential(FixedFilter("sobel-x"), nn.ReLU(), nn.Flatten(), nn.Linear(63, 2))
    assert net(bytes_of(1).float()).shape == (2, 2)
    assert "'sobel-x', channels=1" in repr(net)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FixedFilter("sobelx"), "kernel='sobel-x'"),
        (lambda: FixedFilter("sobel-x", 0), "channels=1"),
        (lambda: FixedFilter("sobel-x", 1, "mirror"), "replicate"),
        (lambda: FixedFilter([[1, 2], [3]]), "rows of the same length"),
        (lambda: FixedFilter([[1, -1]]), "kernel=[[0, 1.0, -1.0]]"),
        (lambda: FixedFilter([[float("nan")]]), "finite"),
        (lambda: FixedFilter([]), "without numbers"),
        (lambda: FixedFilter([["a"]]), "rows of numbers"),
        (lambda: FixedFilter(3), "rows of numbers"),
        (lambda: FixedFilter("sobel-x", 2)(torch.zeros(1, 3, 5, 5)), "channels=3"),
        (lambda: FixedFilter("sobel-x")(torch.zeros(1, 5, 5)), "(N, 1, H, W)"),
        (lambda: FixedFilter("sobel-x")(torch.zeros(1, 1, 5, 0)), "empty"),
        (lambda: FixedFilter("sobel-x")(torch.zeros(1, 1, 5, 5, dtype=torch.uint8)), "x.float()"),
        (lambda: FixedFilter("gaussian5", 1, "reflect")(torch.zeros(1, 1, 2, 9)), "at least 3 × 3"),
        (lambda: FixedFilter("gaussian5", 1, "circular")(torch.zeros(1, 1, 9, 1)), "at least 2 × 2"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(make, said) -> None:
    with pytest.raises(StriateError) as caught:
        make()
    assert said in str(caught.value)
