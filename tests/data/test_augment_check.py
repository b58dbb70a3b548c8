"""What the data cannot take is refused with a remedy that works; what is off is no request."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from striate.data.augment.augment import check_augmentation, check_fill
from striate.data.config import SOUND, VOLUME, VOLUME_ALONE, AugmentConfig
from striate.data.dataset import Dataset, Kind, Preparation, Split
from striate.errors import ConfigError

ON = AugmentConfig(
    shift=3, flip=True, vertical_flip=True, crop=0.5, rotate=20, scale=0.2, shear=15, color=0.5, noise=0.5, blur=1.0,
    cutout=0.3, policy="trivial", mixup=0.2, cutmix=1.0, fill="reflect", transform="grain.py:grain",
    window=64, zoom=2.0, time_shift=0.5, gain=6, speed=0.1, time_mask=0.2, frequency_mask=0.2, depth_flip=True,
    foreground=0.3, quarter_turns=True,
)  # fmt: skip
OFF = AugmentConfig(
    shift=0, flip=False, vertical_flip=False, crop=1.0, rotate=0, scale=0, shear=0, color=0, noise=0, blur=0, cutout=0,
    policy="none", mixup=0, cutmix=0, fill="edge", window=0, zoom=1.0, time_shift=0, gain=0, speed=0,
    time_mask=0, frequency_mask=0, depth_flip=False, foreground=0, quarter_turns=False,
)  # fmt: skip


def data(shape: tuple[int, ...], kind: Kind) -> Dataset:
    split = Split(torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    return Dataset(
        "made", "made", kind, "class", {"train": split}, ("a", "b"), Preparation(kind, shape), (), "0" * 64
    )  # fmt: skip


def test_all_options_are_in_these_tests() -> None:
    names = [f.name for f in fields(AugmentConfig)]
    assert all(getattr(ON, name) is not None for name in names)
    assert all(getattr(OFF, name) is not None for name in names if name != "transform"), "no transform is none at all"


@pytest.mark.parametrize(("shape", "kind"), [((4,), "table"), ((2, 30), "grid"), ((1, 5, 6), "grid")])
def test_tables_and_grids_take_noise_and_mixup_alone(shape: tuple[int, ...], kind: Kind) -> None:
    made = data(shape, kind)
    check_augmentation(OFF, made)
    check_augmentation(AugmentConfig(), made)
    check_augmentation(replace(OFF, noise=0.3, mixup=0.2), made)
    for field in set(vars(ON)) - {"noise", "mixup"}:
        with pytest.raises(ConfigError, match=f"augment.{field}") as caught:
            check_augmentation(AugmentConfig(**{field: getattr(ON, field)}), made)
        assert caught.value.remedy == f"leave out --augment.{field}"


def test_images_take_everything_but_what_is_for_sounds() -> None:
    everything = replace(ON, **dict.fromkeys(SOUND | VOLUME_ALONE))
    check_augmentation(everything, data((3, 8, 9), "image"))
    check_augmentation(everything, data((1, 28, 28), "image"))
    check_augmentation(OFF, data((3, 1, 1), "image"))


@pytest.mark.parametrize("kind", ["volume", "grid"])
def test_volumes_take_what_has_a_meaning_in_three_dimensions(kind: Kind) -> None:
    made, others = data((1, 8, 8, 8), kind), set(vars(ON)) - VOLUME
    check_augmentation(replace(ON, **dict.fromkeys(others)), made)
    for field in others:
        with pytest.raises(ConfigError, match=f"augment.{field}"):
            check_augmentation(AugmentConfig(**{field: getattr(ON, field)}), made)


@pytest.mark.parametrize(("kind", "shape"), [("image", (3, 8, 9)), ("spectrogram", (1, 8, 9)), ("waveform", (1, 90))])
def test_only_sounds_have_a_speed(kind: Kind, shape: tuple[int, ...]) -> None:
    others = {"image": SOUND, "spectrogram": {"speed", "shift"}, "waveform": {"frequency_mask", "shift"}}[kind]
    for field in sorted(others):
        with pytest.raises(ConfigError, match=f"augment.{field}"):
            check_augmentation(AugmentConfig(**{field: getattr(ON, field)}), data(shape, kind))


@pytest.mark.parametrize(
    ("kind", "shape", "field", "view"),
    [("spectrogram", (1, 8, 9), "speed", "waveform"), ("waveform", (1, 90), "frequency_mask", "log-mel")],
)
def test_what_another_view_of_sounds_takes_is_refused_with_that_view(
    kind: Kind, shape: tuple[int, ...], field: str, view: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_augmentation(AugmentConfig(**{field: 0.2}), data(shape, kind))
    assert caught.value.got.endswith(f"a {kind}")
    assert caught.value.expected.startswith(f"data.view {view}; a {kind} takes augment.")
    assert caught.value.remedy == f"--data.view {view}; or leave out --augment.{field}"


@pytest.mark.parametrize("field", ["shift", "blur"])
def test_the_whole_side_is_too_far_and_the_remedy_is_not(field: str) -> None:
    made = data((3, 6, 40), "image")
    check_augmentation(AugmentConfig(**{field: 5}), made)
    with pytest.raises(ConfigError) as caught:
        check_augmentation(AugmentConfig(**{field: 6}), made)
    option, value = caught.value.remedy.split()
    assert option == f"--augment.{field}"
    check_augmentation(AugmentConfig(**{field: int(value)}), made)


@pytest.mark.parametrize("fill", ["reflect", "zero"])
def test_a_fill_that_nothing_shows_is_refused_and_the_remedy_is_not(fill: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_fill(replace(OFF, fill=fill, crop=0.5, flip=True))
    assert caught.value.remedy.startswith(f"--augment.shift 2 --augment.fill {fill}")
    for field in ("shift", "rotate", "scale", "shear", "policy"):
        check_fill(replace(OFF, fill=fill, **{field: getattr(ON, field)}))
    check_fill(OFF)
    check_fill(AugmentConfig())
