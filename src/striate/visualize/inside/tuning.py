"""Orientation tuning: gratings through the layers, as Hubel and Wiesel showed bars to the visual cortex.

D. Hubel, T. Wiesel, "Receptive fields of single neurones in the cat's striate cortex", Journal of Physiology 1959.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    SMALL,
    VERMILION,
    evenly_chosen,
    heading,
    main_title,
    new_figure,
    quiet_frame,
)
from striate.visualize.inside.mosaic import caption
from striate.visualize.inside.passes import batches, choose_unit, layer_outputs, no_such_layer, not_images
from striate.visualize.inside.synthesis import Range
from striate.wording import percent, several, shorten_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORIENTATIONS, PHASES, UNITS = 16, 8, 12
WAVELENGTHS = (4, 6, 8, 12, 16, 24)
"""Wavelengths in pixels; those longer than half a side are left out."""
CONTRAST = 0.9
TUNED = 0.33
"""Units with this selectivity or more count as tuned: their activation perpendicular to the best orientation is about
half of the best one or less."""


@dataclass(frozen=True)
class TuningCurve:
    """How one unit responds to bars."""

    unit: int
    """Number of the unit."""
    responses: tuple[float, ...]
    """At each of 16 orientations of the bars, 0° horizontal, counterclockwise, up to 180°: the mean over the phases of
    the activation above that for uniform gray, at the `wavelength`."""
    wavelength: int
    """The wavelength that excites the unit most, in pixels."""
    selectivity: float
    """1 minus circular variance, |Σ r·e^{2iθ}| / Σ r: 0 for equal responses at all orientations, 1 for a response at a
    single one (Ringach et al., Journal of Neuroscience 2002)."""
    preferred: float
    """The preferred orientation, in degrees."""
    modulation: float
    """F1/F0 over the phases: above 1 as in simple cells, below as in complex cells (Skottun et al., Vision Research
    1991)."""


@dataclass(frozen=True)
class LayerTuning:
    """The tuning of a layer, over its units that respond to gratings."""

    name: str
    """The layer by name."""
    units: int
    """Number of units of the layer."""
    answering: int
    """Number of units that respond to gratings."""
    selectivity: float
    """Their median selectivity, 0 to 1."""
    tuned: float
    """The share of them that is tuned (selectivity of 0.33 or more)."""
    simple: float
    """The share of them that is simple (modulation above 1)."""


@dataclass(frozen=True)
class Tuning:
    """The tuning of every layer with maps, and the curves of one of them, the most selective units first."""

    layers: tuple[LayerTuning, ...]
    layer: str
    curves: tuple[TuningCurve, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        degrees = [180 * k / ORIENTATIONS for k in range(ORIENTATIONS)]
        return asdict(self) | {"orientations": degrees}


def gratings(input_shape: Shape, wavelength: float) -> torch.Tensor:
    """Gray sine gratings (orientations · phases, C, H, W), 0 to 1, at all orientations and phases."""
    channels, height, width = input_shape
    row, column = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    angle = torch.arange(ORIENTATIONS).view(-1, 1, 1, 1) * math.pi / ORIENTATIONS
    phase = torch.arange(PHASES).view(1, -1, 1, 1) * 2 * math.pi / PHASES
    # Rows run downward, so that a bar at 45° rises to the right.
    across = column * torch.sin(angle) + row * torch.cos(angle)
    wave = 0.5 + 0.5 * CONTRAST * torch.sin(2 * math.pi * across / wavelength + phase)
    return wave.flatten(0, 1)[:, None].repeat(1, channels, 1, 1)


def tune(
    module: nn.Module,
    input_shape: Shape,
    values: Range,
    layer: str | None = None,
    *,
    units: Sequence[int] | None = None,
) -> Tuning:
    """How units respond to gratings over the whole image; of each channel of a map, the unit in the middle.

    `values`: the smallest and the largest normalized value of each channel of an image. Default: the first layer with
    an activation, and 12 of its units. Raises UsageError for an unknown layer or unit, DataError for inputs that are
    not images.
    """
    if len(input_shape) != 3:
        raise not_images("tuning", input_shape)
    longest = max(WAVELENGTHS[0], min(input_shape[1:]) / 2)
    waves = [wave for wave in WAVELENGTHS if wave <= longest]
    responses, active = _responses(module, input_shape, values, waves)
    curves = {name: _curves(of_layer, waves) for name, of_layer in responses.items()}
    name = layer or next((name for name in active if curves[name]), next(iter(curves)))
    if name not in curves:
        raise no_such_layer(name, list(curves))
    count = responses[name].shape[-1]
    known = {curve.unit: curve for curve in curves[name]}
    if units is not None:
        silent = (0.0,) * ORIENTATIONS
        chosen = [choose_unit(unit, count, name) for unit in units]
        shown = [known.get(unit) or TuningCurve(unit, silent, waves[0], 0.0, 0.0, 0.0) for unit in chosen]
    else:
        shown = sorted(known.values(), key=lambda curve: -curve.selectivity)[:UNITS]
    counts = {each: of_layer.shape[-1] for each, of_layer in responses.items()}
    return Tuning(tuple(_summed(each, counts[each], curves[each]) for each in active or curves), name, tuple(shown))


def _responses(
    module: nn.Module, input_shape: Shape, values: Range, waves: Sequence[int]
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """For each layer with maps, the activations above that for gray, at least 0, (wavelengths, orientations, phases,
    units); and the names of the layers that are activations or sums."""
    low, high = (torch.tensor(bound, dtype=torch.float32).view(1, -1, 1, 1) for bound in values)
    gray = torch.full((1, *input_shape), 0.5)
    found: dict[str, list[torch.Tensor]] = {}
    active: dict[str, None] = {}
    everything = torch.cat([gray, *(gratings(input_shape, wave) for wave in waves)])
    for part in batches(everything):
        for output in layer_outputs(module, low + part * (high - low), part=_middle):
            if output.values.numel():
                found.setdefault(output.name, []).append(output.values.cpu())
                if output.activation or output.kind == "sum":
                    active[output.name] = None
    if not found:
        raise no_such_layer("", [])
    responses = {}
    for name, parts in found.items():
        joined = torch.cat(parts).double().numpy()
        above = (joined[1:] - joined[0]).clip(0)
        responses[name] = above.reshape(len(waves), ORIENTATIONS, PHASES, -1)
    return responses, list(active)


def _middle(values: torch.Tensor) -> torch.Tensor:
    """(N, C) the units in the middle of a map; empty for other outputs."""
    if values.ndim != 4:
        return values[:0]
    return values[:, :, values.shape[2] // 2, values.shape[3] // 2]


def _curves(all_responses: NDArray[np.float64], waves: Sequence[int]) -> list[TuningCurve]:
    """The curves of the units that respond."""
    mean = all_responses.mean(2)
    # Responses below a millionth of the layer's strongest one are rounding errors.
    least = max(1e-12, 1e-6 * float(mean.max(initial=0)))
    doubled = np.exp(2j * np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS)
    turn = np.exp(-2j * np.pi * np.arange(PHASES) / PHASES)
    found = []
    for unit in np.flatnonzero(mean.max((0, 1)) > least):
        wave, best = np.unravel_index(int(mean[:, :, unit].argmax()), mean.shape[:2])
        responses = mean[wave, :, unit]
        vector = complex((responses * doubled).sum() / responses.sum())
        phases = all_responses[wave, best, :, unit]
        found.append(
            TuningCurve(
                int(unit),
                tuple(responses.tolist()),
                waves[int(wave)],
                abs(vector),
                float(np.degrees(np.angle(vector)) / 2 % 180),
                float(2 * abs((phases * turn).mean()) / phases.mean()),
            )
        )
    return found


def _summed(name: str, units: int, curves: Sequence[TuningCurve]) -> LayerTuning:
    if not curves:
        return LayerTuning(name, units, 0, 0.0, 0.0, 0.0)
    selectivity = np.array([curve.selectivity for curve in curves])
    simple = np.mean([curve.modulation > 1 for curve in curves])
    return LayerTuning(
        name, units, len(curves), float(np.median(selectivity)), float((selectivity >= TUNED).mean()), float(simple)
    )


_COLUMNS, _MOST = 4, 20


def tuning_figure(found: Tuning, *, title: str) -> Figure:
    """A small plot for each unit at the left, the layers at the right."""
    rows = max(1, -(-len(found.curves) // _COLUMNS))
    figure = new_figure(10.5, max(3.6, 1.55 * rows) + 1.2)
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(2.1, 1)))
    grid = left.subplots(rows, min(_COLUMNS, max(1, len(found.curves))), squeeze=False, sharex=True).ravel()
    for axes, curve in zip(grid, found.curves, strict=False):
        draw_curve(axes, curve)
    for axes in grid[len(found.curves) :]:
        axes.set_axis_off()
    left.supxlabel("orientation of the bars, degrees (0: horizontal)", fontsize=SMALL)
    draw_layers(right.subplots(), found)
    caption(figure, tuning_words(found))
    main_title(figure, title)
    return figure


def draw_curve(axes: Axes, curve: TuningCurve) -> None:
    """The response of one unit at each orientation, as a share of its best; the dotted line is the preferred one."""
    degrees = np.arange(ORIENTATIONS + 1) * 180 / ORIENTATIONS
    responses = np.array([*curve.responses, curve.responses[0]])
    axes.plot(degrees, responses / (responses.max() or 1.0), color=BLUE, linewidth=1.6)
    if responses.any():
        axes.axvline(curve.preferred, color=VERMILION, linestyle=":", linewidth=1.2)
    quiet_frame(axes)
    axes.set(xlim=(0, 180), ylim=(0, 1.08), xticks=(0, 45, 90, 135, 180), yticks=(0, 1))
    kind = "simple" if curve.modulation > 1 else "complex"
    text = f"{curve.selectivity:.2f} {kind} λ {curve.wavelength}" if responses.any() else "no response"
    axes.set_title(f"unit {curve.unit}: {text}", fontsize=SMALL - 0.5, loc="left", parse_math=False)


def draw_layers(axes: Axes, found: Tuning) -> None:
    """The median selectivity of each layer."""
    layers = [found.layers[k] for k in evenly_chosen(len(found.layers), _MOST)]
    places = np.arange(len(layers))
    axes.barh(places, [layer.selectivity for layer in layers], 0.55, color=BLUE)
    for place, layer in zip(places, layers, strict=True):
        text = f"{percent(layer.tuned, 0)} tuned" if layer.answering else "no response"
        right = max(layer.selectivity, TUNED)  # where the dotted line does not cross it
        axes.text(right + 0.02, float(place), text, va="center", fontsize=SMALL - 1.5, color=FAINT)
    axes.axvline(TUNED, color=VERMILION, linestyle=":", linewidth=1.2)
    axes.set_yticks(places, [shorten_path(layer.name, 20) for layer in layers], fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    quiet_frame(axes)
    axes.grid(False, axis="y")
    heading(axes, "median selectivity by layer")


def tuning_words(found: Tuning) -> str:
    """How many units of the layer are tuned, and what the numbers mean."""
    layer = next((each for each in found.layers if each.name == found.layer), None)
    facts = ""
    if layer is not None and layer.answering:
        facts = (
            f"{found.layer}: {layer.answering} of {several(layer.units, 'unit')} respond to gratings, "
            f"{percent(layer.tuned, 0)} of these are tuned (selectivity {TUNED} or more), {percent(layer.simple, 0)} "
            "simple cells. "
        )
    return (
        f"{facts}Sine gratings over the whole image, the unit in the middle of its map. Selectivity: 0 for any "
        "orientation, 1 for one alone; simple: it follows the bars' phase, complex: it does not; λ: best wavelength, "
        "pixels."
    )
