"""What the pictures show is in their artists; that nothing overlaps or is cut off is measured after a draw."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from quick import few_quick
from striate.visualize.canvas import FAINT, new_figure, save_figure, show_literally
from striate.visualize.charts import curve_charts
from striate.visualize.classification_charts import confusion_figure
from striate.visualize.estimates import scatter_figure
from striate.visualize.gallery import Tile, gallery_figure
from striate.visualize.mask_figures import draw_mask, masks_figure
from striate.visualize.training_curves import curves_figure, fold_curves_figure

NASTY = ["<script>alert(1)</script>", r"$\alpha_1$", "a_very_long_class_name_with_underscores_that_goes_on", "x"]


def drawn(figure):
    show_literally(figure)
    figure.canvas.draw()
    return figure


def boxes(texts):
    return [text.get_window_extent() for text in texts if text.get_visible() and text.get_text()]


def assert_inside(figure, texts):
    page = figure.bbox
    for box in boxes(texts):
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1


def assert_apart(texts):
    """Neighbors on an axis do not overlap by more than a pixel in both directions."""
    listed = boxes(texts)
    for first, second in pairwise(listed):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert wide <= 1 or high <= 1


def tick_labels(axes):
    """Those within the view, along x and along y; matplotlib keeps more than it draws."""
    kept = []
    for labels, axis, limits in (
        (axes.get_xticklabels(), 0, sorted(axes.get_xlim())),
        (axes.get_yticklabels(), 1, sorted(axes.get_ylim())),
    ):
        kept.append([text for text in labels if limits[0] <= text.get_position()[axis] <= limits[1]])
    return kept


def history(epochs):
    return [
        {"epoch": e, "lr": 0.1 / e, "train_loss": 2.0 / e, "val_loss": 2.1 / e, "train_accuracy": 1 - 0.5 / e,
         "val_accuracy": 1 - 0.6 / e}
        for e in range(1, epochs + 1)
    ]  # fmt: skip


@pytest.mark.parametrize("epochs", few_quick([1, 2, 200], [1, 2]))
def test_curves_show_the_history(epochs):
    figure = drawn(curves_figure(history(epochs), metric="accuracy", title="digits, train n = 10", best_epoch=epochs))
    loss, accuracy, rate = figure.axes
    for axes, key, line in ((loss, "train_loss", 0), (accuracy, "val_accuracy", 1), (rate, "lr", 0)):
        np.testing.assert_allclose(axes.lines[line].get_ydata(), [row[key] for row in history(epochs)])
    assert figure.get_suptitle() == "digits, train n = 10"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "val", "best epoch"]
    assert loss.lines[0].get_linestyle() != loss.lines[1].get_linestyle()
    assert (loss.get_yscale() == "log") == (epochs == 200)
    if epochs == 1:
        assert loss.lines[0].get_marker() == "o"  # a line of one point would be invisible
    for axes in figure.axes:
        for labels in tick_labels(axes):
            assert_inside(figure, labels)
            assert_apart(labels)
        assert tick_labels(axes)[1]


def test_what_was_followed_beside_the_task_has_panels_of_its_own():
    rows = [
        row | {"val_rmse": 1, "train_conv1_accuracy": 0.2, "val_conv1_accuracy": 0.3, "val_hidden_sparsity": 0.4}
        for row in history(3)
    ]
    figure = drawn(curves_figure(rows, metric="accuracy", title="t"))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    assert titles == ["loss", "accuracy", "conv1 accuracy", "hidden sparsity", "learning rate"]
    assert figure.axes[2].lines[1].get_ydata().tolist() == [0.3] * 3
    assert figure.axes[3].lines[0].get_ydata().tolist() == [0.4] * 3


def test_curves_have_the_name_of_the_metric_and_a_share_is_in_percent():
    rows = [{"epoch": k, "lr": 1, "train_loss": 1, "val_map": 0.02 * k, "val_conv1_map": 0.01 * k} for k in (1, 2, 3)]
    figure = drawn(curves_figure(rows, metric="map", title="t", name="mAP", share=True))
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["loss", "mAP", "conv1 mAP"]
    assert all(axes.get_yticklabels()[0].get_text().endswith(" %") for axes in figure.axes[1:3])
    assert "%" not in figure.axes[0].get_yticklabels()[0].get_text()
    labels = " ".join(curve_charts(rows, "map", name="mAP", share=True))
    assert "mAP against the epoch: val from 2.0 % to 6.0 %" in labels
    folds = drawn(fold_curves_figure([rows, rows], metric="map", title="t", name="mAP", share=True))
    assert folds.axes[1].get_title(loc="left") == "mAP"
    assert folds.axes[1].get_yticklabels()[0].get_text().endswith(" %")


def test_curves_leave_gaps_where_nothing_was_measured():
    rows = [{"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": None}, {"epoch": 2, "train_loss": float("inf")}]
    figure = drawn(curves_figure(rows, metric="accuracy", title="t"))
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).tolist() == [False, True]
    assert "not measured" in [text.get_text() for text in figure.axes[1].texts]


@pytest.mark.parametrize("count", few_quick([2, 10, 20, 21, 100, 250], [2, 21]))
def test_confusion_of_any_number_of_classes(count):
    counts = np.random.default_rng(0).integers(1, 30, (count, count))
    counts[1] = 0  # a class without samples
    names = [NASTY[k % 4] + str(k) for k in range(count)]
    figure = drawn(confusion_figure(counts, names, title="t"))
    matrix, side = figure.axes[:2]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(np.asarray(matrix.images[0].get_array()), shares)
    written = [int(text.get_text()) for text in matrix.texts]
    assert written == (counts[counts > 0].tolist() if count <= 20 else [])
    assert [bar.get_width() for bar in side.patches] == pytest.approx(shares.diagonal().tolist())
    labels = [*matrix.get_xticklabels(), *matrix.get_yticklabels()]
    assert all(not text.get_parse_math() for text in labels)
    assert_inside(figure, [*labels, matrix.xaxis.label, matrix.yaxis.label, side.xaxis.label])
    assert_apart(matrix.get_xticklabels())
    assert_apart(matrix.get_yticklabels())


def test_confusion_says_recall_and_n():
    side = confusion_figure([[18, 2], [0, 0]], ["cat", "dog"], title="t").axes[1]
    assert [text.get_text() for text in side.texts] == ["90.0 % of 20", "no samples"]


def test_the_axis_of_a_constant_curve_begins_at_zero():
    rows = [{"epoch": k, "train_loss": 2.0 / k, "val_loss": 2.0 / k, "val_recall@1": 1.0} for k in (1, 2, 3)]
    figure = drawn(curves_figure(rows, metric="recall@1", title="t"))
    (axes,) = [one for one in figure.axes if "recall" in one.get_title(loc="left")]
    assert axes.get_ylim() == (0, 1.05)


def tile(right, name="rose", truth="tulip", channels=3):
    image = np.full((channels, 8, 8), 128, np.uint8)
    return Tile(image, name, 0.623, name if right else truth, right)


def test_wrong_answers_are_marked_not_by_color_alone():
    (axes,) = gallery_figure([tile(True), tile(False, channels=1)], title="t").axes
    good, bad = axes.texts
    assert good.get_text() == "✓ rose\n62 %"
    assert bad.get_text() == "✗ rose\n62 %, true: tulip"
    thin, thick = axes.patches
    assert thick.get_linewidth() > 2 * thin.get_linewidth()
    assert bad.get_fontweight() == "bold"


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("count", [1, 4, 7, 20])
def test_gallery_captions_stay_apart(count):
    tiles = [tile(k % 2 == 0, NASTY[k % 4], NASTY[(k + 1) % 4]) for k in range(count)]
    figure = drawn(gallery_figure(tiles, title="t"))
    (axes,) = figure.axes
    assert len(axes.texts) == len(axes.images) == count
    assert_inside(figure, axes.texts)
    assert_apart(axes.texts)


def test_scatter_shows_every_point_on_equal_axes():
    made = np.random.default_rng(0)
    true, predicted = made.normal(size=(30, 2)), made.normal(size=(30, 2))
    figure = drawn(scatter_figure(predicted, true, ["$a_1$", "b"], title="t"))
    for place, axes in enumerate(figure.axes):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([true, predicted], -1)[:, place])
        assert axes.get_xlim() == axes.get_ylim()
        rmse = np.sqrt(np.mean((true - predicted)[:, place] ** 2))
        assert f"RMSE {rmse:.4g}" in axes.get_title(loc="left")
        assert axes.lines[0].get_color() == FAINT
    assert figure.axes[0].get_title(loc="left").startswith("$a_1$")


def test_scatter_of_one_value(tmp_path):
    save_figure(scatter_figure(np.ones(3), np.ones(3), [""], title="t"), tmp_path / "x.png")


def test_the_colors_of_an_image_do_not_change_those_of_its_mask():
    image = np.zeros((3, 4, 4), np.uint8)
    image[0] = 240
    axes = new_figure(2, 2).subplots()
    mask = np.zeros((4, 4), np.uint8)
    mask[0] = 1
    draw_mask(axes, image, mask, ["background", "disk"])
    beneath = np.asarray(axes.images[0].get_array())
    assert (beneath[0] == 80).all()
    assert beneath[1:].tolist() == np.moveaxis(image[:, 1:], 0, -1).tolist()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 30)])
def test_masks(tmp_path, channels, classes):
    images = np.full((2, channels, 12, 12), 90, np.uint8)
    truths = np.zeros((2, 12, 12), np.uint8)
    truths[0, :4], truths[0, 8:, :3] = 1, 255
    figure = masks_figure(images, truths, np.zeros_like(truths), [f"$c_{k}" for k in range(classes)], title="t")
    first, second = figure.axes[2], figure.axes[5]
    assert len(first.collections) == 3  # hatched in black and in white, with an outline
    assert not second.collections  # nothing wrong: nothing hatched
    layer = np.asarray(figure.axes[1].images[1].get_array())
    assert not np.allclose(layer[0, 0, :3], layer[5, 5, :3])
    assert layer[9, 0, 3] == 1  # ignored: opaque checks
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    opacity = layer[5, 5, 3]  # a legend has the color of the mask as it is over gray
    seen = opacity * layer[5, 5, :3] + (1 - opacity) * 0.5
    np.testing.assert_allclose(figure.legends[0].get_patches()[0].get_facecolor(), [*seen, 1])
    assert names[0] == "$c_0"
    assert names[-1] == ("$c_1" if classes == 2 else "and 6 more")
    save_figure(figure, tmp_path / "x.png")
    assert_inside(figure, figure.legends[0].get_texts())
