"""Gaussian blur of each image of a batch, with a width of its own."""

from __future__ import annotations

import torch

from striate.data.parts import as_bytes, by_parts
from striate.data.transfer import sent

_TRUNCATE = 4.0  # standard deviations, as scipy.ndimage has it


def blur(x_BCHW: torch.Tensor, sigma: torch.Tensor, largest: float) -> torch.Tensor:
    """The batch (uint8) blurred by a separable Gaussian of (B,) standard deviations in pixels, none above `largest`.

    The kernel ends at four standard deviations; beyond the edge, its pixels are repeated.
    """
    # Built on the CPU: accelerators add up what edges repeat in an order that changes from call to call.
    sigma = sigma.to(device="cpu", dtype=torch.float32)

    def change(part: torch.Tensor, at: slice) -> torch.Tensor:
        rows, columns = (sent(_band_matrix(sigma[at], largest, side)[:, None], part.device) for side in part.shape[2:])
        return as_bytes(rows @ part.float() @ columns.transpose(2, 3), part.dtype)

    return by_parts(change, x_BCHW)


def _band_matrix(sigma: torch.Tensor, largest: float, side: int) -> torch.Tensor:
    """(B, side, side): each row holds the weights that one blurred pixel gives to the pixels of its line.

    A whole matrix costs more products than a short kernel and is faster: it is one matrix product, edges included.
    """
    reach = int(_TRUNCATE * largest + 0.5)
    taps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (taps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    # Where the kernel ends follows from each image's own width, not from the widest of the batch.
    weights = weights * (taps.abs() <= torch.floor(_TRUNCATE * sigma + 0.5)[:, None])
    weights = weights / weights.sum(1, keepdim=True)
    places = (torch.arange(side)[:, None] + taps).clamp(0, side - 1)
    matrix = torch.zeros(len(sigma), side, side)
    batch = len(sigma)
    return matrix.scatter_add_(2, places.expand(batch, -1, -1), weights[:, None].expand(-1, side, -1))
