"""Dense optical flow as bytes: the motion of each pixel from one frame to a later one.

Computed by Farnebäck's method ("Two-frame motion estimation based on polynomial expansion", 2003) in OpenCV. A byte is
128 where nothing moves, and one more for each eighth of a pixel to the right, or down. 0 does not occur, so that the
motion of a mirrored clip, 256 − byte, is exact, and mirroring twice gives the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from striate.data.media.clip.clip_files import Frame, cv2_library

STILL = 128
STEPS_A_PIXEL = 8
_LEVELS, _WINDOW, _PASSES, _NEIGHBORS, _SIGMA = 3, 13, 3, 5, 1.1


def optical_flow(before: Frame, after: Frame) -> NDArray[np.float32]:
    """(2, H, W): the motion to the right and down, in pixels, from one frame (H, W, 3) to another."""
    cv2 = cv2_library()
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after))
    moved = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, _LEVELS, _WINDOW, _PASSES, _NEIGHBORS, _SIGMA, 0)
    return np.ascontiguousarray(np.moveaxis(moved, -1, 0), dtype=np.float32)


def flow_bytes(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bytes from pixels; motions faster than about 15.9 pixels are clipped."""
    reach = STILL - 1
    return (np.rint(np.nan_to_num(flow) * STEPS_A_PIXEL).clip(-reach, reach) + STILL).astype(np.uint8)


def flow_pixels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels from bytes."""
    return np.asarray((levels.astype(np.float32) - STILL) / STEPS_A_PIXEL, np.float32)
