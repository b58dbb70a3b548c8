"""Augmentations that change the values of pixels: color, blur, cutout, noise. `warp.py` moves pixels.

A new one is a `PixelStep` in a file of its own, listed in `augment.STEPS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from striate.data.config import AugmentConfig
from striate.data.counter_normal import normals
from striate.data.counter_random import hash_key, uniforms
from striate.data.memory_layout import as_bytes, by_parts
from striate.data.transfer import sent
from striate.wording import percent

Change = Callable[[torch.Tensor], torch.Tensor]
"""Maps a batch (B, C, H, W) uint8 (for sounds, see `sound.py`) to another of the same shape and type."""


@dataclass(frozen=True)
class PixelStep:
    """An augmentation of pixel values that is on if its field of `AugmentConfig` is above 0."""

    field: str
    """The name of that field."""
    columns: tuple[str, ...]
    """Names of the random numbers that it needs for each image."""
    draw: Callable[[float, Mapping[str, torch.Tensor]], Change]
    """Called as `draw(value, u)` with the value of the field and the random numbers by name, (B,) float64 in [0, 1);
    returns the change of the batch."""
    words: Callable[[float], str]
    """Called with the value of the field; returns what it does, for messages: "blur up to 2 px"."""


LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601), as in Pillow."""

# From RGB to YIQ (NTSC, 1953): brightness, and two axes of color around which hue is an angle.
_YIQ = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], dtype=torch.float64)


@dataclass(frozen=True)
class ColorChange:
    """A change of the colors of B images, in the order of the fields, which are (B,) float64.

    m is the mean luma of the image, luma(x) that of a pixel. Only the final result is rounded and clipped to 0–255. For
    images without three channels, luma is the mean of the channels, and saturation and hue have no effect.
    """

    brightness: torch.Tensor
    """b: x → b·x. 1 changes nothing."""
    contrast: torch.Tensor
    """c: x → c·x + (1 − c)·m. 1 changes nothing."""
    saturation: torch.Tensor
    """s: x → s·x + (1 − s)·luma(x). 1 changes nothing."""
    hue: torch.Tensor
    """Rotation of the (I, Q) plane of YIQ in radians. 0 changes nothing."""

    def apply(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The batch (uint8) in its new colors; an image with neutral factors is not changed."""
        changed = (self.brightness != 1) | (self.contrast != 1)
        if x_BCHW.shape[1] == 3:
            changed |= (self.saturation != 1) | (self.hue != 0)
        rows = changed.nonzero().squeeze(1)
        if len(rows) == 0:
            return x_BCHW
        if len(rows) == len(x_BCHW):
            return self._changed(x_BCHW)
        out = x_BCHW.clone()
        there = sent(rows, out.device)
        part = ColorChange(self.brightness[rows], self.contrast[rows], self.saturation[rows], self.hue[rows])
        return out.index_copy_(0, there, part._changed(x_BCHW.index_select(0, there)))

    def _changed(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        channels = x_BCHW.shape[1]
        gain = self.brightness * self.contrast
        # Saturation and hue do not change gray, so what contrast adds passes through both.
        added = self.brightness - gain
        matrix = (self._chroma() if channels == 3 else torch.ones(len(gain), 1, 1).double()) * gain[:, None, None]
        matrix, added = (sent(numbers.float(), x_BCHW.device) for numbers in (matrix, added))
        luma = sent(torch.tensor(LUMA if channels == 3 else [1 / channels] * channels), x_BCHW.device)

        def change(part: torch.Tensor, rows: slice) -> torch.Tensor:
            flat = part.contiguous().float().flatten(2)  # else means would be summed in the order of the strides
            offset = (added[rows] * (flat.mean(2) @ luma))[:, None, None]
            out = torch.baddbmm(offset, matrix[rows], flat) if channels == 3 else flat * matrix[rows] + offset
            return as_bytes(out, part.dtype).view_as(part)

        return by_parts(change, x_BCHW)

    def _chroma(self) -> torch.Tensor:
        """(B, 3, 3) float64 on RGB: saturation, then hue."""
        gray = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)
        s = self.saturation[:, None, None]
        saturated = s * torch.eye(3, dtype=torch.float64) + (1 - s) * gray
        turn = torch.zeros(len(self.hue), 3, 3, dtype=torch.float64)
        cos, sin = self.hue.cos(), self.hue.sin()
        turn[:, 0, 0] = 1
        turn[:, 1, 1], turn[:, 1, 2] = cos, -sin
        turn[:, 2, 1], turn[:, 2, 2] = sin, cos
        chroma: torch.Tensor = torch.linalg.inv(_YIQ) @ turn @ _YIQ @ saturated
        return chroma


_TRUNCATE = 4.0  # standard deviations, as in scipy.ndimage


def blur(x_BCHW: torch.Tensor, sigma: torch.Tensor, largest: float) -> torch.Tensor:
    """The batch (uint8) blurred by a separable Gaussian of (B,) standard deviations in pixels, none above `largest`.

    The kernel ends at four standard deviations; beyond the edge, its pixels are repeated.
    """
    # Built on the CPU: accelerators would sum the weights of repeated edge pixels in a varying order.
    sigma = sigma.to(device="cpu", dtype=torch.float32)

    def change(part: torch.Tensor, at: slice) -> torch.Tensor:
        rows, columns = (sent(_band_matrix(sigma[at], largest, side)[:, None], part.device) for side in part.shape[2:])
        return as_bytes(rows @ part.float() @ columns.transpose(2, 3), part.dtype)

    return by_parts(change, x_BCHW)


def _band_matrix(sigma: torch.Tensor, largest: float, side: int) -> torch.Tensor:
    """(B, side, side): each row holds the weights that one blurred pixel gives to the pixels of its line.

    A dense matrix has more products than a short kernel, but is faster: it is one matrix product, including the edges.
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


BLUR = PixelStep(
    field="blur",
    columns=("blur",),
    draw=lambda value, u: lambda x_BCHW: blur(x_BCHW, u["blur"] * value, value),
    words=lambda value: f"blur up to {value:g} px",
)


def cutout(x_BCHW: torch.Tensor, center: torch.Tensor, share: float) -> torch.Tensor:
    """The batch (uint8) with a square in each image filled with that image's mean color, so that no single part of an
    object decides. Source: T. DeVries and G. W. Taylor, "Improved regularization of CNNs with cutout", 2017.

    `center`: (B, 2) uniform in [0, 1), down and right: every pixel is the center equally often, so that squares reach
    over the edge, as published. The side is `share` of the shorter side of the image, at least one pixel.
    """
    height, width = x_BCHW.shape[-2:]  # of clips the same square in all frames
    side = max(1, round(share * min(height, width)))
    center = sent(center, x_BCHW.device)
    inside = [_span(center[:, k] * length, side, length) for k, length in enumerate((height, width))]
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    if x_BCHW.ndim == 5:
        square = square[:, :, None]
    mean = x_BCHW.float().mean((-2, -1), keepdim=True).round_().to(x_BCHW.dtype)
    return torch.where(square, mean, x_BCHW)


def _span(center: torch.Tensor, side: int, length: int) -> torch.Tensor:
    """(B, length) bool: `side` pixels around the pixel that contains `center`, clipped to the image."""
    first = center.floor() - side // 2
    places = torch.arange(length, device=center.device)
    return (places >= first[:, None]) & (places < first[:, None] + side)


CUTOUT = PixelStep(
    field="cutout",
    columns=("cut_down", "cut_right"),
    draw=lambda value, u: lambda x_BCHW: cutout(x_BCHW, torch.stack([u["cut_down"], u["cut_right"]], dim=1), value),
    words=lambda value: f"a square of {percent(value, 0)} of the side blanked",
)


def with_noise(inputs: torch.Tensor, config: AugmentConfig, seed: int, epoch: int, ids: torch.Tensor) -> torch.Tensor:
    """Standardized inputs (B, …) float32 with the noise of `augment.noise`; the same object if that is 0 or None.

    The standard deviation of a sample's noise is uniform in [0, noise], in units of the standard deviation of the
    data, which normalization made 1. The numbers depend on seed, epoch and id, not on batch, layout or order.
    """
    if not config.noise:
        return inputs
    known = ids.numpy()
    strength = torch.from_numpy(uniforms(hash_key(seed, epoch, 3), known, 1)[:, 0] * config.noise)
    drawn = normals(hash_key(seed, epoch, 4), sent(ids, inputs.device), math.prod(inputs.shape[1:]))
    drawn *= sent(strength.to(drawn.dtype), drawn.device)[:, None]
    # The result has the memory format of the inputs, on which the speed of the convolutions depends.
    return torch.add(inputs, drawn.view(inputs.shape), out=torch.empty_like(inputs))
