from __future__ import annotations

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from striate.errors import DataError, RunError
from striate.visualize.canvas import class_colors, new_figure, of_split, save_figure, shorten, show_image


def test_no_pyplot_and_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    figure = new_figure(2, 2)
    figure.subplots().set_title("$x$")
    save_figure(figure, tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_broken_mathtext_is_only_letters(tmp_path):
    figure = new_figure(3, 3)
    axes = figure.subplots()
    axes.set_title(r"$\nonsense{_$")
    axes.set_xticks([0, 1], [r"$\frac{$", "a_b"])
    save_figure(figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_letters_that_the_font_lacks_warn_nobody(tmp_path):
    figure = new_figure(3, 3)
    figure.subplots().set_title("向日葵")
    save_figure(figure, tmp_path / "x.png")


def test_same_bytes_and_size_in_pixels(tmp_path):
    for name in ("a.png", "b.png"):
        figure = new_figure(3, 2)
        figure.subplots().plot([1, 2], [3, 4])
        save_figure(figure, tmp_path / name, dpi=80)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (240, 160)
        assert picture.info.get("Software") is None


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RunError, match="remedy"):
        save_figure(new_figure(1, 1), tmp_path / "absent" / "x.png")


@given(st.text(max_size=60), st.integers(2, 40))
def test_shortened_names_fit_on_one_printable_line(name, letters):
    short = shorten(name, letters)
    assert len(short) <= letters
    assert short.isprintable()
    if name.isprintable() and name.isascii() and len(name) <= letters:
        assert short == name


def test_wide_letters_count_twice():
    assert shorten("向日葵向日葵", 7) == "向日葵…"


def test_every_class_has_a_color_of_its_own():
    for count in (1, 2, 8, 9, 100):
        assert len({tuple(matplotlib.colors.to_rgba(color)) for color in class_colors(count)}) == count


@pytest.mark.parametrize("count", [10, 20, 47])
def test_neighboring_classes_have_different_colors(count):
    colors = np.array([matplotlib.colors.to_rgb(color) for color in class_colors(count)])
    assert np.abs(np.diff(colors, axis=0)).max(1).min() > 0.15


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_byte_for_byte(channels):
    image = np.random.default_rng(0).integers(0, 256, (channels, 5, 6), dtype=np.uint8)
    axes = new_figure(2, 2).subplots()
    show_image(axes, image)
    shown = np.asarray(axes.images[0].get_array())
    expected = image[0] if channels == 1 else image.transpose(1, 2, 0)
    np.testing.assert_array_equal(shown, expected)
    assert axes.images[0].get_clim() == (0, 255)


def test_what_is_no_uint8_image_is_refused():
    axes = new_figure(2, 2).subplots()
    with pytest.raises(DataError, match="float64"):
        show_image(axes, np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match=r"\(2, 4, 4\)"):
        show_image(axes, np.zeros((2, 4, 4), np.uint8))


def test_of_split_says_data_split_and_n():
    assert of_split("flowers", "test", 12345) == "flowers, test split, n = 12,345"


@pytest.mark.slow
def test_matplotlib_is_imported_only_to_draw() -> None:
    """Who computes what a picture shows, as the Python functions and the lab do, does not wait for Matplotlib."""
    script = (
        "import importlib, pkgutil, sys, striate.visualize as room\n"
        "for module in pkgutil.walk_packages(room.__path__, 'striate.visualize.'):\n"
        "    importlib.import_module(module.name)\n"
        "    assert 'matplotlib' not in sys.modules, module.name\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
