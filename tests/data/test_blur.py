"""Blur agrees with SciPy's Gaussian filter, for each image its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from striate.data.augment import pixels as blur_module
from striate.data.augment.pixels import blur


@pytest.mark.parametrize("shape", [(3, 1, 28, 20), (3, 3, 9, 33)])
def test_blur_is_scipys(shape: tuple[int, ...]) -> None:
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.4, 1.3, 3.0]).double()
    got = blur(x, sigma, 3.0)
    assert got.dtype == torch.uint8
    for image, blurred, width in zip(x.numpy(), got.numpy(), sigma.tolist(), strict=True):
        for plane, result in zip(image, blurred, strict=True):
            expected = gaussian_filter(plane.astype(np.float64), width, mode="nearest")
            assert np.abs(result - expected).max() <= 0.51


def test_a_width_of_nothing_changes_nothing_and_others_do_not_matter() -> None:
    x = torch.randint(0, 256, (2, 1, 12, 12), dtype=torch.uint8)
    got = blur(x, torch.tensor([0.0, 2.0]), 2.0)
    assert torch.equal(got[0], x[0])
    assert torch.equal(got[1:], blur(x[1:], torch.tensor([2.0]), 2.0))


@pytest.mark.slow
def test_an_accelerator_gets_matrices_whose_sums_were_made_on_the_cpu(monkeypatch) -> None:
    devices = []
    original = blur_module._band_matrix

    def band_matrix(sigma: torch.Tensor, *rest: object) -> torch.Tensor:
        devices.append(sigma.device.type)
        return original(sigma, *rest)

    monkeypatch.setattr(blur_module, "_band_matrix", band_matrix)
    out = blur(torch.zeros(2, 1, 5, 6, dtype=torch.uint8, device="meta"), torch.tensor([0.5, 1.0]), 1.0)
    assert (out.shape, out.dtype, out.device.type) == ((2, 1, 5, 6), torch.uint8, "meta")
    assert devices == ["cpu", "cpu"]
