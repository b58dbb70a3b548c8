"""Rows of samples: every image, name and word is there, inside the page and apart from the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quick import few_quick
from striate.visualize import sample_figures
from striate.visualize.canvas import show_literally
from striate.visualize.sample_figures import SampleRow, samples_figure

WORDS = (
    "Augmentation: shifts up to 2 px, rotations up to 15°;"
    " no horizontal flip (a flip may turn a letter or digit into another)."
)


def row(name="rose", count=4, shape=(3, 8, 8), **fields):
    return SampleRow(name, np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8), **fields)


def drawn(figure):
    show_literally(figure)
    figure.canvas.draw()
    return figure


def assert_inside(figure, texts):
    for text in texts:
        if text.get_visible() and text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= figure.bbox.x1 + 1
            assert box.y1 <= figure.bbox.y1 + 1


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 90), (3, 90, 20), (1, 1, 1)])
@pytest.mark.parametrize("count", few_quick([1, 7], [7]))
def test_everything_is_inside_the_page(shape, count):
    rows = [row("$a_1$ with a very long name", count, shape), row("x", max(1, count - 1), shape)]
    columns = ["original", *(f"epoch {k}" for k in range(1, count))]
    figure = drawn(samples_figure(rows, title="digits, train split, n = 10", words=WORDS, columns=columns))
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 2 * count - (count > 1)
    labels = [axes.yaxis.label for axes in shown]
    assert labels[0].get_text() == "$a_1$ with a very…"
    assert [axes.get_title() for axes in shown[:count]] == columns
    assert_inside(figure, [*labels, *(axes.title for axes in shown), *figure.texts])
    assert " ".join(figure.get_supxlabel().split()) == WORDS
    # Words, headings and images have room of their own.
    words = next(text for text in figure.texts if text.get_text() == figure.get_supxlabel()).get_window_extent()
    assert words.y1 <= min(axes.get_window_extent().y0 for axes in shown)
    for axes in shown:
        box = axes.get_window_extent()
        assert min(box.width, box.height) >= 5
        assert box.height / box.width == pytest.approx(shape[1] / shape[2], rel=0.05)


def test_images_are_shown_as_they_are():
    rows = [row(), row("tulip")]
    figure = samples_figure(rows, title="t")
    for axes, image in zip(figure.axes, np.concatenate([r.images for r in rows]), strict=True):
        assert np.array_equal(np.asarray(axes.images[0].get_array()), image.transpose(1, 2, 0))


def test_masks_lie_over_their_images_with_a_legend():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :4], masks[1, :, :2] = 1, 255
    figure = drawn(samples_figure([row("", 2, masks=masks)], title="t", words=WORDS, classes=["ground", "disk"]))
    layer = np.asarray(figure.axes[0].images[1].get_array())
    assert not np.allclose(layer[0, 0], layer[7, 0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ground", "disk"]
    title = figure.legends[0].get_title()
    assert " ".join(title.get_text().split()) == WORDS
    assert_inside(figure, [title, *figure.legends[0].get_texts()])
    assert title.get_window_extent().y0 >= figure.legends[0].get_texts()[0].get_window_extent().y1
    assert title.get_window_extent().y1 <= figure.axes[0].get_window_extent().y0


def test_between_the_slices_of_a_volume_nothing_is_drawn_over_the_image():
    masks = sample_figures._layers(torch.zeros((2, 2, 4, 6), dtype=torch.uint8))
    assert masks.min() == -1
    images = np.zeros((2, 3, *masks.shape[1:]), np.uint8)
    figure = drawn(samples_figure([SampleRow("", images, masks)], title="t", classes=["ball", "disk"]))
    layer = np.asarray(figure.axes[0].images[1].get_array())
    assert (layer[masks[0] < 0] == 0).all()
    assert (layer[masks[0] == 0] != 0).any(-1).all()


def test_captions_stand_under_their_images():
    figure = drawn(samples_figure([row("", 2, captions=("1.5", "-2"))], title="t"))
    assert [axes.get_xlabel() for axes in figure.axes] == ["1.5", "-2"]
    assert_inside(figure, [axes.xaxis.label for axes in figure.axes])
