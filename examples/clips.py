"""Clips whose classes differ in motion alone: a frame tells nothing, optical flow everything.

Soft blobs drift through each clip, all of them at the same speed: to the left, to the right, up or down. They come in
again at the other side, so that every single frame looks the same whatever the class. The network sees color and flow
in two streams, and what each of them learns is told apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np

import striate

SIDE, FRAMES, CLIPS = 32, 16, 60
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def clip(direction: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(FRAMES, SIDE, SIDE, 3) uint8."""
    places, colors = rng.uniform(0, SIDE, (12, 2)), rng.uniform(40, 255, (12, 3))
    speed, grid = rng.uniform(1.0, 2.0), np.arange(SIDE)
    frames = []
    for time in range(FRAMES):
        moved = places + time * speed * np.array(direction)
        right, down = (np.abs((grid - moved[:, k, None] + SIDE / 2) % SIDE - SIDE / 2) for k in range(2))
        blobs = np.exp(-(down[:, :, None] ** 2 + right[:, None, :] ** 2) / 8)
        frames.append(np.einsum("byx,bc->yxc", blobs, colors))
    return (np.stack(frames) + rng.normal(0, 3, (FRAMES, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)


def write(path: Path, frames: np.ndarray) -> None:
    with av.open(path, "w") as film:
        stream = film.add_stream("mpeg4", rate=15)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 400_000
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        film.mux(stream.encode())


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, direction in DIRECTIONS.items():
        (folder / "drift" / name).mkdir(parents=True, exist_ok=True)
        for number in range(CLIPS):
            write(folder / "drift" / name / f"{number:03}.mp4", clip(direction, rng))
    run = striate.train(
        folder / "drift", "two-stream", out=folder / "run", epochs=12, set={"data.view": "both", "data.frames": 8}
    )
    for stream, figures in run.metrics["streams"].items():
        print(f"{stream}: accuracy {figures['accuracy']:.3f}")
    print(f"both: accuracy {run.metrics['test']['accuracy']:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "clips"))
