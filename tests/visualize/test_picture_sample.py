"""A sample of a file of arrays is named as everywhere else: by its number in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from striate.data.media.medium import Preparation
from striate.errors import DataError
from striate.visualize.picture import names_sample, sample_input, sample_picture

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 7, 3), np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> str:
    np.savez(tmp_path / "new.npz", x=IMAGES, y=np.arange(12) % 3)
    return str(tmp_path / "new.npz")


def test_a_sample_of_a_file_is_the_input_that_predict_reads(file: str) -> None:
    preparation = Preparation("image", (3, 6, 7))
    assert names_sample(f"{file}#3")
    assert np.array_equal(sample_input(f"{file}#3", preparation), IMAGES[3].transpose(2, 0, 1))
    with pytest.raises(DataError, match="no such sample"):
        sample_input(f"{file}#12", preparation)


def test_a_sample_of_a_split_has_the_name_that_predict_prints(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", x_train=IMAGES[:8], y_train=np.arange(8) % 3, x_test=IMAGES[8:], y_test=[0, 1, 2, 0])
    name = f"{tmp_path / 'new.npz'}#test/1"
    assert names_sample(name)
    assert np.array_equal(sample_input(name, Preparation("image", (3, 6, 7))), IMAGES[9].transpose(2, 0, 1))


def test_the_pixels_of_a_sample_of_a_file(file: str) -> None:
    read = sample_picture(f"{file}#4")
    assert np.array_equal(read.values, IMAGES[4])
    assert read.notes[0] == f"{file}#4 is a picture of: 1"
    with pytest.raises(DataError, match=f"write {file}#11"):
        sample_picture(f"{file}#12")


def test_a_file_without_images_has_no_pixels(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", x=np.zeros((12, 5, 6, 7, 2)), y=np.arange(12) % 3)
    with pytest.raises(DataError, match="not images"):
        sample_picture(f"{tmp_path / 'new.npz'}#0")
