"""Images that are lit, sharp, clean and stored otherwise: light, noise, blur, JPEG."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image

from striate.data.blur import blur as blurred
from striate.evaluation.robustness.draws import Draws

_GAMMA = 2.2
"""Light is about the byte to this power (sRGB)."""


def relight(images: torch.Tensor, stops: float, draws: Draws) -> torch.Tensor:
    """The light times 2 to the power of `stops`; what is brighter than white is white."""
    del draws
    table = (torch.arange(256).float() * 2 ** (stops / _GAMMA)).round().clamp(0, 255).to(torch.uint8)
    return table[images.long()]


def add_noise(images: torch.Tensor, deviation: float, draws: Draws) -> torch.Tensor:
    """Independent normal noise of this standard deviation in gray levels (0 to 255) on each value."""
    noise = draws.normal(math.prod(images.shape[1:])).view(images.shape)
    return (images.float() + deviation * noise).round_().clamp_(0, 255).to(torch.uint8)


def blur(images: torch.Tensor, pixels: float, draws: Draws) -> torch.Tensor:
    """A Gaussian of this standard deviation in pixels."""
    del draws
    return blurred(images, torch.full((len(images),), pixels), pixels)


def compress(images: torch.Tensor, quality: float, draws: Draws) -> torch.Tensor:
    """Written as a JPEG of this quality (Pillow's, 1 to 95) and read again; other than 1 or 3 channels each alone."""
    del draws
    return torch.from_numpy(np.stack([_through_jpeg(image, int(quality)) for image in images.numpy()]))


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    if len(image) == 3:
        return _decoded(np.ascontiguousarray(image.transpose(1, 2, 0)), quality).transpose(2, 0, 1)
    return np.stack([_decoded(plane, quality) for plane in image])


def _decoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)
