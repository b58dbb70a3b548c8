"""Images that are changed as they are said to be, and what a network that is known answers for them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import nn

from made_data import made_dataset
from striate.data.normalize import Normalization
from striate.errors import DataError
from striate.evaluation.robustness import changes
from striate.evaluation.robustness.changes import Draws
from striate.evaluation.robustness.kinds import kinds_for, shifts
from striate.evaluation.robustness.measure_robustness import measure_robustness
from striate.statistics.intervals import wilson
from striate.tasks.classify.task import Classify
from striate.training.trained import Trained

KINDS = {kind.name: kind for kind in kinds_for(20, 28)}


def images(n=6, channels=1, height=20, width=28, seed=0):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(n, channels, height, width)), (0, 0, 2, 2))
    return torch.from_numpy((255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8))


def draws(kind, pool, seed=0, ids=None):
    ids = np.arange(len(pool)) if ids is None else ids
    return Draws(seed, kind, ids, np.arange(len(pool)), pool)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_in_bytes_out_a_function_of_seed_and_id(name, channels):
    kind, pool = KINDS[name], images(channels=channels)
    before = pool.clone()
    for strength in kind.strengths:
        all_at_once = kind.change(pool, strength, draws(name, pool))
        assert all_at_once.dtype == torch.uint8
        assert all_at_once.shape == pool.shape
        one = Draws(0, name, np.array([4]), np.array([4]), pool)
        assert torch.equal(kind.change(pool[4:5], strength, one)[0], all_at_once[4])
    assert torch.equal(pool, before)
    if name not in ("scale", "illumination", "blur", "JPEG"):
        assert not torch.equal(kind.change(pool, strength, draws(name, pool, seed=1)), all_at_once)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.identity is not None])
def test_the_strength_that_changes_nothing_changes_nothing(name):
    pool = images()
    if name == "blur":
        assert torch.equal(KINDS[name].change(pool, 1e-3, draws(name, pool)), pool)
    elif name != "occlusion":  # one pixel is the least that can be covered
        assert torch.equal(KINDS[name].change(pool, KINDS[name].identity, draws(name, pool)), pool)


@pytest.mark.parametrize(
    "name", ["shift", "rotation", "occlusion", "deformation", "viewpoint", "clutter", "noise", "blur"]
)
def test_more_changes_more(name):
    kind, pool = KINDS[name], images(12)
    far = [(kind.change(pool, s, draws(name, pool)).float() - pool.float()).square().mean() for s in kind.strengths]
    assert far == sorted(far)


def test_shifts_copy_pixels():
    pool = images()
    for image, moved in zip(pool, changes.shift(pool, 3, draws("shift", pool)), strict=True):
        ways = [(image[:, :-3], moved[:, 3:]), (image[:, 3:], moved[:, :-3]),
                (image[:, :, :-3], moved[:, :, 3:]), (image[:, :, 3:], moved[:, :, :-3])]  # fmt: skip
        assert sum(torch.equal(a, b) for a, b in ways) == 1


def test_rotation_agrees_with_scipy():
    pool = images(4, height=24, width=24)
    for image, moved in zip(pool, changes.rotate(pool, 20, draws("rotation", pool)), strict=True):
        turned = [
            ndimage.rotate(image[0].float().numpy(), a, reshape=False, order=1, mode="nearest") for a in (20, -20)
        ]
        assert min(np.abs(moved[0].numpy() - t).max() for t in turned) <= 1


def test_scale_agrees_with_scipy():
    pool = images(2, height=24, width=24)
    for factor in (0.5, 2.0):
        moved = changes.scale(pool, factor, draws("scale", pool))
        center = 11.5 * (1 - 1 / factor)
        other = ndimage.affine_transform(
            pool[0, 0].float().numpy(), np.eye(2) / factor, offset=center, order=1, mode="nearest"
        )
        assert np.abs(moved[0, 0].numpy() - other).max() <= 1


def test_a_tilt_is_a_homography_with_the_center_in_place():
    """Straight lines stay straight: the mapping agrees with the projective one through four of its points."""
    from skimage.transform import ProjectiveTransform

    grid = torch.arange(25.0)
    plane = torch.stack(torch.meshgrid(grid, grid, indexing="ij"))[None]
    recorded = {}

    def record(images, x, y):
        recorded["places"] = torch.stack([x[0], y[0]], -1).reshape(-1, 2).numpy()
        return images

    original = changes._sampled
    changes._sampled = record
    try:
        changes.tilt(plane, 40, draws("viewpoint", images(1, height=25, width=25)))
    finally:
        changes._sampled = original
    places, pixels = recorded["places"], (np.stack(np.meshgrid(range(25), range(25)), -1) - 12).reshape(-1, 2)
    corners = [0, 24, 600, 624]
    fitted = ProjectiveTransform.from_estimate(pixels[corners].astype(float), places[corners].astype(float))
    assert np.abs(fitted(pixels) - places).max() < 1e-3
    assert np.abs(places[312]).max() < 1e-5


def test_elastic_fields_have_the_stated_length(monkeypatch):
    seen = []
    monkeypatch.setattr(changes, "_sampled", lambda images, x, y: seen.append((x, y)) or images)
    pool = images(3)
    changes.deform(pool, 5, draws("deformation", pool))
    (x, y), (x0, y0) = seen[0], changes._from_center(pool)
    lengths = ((x - x0).square() + (y - y0).square()).mean((1, 2)).sqrt()
    assert lengths.numpy() == pytest.approx(0.05 * 20, rel=1e-4)


def test_occlusion_covers_the_stated_area_with_the_mean():
    pool = images(8)
    changed = KINDS["occlusion"].change(pool, 30, draws("occlusion", pool))
    for image, covered in zip(pool, changed, strict=True):
        mean = int(image.float().mean().round())
        area = (covered == mean).float().mean()
        assert 0.28 <= area <= 0.4  # some pixels have that value anyway


def test_clutter_leaves_the_middle_and_has_the_first_fragments_of_more():
    pool = images(8, height=30, width=30)
    few, many = (KINDS["clutter"].change(pool, n, draws("clutter", pool)) for n in (2, 16))
    assert torch.equal(few[:, :, 12:18, 12:18], pool[:, :, 12:18, 12:18])
    assert ((few != pool).float().mean((1, 2, 3)) <= 2 * 36 / 900).all()
    assert not torch.equal(few, many)


def test_light_doubles_with_each_stop():
    gray = torch.full((1, 1, 4, 4), 100, dtype=torch.uint8)
    change = KINDS["illumination"].change
    values = [int(change(gray, stops, draws("illumination", gray))[0, 0, 0, 0]) for stops in (-1, 1, 4)]
    assert values == [73, 137, 255]
    assert pytest.approx(2, rel=0.01) == (137 / 100) ** 2.2


def test_noise_has_the_stated_deviation():
    gray = torch.full((4, 1, 64, 64), 128, dtype=torch.uint8)
    noisy = KINDS["noise"].change(gray, 16, draws("noise", gray)).float()
    assert float(noisy.std()) == pytest.approx(16, rel=0.03)
    assert float(noisy.mean()) == pytest.approx(128, abs=0.5)


def test_jpeg_is_pillows(tmp_path):
    pool = images(1, channels=3)
    Image.fromarray(pool[0].permute(1, 2, 0).numpy()).save(tmp_path / "x.jpg", quality=15)
    with Image.open(tmp_path / "x.jpg") as read:
        assert np.array_equal(np.asarray(read), KINDS["JPEG"].change(pool, 15, draws("JPEG", pool))[0].permute(1, 2, 0))


@given(st.integers(8, 400))
def test_strengths_fit_the_image(side):
    found = shifts(side)
    assert 1 <= len(found) <= 8
    assert all(step == int(step) and step < side for step in found)
    for kind in kinds_for(side, side + 3):
        assert len(kind.strengths) <= 8
        assert len(set(kind.strengths)) == len(kind.strengths)


class BrightSide(nn.Module):
    """Answers whether the left or the right half is brighter: what a shift does to it can be foretold."""

    def forward(self, x):
        half = x.shape[3] // 2
        return torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))], 1)


def bright_sides(n=40, width=16):
    """A bright bar of four columns, right at the middle or one pixel beyond it, to the left or to the right."""
    targets = np.arange(n) % 2
    pixels = np.zeros((n, 1, 16, width), np.uint8)
    for k in range(n):
        first = width // 2 if targets[k] else width // 2 - 4
        pixels[k, 0, :, first : first + 4] = 255
    data = made_dataset("image", "class", {"test": (pixels, targets)}, ("left", "right"))
    network = Trained(
        BrightSide(), Classify(("left", "right")), data.preparation, Normalization((0.0,), (1.0,)), data.classes,
        torch.device("cpu"),
    )  # fmt: skip
    return network, data


def test_curves_of_a_network_that_is_known():
    network, data = bright_sides()
    found = measure_robustness(network, data, "test")
    assert (found.value, found.n, found.of) == (1.0, 40, 40)
    curves = {curve.name: curve for curve in found.curves}
    assert list(curves) == list(KINDS)
    for name in ("illumination", "noise", "blur", "JPEG"):
        assert curves[name].levels[0].value == 1
    four = next(level for level in curves["shift"].levels if level.strength == 4)
    # Of the four ways, one takes each bar across the middle: about a quarter of the answers.
    assert 0.5 <= four.value <= 0.95
    assert four.value == four.unchanged
    assert four.interval == wilson(round(40 * four.value), 40)
    assert found.worst.mean == min(curve.mean for curve in found.curves)
    assert f"{found.worst.name} costs the most" in found.summary
    again = measure_robustness(network, data, "test")
    assert again == found
    assert json.loads(json.dumps(found.to_json()))["curves"][0]["levels"][0]["strength"] == 1
    assert max(map(len, str(found).splitlines())) <= 80
    assert "of shift are unchanged" in " ".join(str(found).split())


def test_a_part_of_the_images_is_spread_over_all():
    network, data = bright_sides()
    found = measure_robustness(network, data, "test", samples=10)
    assert (found.n, found.of) == (10, 40)
    assert "10 of 40 images, evenly spaced" in " ".join(str(found).split())


def test_other_media_are_refused():
    network, data = bright_sides()
    with pytest.raises(DataError, match="images, whose pixels are changed"):
        measure_robustness(network, replace(data, kind="grid"), "test")


@pytest.mark.slow
def test_the_figure_has_a_panel_for_each_kind():
    from striate.visualize.metric_curves import robustness_figure

    network, data = bright_sides(8)
    figure = robustness_figure(measure_robustness(network, data, "test").to_json(), title="made")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [*KINDS, "shift: prediction unchanged"]
