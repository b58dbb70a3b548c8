"""Where the pixels of an augmented batch come from: images and masks are moved by the same `Warp`.

Mirrors and shifts by whole pixels copy every value and compute none; crops and affine maps interpolate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from striate.data.augment.crop import Mirror, crop_batch
from striate.data.augment.resample import Movement, resample
from striate.data.augment.window import Window
from striate.data.config import Fill
from striate.data.transfer import sent

_NEAR = 8  # pixels


def shift_batch(
    x_BCHW: torch.Tensor,
    mirror: Mirror,
    shift: torch.Tensor,
    fill: Fill,
    value: float | None = None,
) -> torch.Tensor:
    """A new batch of the same shape and dtype, contiguous: each image mirrored, then shifted.

    `mirror`: (B,) bool, upside down, and (B,) bool, left to right. `shift`: (B, 2) int64 pixels down and right.
    `value` takes the place of `fill` for what moves in from outside.
    """
    value = 0.0 if value is None and fill == "zero" else value
    if x_BCHW.device.type != "cpu":
        return _gathered(x_BCHW, mirror, shift, fill, value)
    # NumPy copies in one thread. For batches that fit into the cache this is faster than to wake others, and several
    # times faster where other programs are on the cores.
    flipped = [m.numpy() for m in mirror]
    # Shifted first, the other way, and mirrored then: so only half of the images are touched twice.
    turned = np.where(np.stack(flipped, axis=1), -1, 1) * shift.numpy()
    out = _windows(np.ascontiguousarray(x_BCHW.numpy()), turned, fill, value)
    for which, axis in zip(flipped, (-2, -1), strict=True):
        rows = which.nonzero()[0]
        if len(rows):
            out[rows] = np.ascontiguousarray(np.flip(out[rows], axis))
    return torch.from_numpy(out)


def inside(places: Any, length: int, fill: Fill) -> Any:
    """Which pixel (0 to length − 1) is shown where pixel number `places` (any integers, array or tensor) is asked
    for: `reflect` goes back and forth without repeating the outermost pixels, all else takes the nearest."""
    if fill != "reflect":
        return places.clip(0, length - 1)
    around = places % max(2 * (length - 1), 1)
    return length - 1 - abs(length - 1 - around)


def _windows(x: np.ndarray, shift: np.ndarray, fill: Fill, value: float | None) -> np.ndarray:
    """Each image as seen through a window of its size that is moved over the padded image."""
    reaches = np.abs(shift).max(1)
    reach, far = int(reaches.max(initial=0)), reaches > _NEAR
    if reach == 0:
        return x.copy()
    if far.any() and not far.all():  # a few that move far: the others need no wide margin
        out = np.empty_like(x)
        for rows in (far, ~far):
            out[rows] = _windows(x[rows], shift[rows], fill, value)
        return out
    padded = _padded(x, reach, fill, value)
    batch, channels, height, width = x.shape
    size = padded.itemsize
    plane, row = padded.shape[2] * padded.shape[3], padded.shape[3]
    # All windows of all images, one for each position that a first pixel may have; one index copies the wanted ones.
    places = padded.size - (channels - 1) * plane - (height - 1) * row - width + 1
    strides = (size, plane * size, row * size, size)
    views: np.ndarray = np.ndarray((places, channels, height, width), x.dtype, padded, strides=strides)
    first = (reach - shift[:, 0]) * row + reach - shift[:, 1]
    chosen: np.ndarray = views[np.arange(batch) * channels * plane + first]
    return chosen


def _padded(x: np.ndarray, reach: int, fill: Fill, value: float | None) -> np.ndarray:
    """The batch with `reach` pixels more on every side, contiguous."""
    for axis in (3, 2):
        length = x.shape[axis]
        if value is None:
            near = inside(np.concatenate([np.arange(-reach, 0), np.arange(reach) + length]), length, fill).tolist()
            lines = [x[(slice(None),) * axis + (slice(place, place + 1),)] for place in near]
            before, after = lines[:reach], lines[reach:]
        else:
            blank = np.full((*x.shape[:axis], reach, *x.shape[axis + 1 :]), value, x.dtype)
            before, after = [blank], [blank]
        x = np.concatenate([*before, x, *after], axis)
    return x


def _gathered(
    x_BCHW: torch.Tensor, mirror: Mirror, shift: torch.Tensor, fill: Fill, value: float | None
) -> torch.Tensor:
    """The same on any device: for each pixel of each image, the pixel that it shows. Only what is drawn of an image is
    sent there: to list its rows and columns takes the program a third of a step of ResNet-50 on an H200."""
    device = x_BCHW.device
    mirrored, moved = sent(torch.stack(mirror), device), sent(shift, device)
    rows, columns = (_sources(x_BCHW.shape[2 + k], mirrored[k], moved[:, k], fill) for k in range(2))
    images = torch.arange(len(x_BCHW), device=device)[:, None, None]
    out = x_BCHW[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if value is not None:
        seen = _seen(x_BCHW.shape[2], moved[:, 0])[:, :, None] & _seen(x_BCHW.shape[3], moved[:, 1])[:, None, :]
        out = torch.where(seen[:, None], out, torch.full((), value, dtype=out.dtype, device=device))
    return out.contiguous()


def _sources(length: int, mirrored: torch.Tensor, shift: torch.Tensor, fill: Fill) -> torch.Tensor:
    """(B, length) int64: which row, or column, of the image is shown in each."""
    near: torch.Tensor = inside(torch.arange(length, device=shift.device) - shift[:, None], length, fill)
    return torch.where(mirrored[:, None], length - 1 - near, near)


def _seen(length: int, shift: torch.Tensor) -> torch.Tensor:
    """(B, length) bool: where the shifted image is."""
    places = torch.arange(length, device=shift.device) - shift[:, None]
    return (places >= 0) & (places < length)


_Way = Literal["copied", "cropped", "resampled"]


@dataclass(frozen=True)
class Warp:
    """How each image of a batch is moved: a `window` of it is cut out first; that is cropped, then mirrored, then bent
    about its center, then shifted.

    `flip`, `vertical_flip`: (B,) bool, mirrored left to right, upside down. `shift`: (B, 2) int64 pixels down and
    right. `box`: (B, 4) float32 top, left, height, width of the kept part as shares of the image (0 to 1), resized
    back; what is beside it is not seen again. `linear`: (B, 2, 2) float64, takes (right, down) in pixels from the
    center to where it is moved. None leaves all as they are. `fill`: what moves in from outside. `turns`: (B,) int64,
    how many quarter turns counterclockwise are in `linear` before all else.
    An image whose `box` and `linear` change nothing is copied and not interpolated: bytes stay bytes.
    """

    flip: torch.Tensor
    shift: torch.Tensor
    box: torch.Tensor | None = None
    vertical_flip: torch.Tensor | None = None
    linear: torch.Tensor | None = None
    fill: Fill = "edge"
    window: Window | None = None
    turns: torch.Tensor | None = None

    def apply(self, x_BCHW: torch.Tensor, *, nearest: bool = False, fill: float | None = None) -> torch.Tensor:
        """The moved batch, of the same dtype, and of the same shape unless there is a window; `nearest` keeps class
        numbers what they are.

        `fill` is the value of what moves in from outside, in place of the record's. Bilinear; bytes are rounded to
        nearest.
        """
        if self.window is not None:
            x_BCHW = self.window.cut(x_BCHW, nearest=nearest)
        # Elsewhere than on a CPU bytes are interpolated as floats, crops like all else: that takes the fewest numbers.
        ways = self._ways(crops=x_BCHW.device.type == "cpu" and not nearest)
        for rows, way in ways:
            if bool(rows.all()):
                return self._moved(way, x_BCHW, nearest, fill)
        out = torch.empty_like(x_BCHW)
        for rows, way in ways:
            chosen = rows.nonzero().squeeze(1)
            if len(chosen):
                there = sent(chosen, out.device)
                moved = self._of(chosen)._moved(way, x_BCHW.index_select(0, there), nearest, fill)
                out.index_copy_(0, there, moved)
        return out

    def move(self, places: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Places (B, …, 2) of images of `size` (height, width) where the warp moves them: right and down, −1 to 1 over
        the image, so that a mirrored place is exactly its negative."""
        device, lone = places.device, (len(places), *(1,) * (places.ndim - 2))

        def of_each(values: torch.Tensor) -> torch.Tensor:
            return sent(values.float(), device).view(*lone, 2)

        out = places
        if self.box is not None:
            top, left, tall, wide = self.box.double().unbind(1)
            extent = torch.stack([wide, tall], dim=1)
            out = (out - of_each(torch.stack([2 * left + wide - 1, 2 * top + tall - 1], dim=1))) / of_each(extent)
        signs = torch.stack(self._mirror()[::-1], dim=1)
        out = torch.where(sent(signs, device).view(*lone, 2), -out, out)
        half = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
        if self.linear is not None:
            linear = sent((self.linear * (half / half[:, None])).float(), device)
            bent = torch.einsum("bij,b...j->b...i", linear, out)
            straight = (self.linear == torch.eye(2).double()).flatten(1).all(1)
            out = torch.where(sent(straight, device).view(*lone, 1), out, bent)
        return out + of_each(self.shift.flip(1).double() / half)

    @property
    def mirrored(self) -> torch.Tensor:
        """(B,) bool: whether an image is its mirror image, left for right, in whatever way it is turned."""
        upside_down, flipped = self._mirror()
        return upside_down ^ flipped

    def _ways(self, *, crops: bool) -> list[tuple[torch.Tensor, _Way]]:
        """How images are moved, and (B,) bool which: each in the cheapest way that can, whatever others need; `crops`
        says whether crops have a way of their own."""
        every, none = torch.ones_like(self.flip), torch.zeros_like(self.flip)
        if self.box is None and self.linear is None:
            return [(every, "copied")]
        bent = none if self.linear is None else (self.linear != torch.eye(2).double()).flatten(1).any(1)
        if self.box is None:
            return [(~bent, "copied"), (bent, "resampled")]
        straight = ~bent & self.shift.eq(0).all(1) if crops else none
        return [(straight, "cropped"), (~straight, "resampled")]

    def _moved(self, way: _Way, x: torch.Tensor, nearest: bool, fill: float | None) -> torch.Tensor:
        if way == "copied":
            return shift_batch(x, self._mirror(), self.shift, self.fill, fill)
        if way == "cropped":
            assert self.box is not None
            return crop_batch(x, _in_pixels(self.box, x.shape), self._mirror())
        movement = Movement(self._mirror(), self.shift, self.box, self.linear, self.fill)
        return resample(x, movement, nearest=nearest, value=fill)

    def _mirror(self) -> Mirror:
        """Upside down and left to right, as the axes are."""
        return torch.zeros_like(self.flip) if self.vertical_flip is None else self.vertical_flip, self.flip

    def _of(self, rows: torch.Tensor) -> Warp:
        def of(field: torch.Tensor | None) -> torch.Tensor | None:
            return None if field is None else field[rows]

        flip, shift = self.flip[rows], self.shift[rows]
        return Warp(flip, shift, of(self.box), of(self.vertical_flip), of(self.linear), self.fill, turns=of(self.turns))


def _in_pixels(box: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(B, 4) float64; shares of whole pixels, which float32 cannot hold exactly, are whole again."""
    pixels = box.double() * torch.tensor([*shape[2:], *shape[2:]], dtype=torch.float64)
    whole = pixels.round()
    return torch.where((pixels - whole).abs() < 1e-2, whole, pixels)
