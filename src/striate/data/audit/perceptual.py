"""A short description of what an image shows, nearly the same after re-encoding and resizing.

The luma of the whole image on 32 × 32 pixels, its two-dimensional cosine transform, and of that the 8 × 8 lowest
frequencies without the constant one, as in the perceptual hash pHash (E. Klinger and D. Starkweather, 2010). There
their signs make 64 bits; here the numbers are kept, divided by their length: a sign near zero is chance, and 64 signs
tell few photographs of shirts apart. The distance of two descriptions is 0 to 2: √(2 − 2 · correlation).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

SIDE, KEPT = 32, 8
LENGTH = KEPT * KEPT - 1
"""Numbers in a description."""


def luma_of(x_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of an image (C, H, W), C = 1 or 3, on (32, 32) pixels, bicubic with antialiasing."""
    pixels = x_CHW[0] if len(x_CHW) == 1 else np.moveaxis(x_CHW, 0, -1)
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def describe(lumas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Of (N, 32, 32) lumas the descriptions (N, 63) of length 1, and of each the mean and the contrast in levels (N,).

    The contrast is the root of the mean square that the kept frequencies contribute; without any, a description is 0.
    """
    spectrum = dctn(lumas.astype(np.float32), axes=(1, 2), norm="ortho")[:, :KEPT, :KEPT].reshape(len(lumas), -1)
    low = spectrum[:, 1:]
    lengths = np.linalg.norm(low, axis=1)
    descriptions = low / np.maximum(lengths, 1e-6)[:, None]
    return descriptions.astype(np.float32), (spectrum[:, 0] / SIDE).astype(np.float32), lengths / SIDE
