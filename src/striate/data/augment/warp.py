"""Geometric augmentation: images and their masks are moved by the same `Warp`.

Mirroring and shifts by whole pixels copy values; crops and affine maps interpolate.
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
    # NumPy copies in one thread. For batches that fit into the cache this is faster than to wake other threads, and
    # several times faster where other programs use the cores.
    flipped = [m.numpy() for m in mirror]
    # Shifted first, in the opposite direction, then mirrored: so only half of the images are copied twice.
    turned = np.where(np.stack(flipped, axis=1), -1, 1) * shift.numpy()
    out = _windows(np.ascontiguousarray(x_BCHW.numpy()), turned, fill, value)
    for which, axis in zip(flipped, (-2, -1), strict=True):
        rows = which.nonzero()[0]
        if len(rows):
            out[rows] = np.ascontiguousarray(np.flip(out[rows], axis))
    return torch.from_numpy(out)


def source_pixels(places: Any, length: int, fill: Fill) -> Any:
    """The pixels, 0 to length − 1, that are shown at `places`, any integers in an array or tensor: `reflect` goes back
    and forth without repeating the outermost pixels; other fills take the nearest pixel."""
    if fill != "reflect":
        return places.clip(0, length - 1)
    around = places % max(2 * (length - 1), 1)
    return length - 1 - abs(length - 1 - around)


def _windows(x: np.ndarray, shift: np.ndarray, fill: Fill, value: float | None) -> np.ndarray:
    """Each image shifted: a window of its size is cut out of the padded image."""
    reaches = np.abs(shift).max(1)
    reach, far = int(reaches.max(initial=0)), reaches > _NEAR
    if reach == 0:
        return x.copy()
    if far.any() and not far.all():  # where a few move far, the others need no wide margin
        out = np.empty_like(x)
        for rows in (far, ~far):
            out[rows] = _windows(x[rows], shift[rows], fill, value)
        return out
    padded = _padded(x, reach, fill, value)
    batch, channels, height, width = x.shape
    size = padded.itemsize
    plane, row = padded.shape[2] * padded.shape[3], padded.shape[3]
    # A view of all windows, one for each position of a first pixel. One indexing operation copies the chosen ones.
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
            near = source_pixels(
                np.concatenate([np.arange(-reach, 0), np.arange(reach) + length]), length, fill
            ).tolist()
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
    """`shift_batch` on any device: each pixel is gathered from the pixel that it shows.

    The rows and columns to gather are computed on the device: listing them on the CPU takes a third of a step of
    ResNet-50 on an H200."""
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
    """(B, length) int64: for each row (or column) of the result, the row of the image that it shows."""
    near: torch.Tensor = source_pixels(torch.arange(length, device=shift.device) - shift[:, None], length, fill)
    return torch.where(mirrored[:, None], length - 1 - near, near)


def _seen(length: int, shift: torch.Tensor) -> torch.Tensor:
    """(B, length) bool: whether the shifted image covers a row (or column)."""
    places = torch.arange(length, device=shift.device) - shift[:, None]
    return (places >= 0) & (places < length)


_Operation = Literal["copy", "crop", "resample"]


@dataclass(frozen=True)
class Warp:
    """The geometric augmentation of a batch of B images.

    In this order: the window is cut out, cropped, mirrored, transformed by `linear` about its center, and shifted. An
    image whose `box` and `linear` change nothing is copied, not interpolated. A field that is None changes no image.
    """

    flip: torch.Tensor
    """(B,) bool: mirrored left to right."""
    shift: torch.Tensor
    """(B, 2) int64 pixels down and right."""
    box: torch.Tensor | None = None
    """(B, 4) float32 top, left, height, width of the crop as shares of the image, 0 to 1. The crop is resized to the
    size of the image; pixels beside it are never shown."""
    vertical_flip: torch.Tensor | None = None
    """(B,) bool: mirrored upside down."""
    linear: torch.Tensor | None = None
    """(B, 2, 2) float64: maps (right, down) in pixels from the center to the new place."""
    fill: Fill = "edge"
    """What is shown where the moved image does not reach."""
    window: Window | None = None
    """The part of each image that is cut out first."""
    turns: torch.Tensor | None = None
    """(B,) int64: the number of counterclockwise quarter turns with which `linear` begins."""

    def apply(self, x_BCHW: torch.Tensor, *, nearest: bool = False, fill: float | None = None) -> torch.Tensor:
        """The moved batch, of the same dtype, and of the same shape unless there is a window.

        Interpolation is bilinear, and bytes are rounded to nearest; `nearest` takes the nearest pixel, as class numbers
        need. `fill`: the value outside the image, in place of the field `fill`.
        """
        if self.window is not None:
            x_BCHW = self.window.cut(x_BCHW, nearest=nearest)
        # On an accelerator crops are resampled too: it interpolates bytes as floats in any case.
        operations = self._operations(crops=x_BCHW.device.type == "cpu" and not nearest)
        for rows, operation in operations:
            if bool(rows.all()):
                return self._moved(operation, x_BCHW, nearest, fill)
        out = torch.empty_like(x_BCHW)
        for rows, operation in operations:
            chosen = rows.nonzero().squeeze(1)
            if len(chosen):
                there = sent(chosen, out.device)
                moved = self._of(chosen)._moved(operation, x_BCHW.index_select(0, there), nearest, fill)
                out.index_copy_(0, there, moved)
        return out

    def move(self, places: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The places (B, …, 2) in images of `size` (height, width) after the warp.

        Places are (right, down), −1 to 1 over the image, so that a mirrored place is exactly its negative."""
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
        """(B,) bool: whether the result is a mirror image, left for right, however it is rotated."""
        upside_down, flipped = self._mirror()
        return upside_down ^ flipped

    def _operations(self, *, crops: bool) -> list[tuple[torch.Tensor, _Operation]]:
        """Operations, and (B,) bool the images that each moves: for each image the cheapest one that can. `crops`:
        whether images that are only cropped have an operation of their own, instead of being resampled."""
        every, none = torch.ones_like(self.flip), torch.zeros_like(self.flip)
        if self.box is None and self.linear is None:
            return [(every, "copy")]
        bent = none if self.linear is None else (self.linear != torch.eye(2).double()).flatten(1).any(1)
        if self.box is None:
            return [(~bent, "copy"), (bent, "resample")]
        straight = ~bent & self.shift.eq(0).all(1) if crops else none
        return [(straight, "crop"), (~straight, "resample")]

    def _moved(self, operation: _Operation, x: torch.Tensor, nearest: bool, fill: float | None) -> torch.Tensor:
        if operation == "copy":
            return shift_batch(x, self._mirror(), self.shift, self.fill, fill)
        if operation == "crop":
            assert self.box is not None
            return crop_batch(x, _in_pixels(self.box, x.shape), self._mirror())
        movement = Movement(self._mirror(), self.shift, self.box, self.linear, self.fill)
        return resample(x, movement, nearest=nearest, value=fill)

    def _mirror(self) -> Mirror:
        """(B,) bool each: upside down, and left to right, in the order of the axes."""
        return torch.zeros_like(self.flip) if self.vertical_flip is None else self.vertical_flip, self.flip

    def _of(self, rows: torch.Tensor) -> Warp:
        def of(field: torch.Tensor | None) -> torch.Tensor | None:
            return None if field is None else field[rows]

        flip, shift = self.flip[rows], self.shift[rows]
        return Warp(flip, shift, of(self.box), of(self.vertical_flip), of(self.linear), self.fill, turns=of(self.turns))


def _in_pixels(box: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(B, 4) float64 in pixels, rounded where they are whole up to the precision of float32 shares."""
    pixels = box.double() * torch.tensor([*shape[2:], *shape[2:]], dtype=torch.float64)
    whole = pixels.round()
    return torch.where((pixels - whole).abs() < 1e-2, whole, pixels)
