"""Changes of color agree with Pillow's, hue with a rotation in YIQ as the standard library has it."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from striate.data.augment.pixels import ColorChange


def pictures(channels: int = 3) -> torch.Tensor:
    """Values in the middle, which no tested factor drives out of 0 to 255."""
    return torch.randint(90, 150, (2, channels, 12, 13), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def change(batch: int = 2, **factors: float) -> ColorChange:
    values = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0} | factors
    return ColorChange(**{name: torch.full((batch,), value).double() for name, value in values.items()})


def as_pillow(x: torch.Tensor) -> Image.Image:
    return Image.fromarray(x[0].numpy() if len(x) == 1 else x.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.5, 1.3])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_a_factor_does_what_pillows_does(name: str, enhance: type, factor: float, channels: int) -> None:
    x = pictures(channels)
    got = change(**{name: factor}).apply(x)
    assert got.dtype == torch.uint8
    for image, changed in zip(x, got, strict=True):
        expected = np.asarray(enhance(as_pillow(image)).enhance(factor)).astype(int)
        assert np.abs(np.asarray(as_pillow(changed)).astype(int) - expected).max() <= 1


def test_hue_turns_the_colors_of_yiq() -> None:
    x, angle = pictures(), 0.5
    got = change(hue=angle).apply(x).double() / 255
    for before, after in zip(x.double().div(255).flatten(2)[0].T[:40], got.flatten(2)[0].T[:40], strict=True):
        y, i, q = colorsys.rgb_to_yiq(*before.tolist())
        turned = (y, i * math.cos(angle) - q * math.sin(angle), i * math.sin(angle) + q * math.cos(angle))
        # Both write the matrix with a few digits only, hence more than half a step.
        assert after.tolist() == pytest.approx(colorsys.yiq_to_rgb(*turned), abs=2 / 255)


def test_gray_pixels_have_no_hue_and_no_saturation() -> None:
    gray = pictures(1).expand(-1, 3, -1, -1)
    assert torch.equal(change(saturation=0.3, hue=1.2).apply(gray), gray)
    one = pictures(1)
    assert change(saturation=0.3, hue=1.2).apply(one) is one


def test_all_four_at_once_are_one_after_the_other() -> None:
    x = pictures()
    steps = x
    for name, value in (("brightness", 1.2), ("contrast", 0.8), ("saturation", 1.4), ("hue", 0.3)):
        steps = change(**{name: value}).apply(steps)
    at_once = change(brightness=1.2, contrast=0.8, saturation=1.4, hue=0.3).apply(x)
    assert int((at_once.int() - steps.int()).abs().max()) <= 3  # each step rounds


def test_values_end_at_black_and_white() -> None:
    x = torch.tensor([0, 10, 128, 255], dtype=torch.uint8).view(1, 1, 1, 4)
    assert change(1, brightness=2.0).apply(x).flatten().tolist() == [0, 20, 255, 255]
    assert change(1, brightness=0.0).apply(x).flatten().tolist() == [0, 0, 0, 0]


def test_each_image_has_its_own_change_and_others_keep_their_bytes() -> None:
    x = pictures()
    mixed = ColorChange(*(torch.tensor([value, rest]).double() for value, rest in ((0.5, 1), (1, 1), (1, 1), (0, 0))))
    got = mixed.apply(x)
    assert torch.equal(got[1], x[1])
    assert torch.equal(got[:1], change(1, brightness=0.5).apply(x[:1]))


def test_colors_do_not_depend_on_the_strides_of_the_batch() -> None:
    x = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    strided = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    changed = change(40, contrast=1.37, saturation=0.71, hue=0.2)
    assert torch.equal(changed.apply(x), changed.apply(strided))
