"""Fingerprints are what they always were: a run that began earlier goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.config import DataConfig
from striate.data.read import load_dataset


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("mnist5k", "14e64ebbe97080de2ab5ba17182078c28430a3a0706ee33cb505eb0c24e18e01"),
        ("digits", "2aebbe039607acf681d5564e06cfed6c6615b7f20626c26a4b09a0cdc70ce77a"),
        ("iris", "0580f97557b68c380d9c40cf683554ae2f60fd9a412cb18c2e759733c79c79eb"),
    ],
)
def test_embedded_sets(name: str, known: str) -> None:
    assert load_dataset(DataConfig(source=name)).fingerprint == known


def test_a_folder_as_it_is_and_resized(tmp_path: Path) -> None:
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(6):
            pixels = np.arange(8 * 10 * 3, dtype=np.uint32).reshape(8, 10, 3) * (k * 6 + i + 1) % 251
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    sizes = {None: "6e9efbd1358b78712f78bf0e17ee65ce1d34a8ab0f8d0c2755a73125efd41442"}
    sizes |= {(5, 5): "34b9976adb4f74b9b65ffeeecb3d713eafbe468bfa03fefc11a7d02691a3b29a"}
    for size, of_pixels in sizes.items():
        begun = DataConfig(source=str(tmp_path), size=size, fingerprint=of_pixels)  # as earlier versions wrote it
        assert load_dataset(begun).fingerprint == of_pixels
        streamed = load_dataset(replace(begun, fingerprint=None, store="stream")).fingerprint
        assert load_dataset(replace(begun, fingerprint=None)).fingerprint == streamed
