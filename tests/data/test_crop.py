"""Crops agree with a bilinear resize written out, and with Pillow's, by either way of computing them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from striate.data.augment import crop as crop_module
from striate.data.augment.crop import crop_batch


def resized(line: np.ndarray, side: int) -> np.ndarray:
    """The last axis of a box, interpolated to `side` pixels."""
    length = line.shape[-1]
    places = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, length - 1)
    share = places - before
    return line[..., before] * (1 - share) + line[..., after] * share


def reference(image: np.ndarray, box: list[int], mirrored: tuple[bool, bool]) -> np.ndarray:
    top, left, tall, wide = box
    part = image[:, top : top + tall, left : left + wide].astype(np.float64)
    part = part[:, ::-1] if mirrored[0] else part
    part = part[:, :, ::-1] if mirrored[1] else part
    return resized(resized(part, image.shape[2]).swapaxes(1, 2), image.shape[1]).swapaxes(1, 2)


def drawn(shape: tuple[int, int, int, int], seed: int):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    sides = torch.tensor(shape[2:])
    extent = 1 + (torch.rand(shape[0], 2, generator=generator) * sides).long()
    first = (torch.rand(shape[0], 2, generator=generator) * (sides - extent + 1)).long()
    mirror = torch.randint(0, 2, (2, shape[0]), generator=generator).bool().unbind(0)
    return x, torch.cat([first, extent], dim=1).double(), mirror


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 2**32),
)
def test_crops_are_those_written_out(shape: tuple[int, int, int, int], seed: int) -> None:
    x, box, mirror = drawn(shape, seed)
    got = crop_batch(x, box, mirror)
    assert (got.shape, got.dtype) == (x.shape, torch.uint8)
    for k, image in enumerate(got.numpy()):
        expected = reference(x[k].numpy(), box[k].int().tolist(), (bool(mirror[0][k]), bool(mirror[1][k])))
        # torch's code for bytes keeps its weights in 16 bits and rounds after each axis.
        assert np.abs(image - expected).max() <= 1.51


def test_each_way_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, box, mirror = drawn((7, 3, 38, 36), 5)
    matrices = crop_batch(x, box, mirror)
    monkeypatch.setattr(crop_module, "_SMALL", 0)
    bytewise = crop_batch(x, box, mirror)
    assert int((matrices.int() - bytewise.int()).abs().max()) <= 1
    floats = crop_batch(x.float(), box, mirror)  # as on an accelerator
    assert float((floats - matrices).abs().max()) <= 0.501


@pytest.mark.parametrize("side", [30, 64])
def test_the_whole_image_stays(side: int) -> None:
    x = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)
    box = torch.tensor([[0.0, 0.0, side, side]]).double().repeat(3, 1)
    still = torch.zeros(3, dtype=torch.bool)
    assert torch.equal(crop_batch(x, box, (still, still)), x)
    assert torch.equal(crop_batch(x, box, (still, ~still)), x.flip(-1))
    assert torch.equal(crop_batch(x, box, (~still, still)), x.flip(-2))


@pytest.mark.parametrize("side", [36, 90])
def test_crops_are_pillows(side: int) -> None:
    x, box, _ = drawn((4, 3, side, side), 1)
    still = (torch.zeros(4, dtype=torch.bool),) * 2
    for image, (top, left, tall, wide), got in zip(x, box.int().tolist(), crop_batch(x, box, still), strict=True):
        part = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((left, top, left + wide, top + tall))
        expected = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(got.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_what_is_beside_the_box_is_not_seen() -> None:
    x = torch.full((1, 1, 50, 50), 9, dtype=torch.uint8)
    x[:, :, 10:20, 20:45] = 200
    still = (torch.zeros(1, dtype=torch.bool),) * 2
    assert crop_batch(x, torch.tensor([[10.0, 20, 10, 25]]).double(), still).eq(200).all()
    assert crop_batch(x[:, :, :40, 10:48], torch.tensor([[10.0, 10, 10, 25]]).double(), still).eq(200).all()
