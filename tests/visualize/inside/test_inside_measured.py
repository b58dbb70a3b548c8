"""Tuning, fields and landscape: planted filters have the tuning they were made for, the plane is that of the loss."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from looked_at import SHAPE, inputs, network
from scipy.ndimage import gaussian_filter
from torch import nn

from striate.errors import DataError, RunError, UsageError
from striate.runs.directory import RunDirectory
from striate.visualize.canvas import figure_of
from striate.visualize.inside.fields import fields_figure, find_fields
from striate.visualize.inside.landscape import landscape_figure, loss_landscape
from striate.visualize.inside.tuning import (
    ORIENTATIONS,
    TUNED,
    LayerTuning,
    Tuning,
    draw_layers,
    gratings,
    tune,
    tuning_figure,
)
from striate.visualize.signal_figure import read_statistics

GRAY = ((-1.0,), (1.0,))


class Energy(nn.Module):
    """A complex cell: the energy of two filters a quarter of a wave apart (Adelson and Bergen 1985)."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.pair, self.relu = gabors([degrees, degrees], [0.0, np.pi / 2]), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.pair(x).square().sum(1, keepdim=True))


def gabors(degrees: list[float], phases: list[float]) -> nn.Conv2d:
    """Filters for bars of these orientations, wavelength 8; None of them answers to even gray."""
    row, column = np.mgrid[-7:8, -7:8]
    conv = nn.Conv2d(1, len(degrees), 15, bias=False)
    for k, (angle, phase) in enumerate(zip(np.radians(degrees), phases, strict=True)):
        across = column * np.sin(angle) + row * np.cos(angle)
        wave = np.sin(2 * np.pi * across / 8 + phase) * np.exp(-(row**2 + column**2) / 18)
        conv.weight.data[k, 0] = torch.from_numpy(wave - wave.mean())
    return conv


def test_planted_orientations_are_found() -> None:
    degrees = [0.0, 30.0, 90.0, 135.0]
    module = nn.Sequential(gabors(degrees, [0.0] * 4), nn.ReLU())
    found = tune(module, (1, 32, 32), GRAY, units=range(4))
    assert (found.layer, found.layers[0].tuned, found.layers[0].simple) == ("1", 1.0, 1.0)
    for curve, angle in zip(found.curves, degrees, strict=True):
        away = (curve.preferred - angle + 90) % 180 - 90
        assert abs(away) < 2
        assert (curve.wavelength, curve.modulation > 1) == (8, True)
        assert np.argmax(curve.responses) == round(angle / 180 * ORIENTATIONS) % ORIENTATIONS
    tuning_figure(found, title="t").canvas.draw()
    assert len(json.loads(json.dumps(found.to_json()))["orientations"]) == ORIENTATIONS


def test_simple_and_complex_round_and_silent_units() -> None:
    (complex_one,) = tune(Energy(45.0), (1, 32, 32), GRAY).curves
    assert complex_one.modulation < 0.2
    assert complex_one.preferred == pytest.approx(45, abs=2)
    spot = nn.Conv2d(1, 2, 15, bias=False)
    dot = np.zeros((15, 15))
    dot[7, 7] = 1
    spot.weight.data[0, 0] = torch.from_numpy(gaussian_filter(dot, 1.5) - gaussian_filter(dot, 3))
    spot.weight.data[1] = 0
    found = tune(nn.Sequential(spot, nn.ReLU()), (1, 32, 32), GRAY, units=[0, 1])
    assert found.curves[0].selectivity < 0.05
    assert found.curves[1].responses == (0.0,) * ORIENTATIONS
    assert (found.layers[0].units, found.layers[0].answering, found.layers[0].tuned) == (2, 1, 0.0)
    tuning_figure(found, title="t").canvas.draw()


def test_the_line_of_tuned_units_crosses_no_words() -> None:
    layers = tuple(LayerTuning(f"relu{k}", 8, 8, median, 0.4, 1.0) for k, median in enumerate((0.1, 0.3, 0.6)))
    (axes,) = figure_of(lambda axes: draw_layers(axes, Tuning(layers, "relu0", ())), 3.5, 3.0).axes
    assert [round(text.get_position()[0] - TUNED, 2) for text in axes.texts] == [0.02, 0.02, 0.29]


def test_bars_lie_as_they_are_called() -> None:
    waves = gratings((1, 24, 24), 8.0)[:, 0]
    flat, steep = waves[0], waves[8 * ORIENTATIONS // 2]
    assert float(flat.std(1).max()) < 1e-5
    assert float(steep.std(0).max()) < 1e-5
    rising = waves[8 * ORIENTATIONS // 4]  # 45°: to the right and up
    torch.testing.assert_close(rising[1:, :-1], rising[:-1, 1:], atol=1e-5, rtol=0)


def test_the_plane_is_that_of_the_loss() -> None:
    torch.manual_seed(0)
    module, x, wanted = nn.Linear(4, 3), torch.randn(70, 4), torch.randn(70, 3)
    found = loss_landscape(module, x, wanted, nn.functional.mse_loss, line=5, plane=5)
    assert found.center == pytest.approx(nn.functional.mse_loss(module(x), wanted).item(), rel=1e-5)
    for line in found.lines:
        assert line[2] == pytest.approx(found.center, rel=1e-5)
        # Along a line, a squared error of a linear layer is a parabola.
        np.testing.assert_allclose(np.polyval(np.polyfit(found.steps, line, 2), found.steps), line, rtol=1e-4)
    np.testing.assert_allclose(found.plane[2], found.lines[0], rtol=1e-5)
    np.testing.assert_allclose(found.plane[:, 2], found.lines[1], rtol=1e-5)
    figure = landscape_figure(found, title="t")
    figure.canvas.draw()
    levels = [text for text in figure.axes[1].texts if text.get_text()]
    assert levels
    assert all(text.get_path_effects() for text in levels), "readable on bright and dark areas"
    assert json.loads(json.dumps(found.to_json()))["n"] == 70


def test_a_broken_network_has_no_landscape() -> None:
    module = nn.Linear(4, 3)
    module.weight.data[0] = torch.nan
    with pytest.raises(DataError, match="a loss of nan"):
        loss_landscape(module, torch.ones(3, 4), torch.ones(3, 3), nn.functional.mse_loss)


def test_fields_grow_with_depth() -> None:
    found = find_fields(network(), SHAPE)
    sizes = [field.geometry.size for field in found.layers]
    assert sizes == [(3, 3), (4, 4), (8, 8)]
    for field in found.layers:
        for size, seen in zip(field.effective.size, field.geometry.size, strict=True):
            assert size <= seen
    fields_figure(found, np.zeros(SHAPE, np.uint8), title="t").canvas.draw()
    (one,) = find_fields(network(), SHAPE, "5").layers
    assert one.effective.layer == "5"
    with pytest.raises(UsageError, match="one of: 0, 1"):
        find_fields(network(), SHAPE, "8")


def test_what_needs_images_says_so() -> None:
    for look in (lambda: tune(nn.Linear(5, 2), (5,), GRAY), lambda: find_fields(nn.Linear(5, 2), (5,))):
        with pytest.raises(DataError, match="images"):
            look()


def test_a_run_without_a_record_of_signals(tmp_path) -> None:
    for content in (None, "[]", '{"start": [{"name": 1}]}'):
        if content is not None:
            (tmp_path / "signal.json").write_text(content)
        with pytest.raises(RunError, match="no record of signals"):
            read_statistics(RunDirectory(tmp_path))


def test_batches_of_targets_go_with_those_of_inputs() -> None:
    x = inputs(70)
    labels = torch.arange(70) % 4
    whole = loss_landscape(network(), x, labels, nn.functional.cross_entropy, line=1, plane=1)
    module = network().eval()
    assert whole.center == pytest.approx(nn.functional.cross_entropy(module(x), labels).item(), rel=1e-4)
