"""Every option that is on is said, and no other."""

from __future__ import annotations

import pytest

from striate.data.augment.augment import describe_augmentation
from striate.data.config import AugmentConfig


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (AugmentConfig(shift=2, flip=True), ("mirroring", "shifts up to 2 px")),
        (AugmentConfig(crop=0.35, vertical_flip=True), ("crops down to 35 % of the area", "mirroring upside down")),
        (AugmentConfig(rotate=7.5, scale=0.1, shear=5), ("slants up to 5°", "sizes ± 10 %", "rotations up to 7.5°")),
        (AugmentConfig(color=0.4), ("brightness, contrast, saturation and hue ± 40 %",)),
        (
            AugmentConfig(shift=2, flip="alternate", fill="zero"),
            ("mirroring in every other epoch", "shifts up to 2 px", "black beyond the edge"),
        ),
        (AugmentConfig(policy="trivial"), ("one operation of TrivialAugment per image",)),
        (AugmentConfig(blur=1.5, cutout=0.25), ("blur up to 1.5 px", "a square of 25 % of the side blanked")),
        (AugmentConfig(noise=0.1), ("noise up to 0.1 standard deviations",)),
        (AugmentConfig(mixup=0.2, cutmix=1), ("pairs blended (mixup)", "boxes pasted from other images (cutmix)")),
        (AugmentConfig(shift=0, flip=False, crop=1.0, policy="none", mixup=0), ()),
        (AugmentConfig(), ()),
    ],
)
def test_what_is_on_is_said(config: AugmentConfig, said: tuple[str, ...]) -> None:
    assert describe_augmentation(config, (3, 32, 32)) == said


def test_gray_images_have_no_hue() -> None:
    assert describe_augmentation(AugmentConfig(color=0.4), (1, 28, 28)) == ("brightness and contrast ± 40 %",)
