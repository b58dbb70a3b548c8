"""Augmentation is a pure function of seed, epoch and sample id, and every option changes what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.augment.augment import _PIXELS, Augmentation, augment_batch, draw_augmentation
from striate.data.augment.pixels import Change, PixelStep
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig

EVERYTHING = AugmentConfig(
    shift=3,
    flip=True,
    vertical_flip=True,
    crop=0.5,
    rotate=20,
    scale=0.2,
    shear=15,
    color=0.5,
    blur=1.0,
    cutout=0.3,
    policy="trivial",
)
IDS = torch.arange(2000) * 7 + 3
SHAPE = (3, 24, 20)


def drawn(config: AugmentConfig, epoch: int = 0, seed: int = 0, ids: torch.Tensor = IDS) -> Augmentation:
    augmentation = draw_augmentation(config, seed, epoch, ids, SHAPE)
    assert augmentation is not None
    return augmentation


def images(channels: int, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 17, 14), dtype=torch.uint8, generator=generator)


def only(option: str) -> AugmentConfig:
    return AugmentConfig(**{option: getattr(EVERYTHING, option)})


OPTIONS = [f.name for f in fields(AugmentConfig) if getattr(EVERYTHING, f.name) is not None]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
    cut=st.integers(1, 63),
    channels=st.sampled_from([1, 2, 3]),
    option=st.sampled_from([None, *OPTIONS]),
)
def test_a_sample_does_not_depend_on_its_batch(seed, epoch, cut, channels, option) -> None:
    config = EVERYTHING if option is None else only(option)
    ids = torch.randperm(64, generator=torch.Generator().manual_seed(0)) * 1000
    x = images(channels, 64)
    whole, _ = augment_batch(x, config, seed, epoch, ids)
    part, _ = augment_batch(x[cut:], config, seed, epoch, ids[cut:])
    assert (whole.dtype, whole.shape) == (torch.uint8, x.shape)
    assert torch.equal(whole[cut:], part)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_images_and_again_in_the_next_epoch(option: str) -> None:
    x = images(3, 64)
    one, _ = augment_batch(x, only(option), 0, 0, torch.arange(64))
    two, _ = augment_batch(x, only(option), 0, 1, torch.arange(64))
    other, _ = augment_batch(x, only(option), 1, 0, torch.arange(64))
    assert not torch.equal(one, x)
    assert not torch.equal(one, two)
    assert not torch.equal(one, other)


def test_an_option_leaves_what_the_others_draw_alone() -> None:
    everything = drawn(replace(EVERYTHING, policy=None))
    for place, option in enumerate(("blur", "cutout")):
        x, (alone,) = images(3, len(IDS)), drawn(only(option)).changes
        assert torch.equal(alone(x), everything.changes[place](x))
    assert torch.equal(drawn(only("color")).color.hue, everything.color.hue)
    for option, field in (("flip", "flip"), ("vertical_flip", "vertical_flip"), ("crop", "box"), ("shift", "shift")):
        assert torch.equal(getattr(drawn(only(option)).warp, field), getattr(everything.warp, field))


def test_nothing_to_vary_draws_nothing() -> None:
    off = AugmentConfig(
        shift=0, flip=False, vertical_flip=False, crop=1.0, rotate=0, scale=0, shear=0, color=0, blur=0, cutout=0,
        policy="none",
    )  # fmt: skip
    x = images(1, 3)
    for config in (off, AugmentConfig()):
        same, warp = augment_batch(x, config, 0, 0, torch.arange(3))
        assert same is x
        assert warp is None
    table = torch.ones(3, 4)
    assert augment_batch(table, AugmentConfig(noise=0.5), 0, 0, torch.arange(3))[0] is table


def test_shifts_mirrors_and_crops_keep_their_bounds() -> None:
    warp = drawn(AugmentConfig(shift=3, flip=True, vertical_flip=True, crop=0.5)).warp
    assert (int(warp.shift.min()), int(warp.shift.max())) == (-3, 3)
    assert int(torch.bincount(warp.shift[:, 0] + 3).min()) > 2000 / 7 * 0.8  # every shift is equally likely
    assert 0.45 < float(warp.flip.double().mean()) < 0.55
    assert 0.45 < float(warp.vertical_flip.double().mean()) < 0.55
    assert 0.45 < float((warp.flip ^ warp.vertical_flip).double().mean()) < 0.55  # one does not follow the other
    top, left, height, width = warp.box.unbind(1)
    assert bool((top >= 0).all() and (left >= 0).all())
    assert bool((top + height <= 1 + 1e-6).all() and (left + width <= 1 + 1e-6).all())
    assert 0.4 < float((height * width).min()) < 0.55
    assert float((height * width).max()) > 0.95


@given(degrees=st.floats(0.5, 180))
def test_rotations_are_up_to_what_was_asked_either_way(degrees: float) -> None:
    linear = drawn(AugmentConfig(rotate=degrees)).warp.linear
    angle = torch.rad2deg(torch.atan2(linear[:, 0, 1], linear[:, 0, 0]))
    assert torch.allclose(torch.linalg.det(linear), torch.ones(2000, dtype=torch.float64))
    assert 0.98 * degrees < float(angle.max()) <= degrees * (1 + 1e-9)
    assert -degrees * (1 + 1e-9) <= float(angle.min()) < -0.98 * degrees


@given(change=st.floats(0.01, 0.9), slant=st.floats(0.5, 60))
def test_sizes_and_slants_are_up_to_what_was_asked(change: float, slant: float) -> None:
    size = drawn(AugmentConfig(scale=change)).warp.linear[:, 0, 0]
    assert 1 - change <= float(size.min()) < 1 - 0.98 * change
    assert 1 + 0.98 * change < float(size.max()) <= 1 + change
    linear = drawn(AugmentConfig(shear=slant)).warp.linear
    angle = torch.rad2deg(torch.atan(linear[:, 0, 1]))
    assert 0.98 * slant < float(angle.max()) <= slant * (1 + 1e-9)
    assert bool(linear[:, 1, 0].eq(0).all())  # rows stay rows


def test_a_positive_rotation_is_counterclockwise() -> None:
    x = torch.zeros(200, 1, 31, 31, dtype=torch.uint8)
    x[:, :, 15, 25] = 255  # to the right of the center
    moved, warp = augment_batch(x, AugmentConfig(rotate=40), 0, 0, torch.arange(200))
    up = warp.linear[:, 0, 1] > 0.2
    rows = moved[:, 0].float().sum(2).argmax(1)
    assert bool((rows[up] < 15).all())
    assert bool((rows[warp.linear[:, 0, 1] < -0.2] > 15).all())


def test_colors_and_blur_are_up_to_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    color = drawn(AugmentConfig(color=0.4)).color
    for factor in (color.brightness, color.contrast, color.saturation):
        assert 0.6 <= float(factor.min()) < 0.61
        assert 1.39 < float(factor.max()) <= 1.4
    assert 0.62 < float(color.hue.max()) <= 0.4 * torch.pi / 2
    assert abs(float(torch.corrcoef(torch.stack([color.brightness, color.contrast]))[0, 1])) < 0.07
    blurred: list[torch.Tensor] = []
    monkeypatch.setattr("striate.data.augment.pixels.blur", lambda *passed: blurred.append(passed[1]))
    drawn(AugmentConfig(blur=2.5)).changes[0](images(3, 1))
    (sigma,) = blurred
    assert 0 <= float(sigma.min()) < 0.01
    assert 2.49 < float(sigma.max()) <= 2.5


def test_a_policy_does_one_thing_to_each_image() -> None:
    augmentation = drawn(AugmentConfig(policy="trivial"))
    turned = (augmentation.warp.linear != torch.eye(2).double()).flatten(1).any(1)
    shifted = augmentation.warp.shift.ne(0).any(1)
    colored = (augmentation.color.brightness != 1) | (augmentation.color.contrast != 1)
    colored |= augmentation.color.saturation != 1
    toned = augmentation.trivial.operation <= 5  # identity among them
    once = turned.int() + shifted.int() + colored.int() + toned.int()
    assert int(once.max()) == 1
    assert float((once == 1).double().mean()) > 0.95  # a translation by less than half a pixel is none
    assert 0.17 < float(turned.double().mean()) < 0.26  # three of fourteen


def test_a_policy_goes_beside_the_other_options() -> None:
    config = AugmentConfig(policy="trivial", rotate=10, color=0.2, shift=2)
    alone, beside = drawn(AugmentConfig(rotate=10, color=0.2, shift=2)), drawn(config)
    plain = beside.trivial.operation == 0
    assert torch.allclose(alone.warp.linear[plain], beside.warp.linear[plain])
    assert torch.equal(alone.warp.shift[plain], beside.warp.shift[plain])
    assert torch.equal(alone.color.brightness[plain], beside.color.brightness[plain])


def test_gray_images_take_every_option() -> None:
    x = images(1, 64)
    for option in OPTIONS:
        changed, _ = augment_batch(x, only(option), 0, 0, torch.arange(64))
        assert not torch.equal(changed, x), option


@given(shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
def test_images_of_any_shape_stay_bytes_of_that_shape(shape: tuple[int, int, int]) -> None:
    x = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    before = x.clone()
    changed, _ = augment_batch(x, EVERYTHING, 0, 0, torch.arange(5))
    assert (changed.shape, changed.dtype) == (x.shape, torch.uint8)
    assert torch.equal(x, before)


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10**6))
def test_alternating_mirrors_show_each_image_both_ways_in_two_epochs(seed: int, epoch: int) -> None:
    config = AugmentConfig(flip="alternate", shift=1)
    one, two, three = (drawn(config, e, seed).warp.flip for e in (epoch, epoch + 1, epoch + 2))
    assert torch.equal(one, ~two)
    assert torch.equal(one, three)
    assert 0.43 < float(one.double().mean()) < 0.57
    assert torch.equal(drawn(config, epoch, seed, IDS[5:9]).warp.flip, one[5:9])
    assert torch.equal(drawn(config, epoch, seed).warp.shift, drawn(replace(config, flip=True), epoch, seed).warp.shift)
    assert not torch.equal(one, drawn(config, epoch, seed + 1).warp.flip)


def test_what_moves_in_is_what_was_asked() -> None:
    x = images(3, 64) // 2 + 100
    batches = {}
    for fill in (None, "edge", "reflect", "zero"):
        batches[fill], warp = augment_batch(x, AugmentConfig(shift=3, fill=fill), 0, 0, torch.arange(64))
        assert warp.fill == (fill or "edge")
    assert torch.equal(batches[None], batches["edge"])
    moved = warp.shift.ne(0).any(1)
    assert torch.equal(batches["zero"].eq(0).flatten(1).any(1), moved)
    assert not batches["reflect"].eq(0).any()
    assert torch.equal(batches["reflect"].ne(batches["edge"]).flatten(1).any(1), moved)


def test_crops_are_whole_pixels_inside_the_image() -> None:
    box = drawn(AugmentConfig(crop=0.1)).warp.box.double() * torch.tensor([24, 20, 24, 20])
    assert float((box - box.round()).abs().max()) < 1e-4
    box = box.round()
    assert bool((box >= 0).all())
    assert bool((box[:, 2:] >= 1).all())
    assert bool((box[:, :2] + box[:, 2:] <= torch.tensor([24, 20])).all())
    assert int((box[:, 0] + box[:, 2] == 24).sum()) > 150  # the last row is reached as often as the first
    assert int((box[:, 0] == 0).sum()) > 150


@pytest.mark.parametrize("option", [None, *OPTIONS])
def test_large_images_in_parts_do_not_depend_on_their_batch(option: str | None, monkeypatch) -> None:
    monkeypatch.setattr("striate.data.memory_layout._VALUES", 2000)
    config = EVERYTHING if option is None else only(option)
    x, ids = images(3, 16), torch.arange(16)
    whole, _ = augment_batch(x, config, 0, 3, ids)
    part, _ = augment_batch(x[5:], config, 0, 3, ids[5:])
    assert torch.equal(whole[5:], part)


def test_a_further_step_is_one_object_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(_value: float, u: Mapping[str, torch.Tensor]) -> Change:
        return lambda x: x | (u["own"] >= 0).byte().view(-1, 1, 1, 1)

    odd = PixelStep("cutout", ("own",), draw, str)
    before = drawn(only("color")).color
    monkeypatch.setattr("striate.data.augment.augment.STEPS", (odd,))
    monkeypatch.setattr("striate.data.augment.augment._PIXELS", (*_PIXELS, "own"))
    augmentation = drawn(AugmentConfig(color=EVERYTHING.color, cutout=0.5))
    assert augmentation.color is not None
    assert before is not None
    assert torch.equal(augmentation.color.hue, before.hue)
    x = images(3, len(IDS))
    assert torch.equal(augmentation.changes[0](x), x | 1)


@pytest.mark.parametrize("width", [8, 12])
def test_quarter_turns_copy_every_pixel_and_halves_are_left_where_images_are_not_square(width: int) -> None:
    x = torch.randint(0, 256, (64, 3, 8, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    config = AugmentConfig(quarter_turns=True)
    out, warp = augment_batch(x, config, 0, 0, torch.arange(64))
    assert isinstance(warp, Warp)
    assert warp.turns is not None
    counts = torch.bincount(warp.turns, minlength=4)
    assert (counts > 4).tolist() == ([True] * 4 if width == 8 else [True, False, True, False])
    for one, turned, quarters in zip(x, out, warp.turns.tolist(), strict=True):
        assert torch.equal(turned, one.rot90(quarters, (1, 2)))
    place = torch.tensor([[[0.5, -0.25]]]).expand(64, 1, 2)
    moved = warp.move(place, (8, width))
    for quarters, (right, down) in zip(warp.turns.tolist(), moved[:, 0].tolist(), strict=True):
        assert (right, down) == [(0.5, -0.25), (-0.25, -0.5), (-0.5, 0.25), (0.25, 0.5)][quarters]
