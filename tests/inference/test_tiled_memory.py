"""A picture of 100 million pixels is predicted in tiles within 1.5 GB, whatever its format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate

SIDE, LIMIT = 10_000, 1.5e9
PROGRAM = """
import re, sys
from pathlib import Path
from striate.cli.main import main
code = main(sys.argv[1:])
# What getrusage tells may be of the program that started this one.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(code, int(peak) * 1024)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(0)
    for number in range(24):
        mask = np.zeros((32, 32), np.uint8)
        row, column = random.integers(0, 20, 2)
        mask[row : row + 12, column : column + 12] = 1
        image = (60 + 120 * mask[..., None] + random.integers(0, 30, (32, 32, 3))).astype(np.uint8)
        for part, pixels in (("images", image), ("masks", mask)):
            (root / part).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / part / f"{number:02}.png")
    network = "conv(8,3,pad=1) relu conv(8,3,pad=1) relu conv(2,1)"
    striate.train(root, network, epochs=1, out=root / "run", set={"execution.plan": "plain"})
    return root / "run"


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "options"), [("jpg", {}), ("png", {"compress_level": 1}), ("tif", {})])
def test_a_large_picture_is_predicted_in_bounded_memory(
    run: Path, suffix: str, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"large.{suffix}"
    small = np.random.default_rng(1).integers(0, 255, (250, 250, 3), np.uint8)
    Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, **options)
    words = ["predict", str(run), str(file), "--tile", "512", "--masks", str(tmp_path / "masks"), "--json"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    code, peak = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert int(peak) < LIMIT, f"{int(peak) / 1e6:.0f} MB"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(tmp_path / "masks" / "large.png") as mask:
        assert mask.size == (SIDE, SIDE)
