"""A square of the right size, where it was drawn, of the image's mean color."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.augment.pixels import cutout


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    share=st.floats(0.01, 0.99),
    down=st.floats(0, 0.999),
    right=st.floats(0, 0.999),
)
def test_the_square_is_where_it_was_drawn(height: int, width: int, share: float, down: float, right: float) -> None:
    x = torch.zeros(1, 2, height, width, dtype=torch.uint8)
    x[:, 1] = 7
    x[:, :, ::2] += 100
    side = max(1, round(share * min(height, width)))
    got = cutout(x, torch.tensor([[down, right]], dtype=torch.float64), share)
    top, left = int(down * height) - side // 2, int(right * width) - side // 2
    rows, columns = slice(max(top, 0), max(top + side, 0)), slice(max(left, 0), max(left + side, 0))
    expected = x.clone()
    expected[:, :, rows, columns] = x.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    assert torch.equal(got, expected)
    assert bool((got != x)[0, 0, rows, columns].any()) or height == 1


def test_squares_reach_over_the_edge_as_often_as_published() -> None:
    x = torch.zeros(4000, 1, 16, 16, dtype=torch.uint8)
    x[:, :, 0, 0] = 255  # the mean becomes 1
    centers = torch.rand(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blanked = (cutout(x, centers, 0.5)[:, 0] == 1).sum((1, 2)).double()
    assert blanked.max() == 64
    # Along each axis a side of 8 around any of 16 pixels: 4 to 8 pixels are there, 7 on average.
    assert float(blanked.mean()) == pytest.approx(49, abs=1)
