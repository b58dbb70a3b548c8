"""Tell calls apart, and find them in a long recording: made sounds, a network, and a prediction for each half second.

Command: python examples/sounds.py [FOLDER]. The sounds are made here: whistles that rise, whistles that fall, and
clicks, each in the voice of one of twelve animals, amid noise. Voices stay together, so the test is of animals that the
network has never heard.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

import striate
from striate.api import predict_files

RATE, SECONDS, VOICES = 16_000, 1.0, 12
CALLS = ("clicks", "falls", "rises")


def call(kind: str, pitch: float, rng: np.random.Generator) -> np.ndarray:
    """One second with a call of this kind, at about this pitch in hertz."""
    time = np.arange(round(0.4 * RATE)) / RATE
    slope = {"rises": 1.0, "falls": -1.0, "clicks": 0.0}[kind] * rng.uniform(0.5, 1.0)
    phase = 2 * np.pi * pitch * (time + slope * (time - 0.4) * time)
    loud = np.sin(np.pi * time / 0.4) if kind != "clicks" else (np.sin(2 * np.pi * 12 * time) > 0.8).astype(float)
    sound = rng.normal(scale=0.02, size=round(SECONDS * RATE))
    start = rng.integers(0, len(sound) - len(time))
    sound[start : start + len(time)] += rng.uniform(0.1, 0.5) * loud * np.sin(phase)
    return sound.astype(np.float32)


def write(folder: Path) -> Path:
    """Sounds of each kind and voice, and their table; and a recording of six seconds with three calls."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,label,group"]
    for voice in range(VOICES):
        pitch = rng.uniform(800, 3000)
        for kind in CALLS:
            for take in range(8):
                name = f"{kind}-{voice}-{take}.flac"
                soundfile.write(folder / name, call(kind, pitch, rng), RATE)
                lines.append(f"{name},{kind},animal {voice}")
    silence = rng.normal(scale=0.02, size=RATE).astype(np.float32)
    parts = [part for kind in CALLS for part in (call(kind, 1500, rng), silence)]
    soundfile.write(folder / "recording.wav", np.concatenate(parts), RATE)
    (folder / "calls.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "calls.csv"


def main(folder: Path) -> None:
    """Make the sounds, train on them, and listen to the recording."""
    run = striate.train(write(folder / "calls"), epochs=8, out=folder / "run")
    test = run.metrics["test"]
    print(f"test accuracy {100 * test['accuracy']:.1f} % on animals never heard, n = {test['n']}")
    for heard in predict_files(run, [folder / "calls" / "recording.wav"], every=1.0):
        assert heard.prediction is not None
        assert heard.span is not None
        fields = heard.prediction.fields
        print(f"{heard.span[0]:.1f}-{heard.span[1]:.1f} s  {fields['label']}  {fields['probability']:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-sounds"))
