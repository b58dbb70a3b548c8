"""Gaussian blur of each image of a batch, with a width of its own."""

from __future__ import annotations

import torch

_TRUNCATE = 4.0  # standard deviations, as scipy.ndimage has it


def blur(x_BCHW: torch.Tensor, sigma: torch.Tensor, largest: float) -> torch.Tensor:
    """The batch (uint8) blurred by a separable Gaussian of (B,) standard deviations in pixels, none above `largest`.

    The kernel ends at four standard deviations; beyond the edge, its pixels are repeated.
    """
    sigma = sigma.to(device=x_BCHW.device, dtype=torch.float32)
    rows = _band_matrix(sigma, largest, x_BCHW.shape[2])[:, None]
    columns = _band_matrix(sigma, largest, x_BCHW.shape[3])[:, None]
    out = rows @ x_BCHW.float() @ columns.transpose(2, 3)
    return out.round_().clamp_(0, 255).to(x_BCHW.dtype)


def _band_matrix(sigma: torch.Tensor, largest: float, side: int) -> torch.Tensor:
    """(B, side, side): each row holds the weights that one blurred pixel gives to the pixels of its line.

    A whole matrix costs more products than a short kernel and is faster: it is one matrix product, edges included.
    """
    reach = int(_TRUNCATE * largest + 0.5)
    taps = torch.arange(-reach, reach + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (taps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    # Where the kernel ends follows from each image's own width, not from the widest of the batch.
    weights = weights * (taps.abs() <= torch.floor(_TRUNCATE * sigma + 0.5)[:, None])
    weights = weights / weights.sum(1, keepdim=True)
    places = (torch.arange(side, device=sigma.device)[:, None] + taps).clamp(0, side - 1)
    matrix = torch.zeros(len(sigma), side, side, device=sigma.device)
    batch = len(sigma)
    return matrix.scatter_add_(2, places.expand(batch, -1, -1), weights[:, None].expand(-1, side, -1))
