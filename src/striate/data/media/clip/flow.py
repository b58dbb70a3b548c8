"""Dense optical flow as bytes: how far each pixel moves from one frame to a later one.

By Farnebäck's method ("Two-frame motion estimation based on polynomial expansion", 2003), as OpenCV has it. A byte is
128 where nothing moves, and one more for each eighth of a pixel to the right, or down; 0 does not occur, so that the
motion of a mirrored clip, 256 − byte, is exact, and twice mirrored is what it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from striate.data.media.clip.clip_files import Frame, cv2_library

STILL = 128
STEPS_A_PIXEL = 8
_LEVELS, _WINDOW, _PASSES, _NEIGHBORS, _SIGMA = 3, 13, 3, 5, 1.1


def optical_flow(before: Frame, after: Frame) -> NDArray[np.float32]:
    """(2, H, W) pixels to the right and down from (H, W, 3) to (H, W, 3)."""
    cv2 = cv2_library()
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after))
    moved = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, _LEVELS, _WINDOW, _PASSES, _NEIGHBORS, _SIGMA, 0)
    return np.ascontiguousarray(np.moveaxis(moved, -1, 0), dtype=np.float32)


def flow_bytes(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pixels as bytes; faster than some 15.9 is taken for that."""
    reach = STILL - 1
    return (np.rint(np.nan_to_num(flow) * STEPS_A_PIXEL).clip(-reach, reach) + STILL).astype(np.uint8)


def flow_pixels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes as pixels."""
    return np.asarray((levels.astype(np.float32) - STILL) / STEPS_A_PIXEL, np.float32)
