"""TrivialAugment's operations agree with Pillow's, and each is drawn equally often."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from striate.data.augment.trivial import OPERATIONS, Trivial, draw_trivial


def picture(channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = 30 + 170 * torch.rand(1, channels, 17, 19, generator=generator) ** 2
    return values.to(torch.uint8)


def one(name: str, strength: float, sign: float = 1.0) -> Trivial:
    return Trivial(
        torch.tensor([OPERATIONS.index(name)]), torch.tensor([strength]).double(), torch.tensor([sign]).double()
    )


def pillow(x: torch.Tensor) -> Image.Image:
    return Image.fromarray(x[0, 0].numpy() if x.shape[1] == 1 else x[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "strength", "reference"),
    [
        ("posterize", 0.5, lambda image: ImageOps.posterize(image, 5)),
        ("posterize", 0.99, lambda image: ImageOps.posterize(image, 2)),
        ("solarize", 0.5, lambda image: ImageOps.solarize(image, 128)),
        ("autocontrast", 0.3, ImageOps.autocontrast),
        ("equalize", 0.3, ImageOps.equalize),
        ("sharpness", 0.8, lambda image: ImageEnhance.Sharpness(image).enhance(1 + 0.99 * 0.8)),
    ],
)
def test_a_tone_is_pillows(name: str, strength: float, reference: Callable, channels: int) -> None:
    x = picture(channels)
    got = np.asarray(pillow(one(name, strength).apply_tones(x))).astype(int)
    expected = np.asarray(reference(pillow(x))).astype(int)
    assert np.abs(got - expected).max() <= (1 if name in ("autocontrast", "sharpness") else 0)
    assert not np.array_equal(got, np.asarray(pillow(x)))


def test_a_negative_sign_smooths() -> None:
    got = np.asarray(pillow(one("sharpness", 0.8, -1).apply_tones(picture()))).astype(int)
    expected = np.asarray(ImageEnhance.Sharpness(pillow(picture())).enhance(1 - 0.99 * 0.8)).astype(int)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "sharpness", "posterize", "solarize"])
def test_tones_of_a_plain_image_and_of_one_pixel_are_bytes(name: str) -> None:
    for shape in ((1, 3, 4, 4), (1, 1, 1, 1), (1, 1, 2, 9)):
        x = torch.full(shape, 96, dtype=torch.uint8)
        got = one(name, 0.9).apply_tones(x)
        assert (got.shape, got.dtype) == (x.shape, torch.uint8)
        if name in ("autocontrast", "equalize", "sharpness"):
            assert torch.equal(got, x)


def test_the_others_are_movements_and_factors() -> None:
    x = picture()
    for name in set(OPERATIONS) - {"posterize", "solarize", "autocontrast", "equalize", "sharpness"}:
        assert one(name, 0.7).apply_tones(x) is x
    assert one("rotate", 1.0).angle().item() == pytest.approx(np.deg2rad(135))
    assert one("shear-x", 0.5, -1).shear("x").item() == pytest.approx(-0.495)
    assert one("shear-x", 0.5).shear("y").item() == 0
    assert one("brightness", 0.5).factor("brightness").item() == pytest.approx(1.495)
    assert one("brightness", 0.5).factor("contrast").item() == 1
    assert one("translate-x", 0.5).shift(20, 100).tolist() == [[0, 16]]
    assert one("translate-y", 1.0, -1).shift(20, 100).tolist() == [[-10, 0]]  # at most half the side


@pytest.mark.parametrize("color", [False, True])
def test_each_operation_is_drawn_equally_often(color: bool) -> None:
    u = torch.rand(14_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = draw_trivial(u, color)
    counts = torch.bincount(drawn.operation, minlength=14)
    kept = counts if color else counts[:-1]
    assert 850 < int(kept.min()) <= int(kept.max()) < 1220
    assert color or int(counts[OPERATIONS.index("saturation")]) == 0
    assert set(drawn.sign.tolist()) == {-1.0, 1.0}
