"""Pictures of bytes brought to another size: bilinear with antialiasing."""

from __future__ import annotations

import numpy as np


def scale_bytes(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, H, W) uint8 at `size` (height, width): (C, *size), the caller's own.

    torch's filter for bytes does what Pillow's does, up to one level where a value is between two, in half of its time;
    it gives the same bytes whatever the processor can do (default, AVX2, AVX-512).
    """
    import torch  # who only reads headers does not wait for it
    from torch.nn.functional import interpolate

    if planes.shape[1:] == size:
        return np.array(planes, order="C")
    # Copies are NumPy's: torch would begin a team of threads for them in each of the threads that read files.
    pixels = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    x = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)[None]
    return np.array(interpolate(x, size, mode="bilinear", antialias=True)[0].numpy(), order="C")
