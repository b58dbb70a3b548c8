"""What baselines see, against the definition; and samples that keep the share of each class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.dataset import Split
from striate.data.normalize import measure_normalization
from striate.tasks.baseline import choose_by_validation, sampling_note, stratified_sample
from striate.tasks.baseline_features import COLOR_BINS, color_histograms, hog_cell, hog_features, standardized_inputs


def one_color(r, g, b, size=6):
    return torch.tensor([r, g, b], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, size, size).contiguous()


@given(st.integers(1, 200), st.integers(1, 250), st.integers(1, 6), st.integers(0, 9))
def test_a_sample_keeps_the_share_of_each_class(total, count, classes, seed):
    targets = np.random.default_rng(0).integers(0, classes, total)
    picked = stratified_sample(targets, count, seed)
    assert len(np.unique(picked)) == len(picked) == min(total, count)
    assert (np.diff(picked) > 0).all()
    shares = np.bincount(targets, minlength=classes) * len(picked) / total
    assert (abs(np.bincount(targets[picked], minlength=classes) - shares) < 2).all()
    np.testing.assert_array_equal(picked, stratified_sample(targets, count, seed))


def test_a_sample_of_numbers_spans_them():
    targets = np.arange(1000.0)[::-1, None]
    picked = np.sort(targets[stratified_sample(targets, 10, 0), 0])
    assert (abs(picked - np.arange(0, 1000, 100)) < 1).all()


def test_the_first_of_equal_choices_is_taken_and_fitted_on_all():
    seen = []

    def fit(value, positions):
        seen.append((value, len(positions)))
        return value

    chosen = choose_by_validation((1, 2, 3), fit, lambda model: min(model, 2), np.arange(4), np.arange(9))
    assert chosen == (2, 2)
    assert seen == [(1, 4), (2, 4), (3, 4), (2, 9)]


def test_notes_say_only_what_was_cut():
    assert sampling_note(50, 50, 50) == ""
    assert sampling_note(50, 50, 20) == "Hyperparameters were chosen on 20 of them."


@pytest.mark.parametrize(
    ("shape", "features"),
    [((5, 3, 64, 48), 3 * 32 * 32), ((5, 1, 28, 28), 784), ((5, 2, 5000), 2 * 1024), ((5, 7), 7)],
)
def test_standardized_inputs_are_those_of_the_network(shape, features):
    inputs = torch.randint(0, 255, shape, generator=torch.Generator().manual_seed(0))
    inputs = inputs.to(torch.uint8 if len(shape) == 4 else torch.float32)
    normalization = measure_normalization(Split(inputs, torch.zeros(5), torch.arange(5)))
    found = standardized_inputs(inputs, normalization)
    assert found.shape == (5, features)
    plain = normalization.on("cpu", inputs.ndim)(inputs)
    if features == plain[0].numel():
        np.testing.assert_array_equal(found, plain.flatten(1).numpy())
    else:
        assert abs(found.mean() - plain.mean()) < 1e-2


@given(st.integers(4, 128), st.integers(4, 128))
def test_two_cells_fit_each_way(height, width):
    cell = hog_cell(height, width)
    assert cell >= 2
    assert min(height, width) // cell >= 2


def test_gradients_of_color_and_gray_and_of_nothing():
    rng = np.random.default_rng(0)
    gray = torch.from_numpy(rng.integers(0, 255, (600, 1, 12, 12), dtype=np.uint8))
    found = hog_features(gray)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found[550:], hog_features(gray[550:]))  # chunks do not matter
    np.testing.assert_allclose(hog_features(gray[:3].expand(-1, 3, -1, -1)), found[:3], atol=1e-6)
    assert not hog_features(torch.full((2, 1, 12, 12), 9, dtype=torch.uint8)).any()


def test_large_images_are_averaged_down():
    image = torch.zeros(1, 1, 300, 200, dtype=torch.uint8)
    image[..., 100:] = 255
    assert hog_features(image).shape[1] < 3000


def test_a_color_lies_in_its_bins():
    hues, saturations, values = COLOR_BINS
    red = color_histograms(one_color(255, 0, 0))[0].reshape(COLOR_BINS)
    assert red[0, saturations - 1, values - 1] == pytest.approx(1)
    assert red.sum() == pytest.approx(1)
    blue = color_histograms(one_color(0, 0, 255))[0].reshape(COLOR_BINS)
    assert blue[hues * 2 // 3, saturations - 1, values - 1] == pytest.approx(1)
    assert color_histograms(one_color(0, 0, 0))[0].reshape(COLOR_BINS)[0, 0, 0] == pytest.approx(1)


@given(st.integers(0, 254), st.integers(0, 255), st.integers(0, 255))
def test_a_shade_more_changes_little(r, g, b):
    """Soft bins: no jump where a hard histogram would have one, except the hue of gray, which is none."""
    first, second = (color_histograms(one_color(level, g, b, 2))[0] for level in (r, r + 1))
    assert np.linalg.norm(first) == pytest.approx(1, rel=1e-5)
    if min(abs(r - g), abs(g - b), abs(r - b)) > 12 and max(r, g, b) > 60:
        assert float(first @ second) > 0.8
