"""Whitening of natural images by a fixed filter, and its inverse."""

from __future__ import annotations

import torch
from torch import nn

from striate.layers.windows import wide

CUTOFF = 0.8
"""f₀ of the low-pass, as a share of the largest frequency along an axis (Olshausen and Field: 200 of 256)."""
_LEAST = 0.05  # of the largest gain: the inverse amplifies frequencies with a smaller gain no further
_FLAT = 1e-3  # standard deviation of an image with values from 0 to 1 below which it has no contrast to divide by


class ImageWhitening(nn.Module):
    """Images (N, C, H, W) to images of the same size with mean 0, a flat spectrum and standard deviation `scale` each.

    The amplitude of natural images falls as 1/f; the gain rises as f · exp(−(f/f₀)⁴), where the second factor
    attenuates noise and the corners of the frequency grid. Images are mirrored at the border, so that it is not an
    edge. Source: Olshausen and Field, "Sparse coding with an overcomplete basis set", Vision Research 37, 1997,
    methods."""

    gain: torch.Tensor

    def __init__(self, height: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        rows = 2 * torch.fft.fftfreq(2 * height).abs()
        columns = 2 * torch.fft.rfftfreq(2 * width).abs()
        frequency = (rows[:, None].square() + columns.square()).sqrt()
        gain = frequency * torch.exp(-((frequency / CUTOFF) ** 4))
        self.register_buffer("gain", gain / gain.max())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The whitened images."""
        white = _filtered(x, self.gain)
        return (self.scale * white / _contrast(white)).to(x.dtype)

    def inverse(self, white: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The images whose whitened images are `white`; mean and contrast, which whitening removes, come from `x`."""
        inverse = torch.where(self.gain > _LEAST, 1 / self.gain.clamp(min=_LEAST), self.gain / _LEAST**2)
        found = _filtered(white * _contrast(_filtered(x, self.gain)) / self.scale, inverse)
        return (found + x.mean((2, 3), keepdim=True)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


def _filtered(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[2:]
    x = wide(x)
    if x.shape[0] == 0:  # the Fourier transform refuses an empty batch
        return x
    mirrored = torch.cat([x, x.flip(3)], 3)
    mirrored = torch.cat([mirrored, mirrored.flip(2)], 2)
    found: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(mirrored) * gain, s=mirrored.shape[2:])
    return found[:, :, :height, :width]


def _contrast(white: torch.Tensor) -> torch.Tensor:
    """The standard deviation of each image, (N, 1, 1, 1), bounded from below."""
    return white.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=_FLAT)
