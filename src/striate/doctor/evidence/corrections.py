"""Corrections of validation inputs that may have been prepared differently from training inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from striate.doctor.evidence.features import is_grid
from striate.wording import percent

Change = Callable[[torch.Tensor], torch.Tensor]
_NOTHING = 0.03
"""Standard deviations: a smaller difference of scale or offset may be chance, and is not corrected."""


@dataclass(frozen=True)
class Correction:
    """A correction of one difference in preparation."""

    what: str
    """The difference, in words."""
    undo: Change
    """Prepares validation inputs (N, …) as the training inputs are prepared."""


def corrections(train: torch.Tensor, val: torch.Tensor) -> Iterator[Correction]:
    """The corrections that fit the shapes and statistics of inputs (N, …); none for token indices."""
    if not val.is_floating_point() and val.dtype != torch.uint8:
        return
    grid = is_grid(val) and val.ndim == train.ndim
    if grid and train.shape[1:] != val.shape[1:]:
        yield from _sizes(train, val)
        return
    if train.shape[1:] != val.shape[1:]:
        return
    yield from _scales(train, val, grid)
    if not grid:
        return
    channels = _channels(val)
    if channels is not None and val.shape[channels] in (2, 3, 4):
        yield Correction("channels in reverse order (BGR for RGB)", lambda x: x.flip(channels))
    if channels is not None and val.shape[channels] == 3:
        yield from _codings(train, val, channels)
    axes = [axis for axis in range(1, val.ndim) if axis != channels]
    if len(axes) == 2:
        low, high = float(train.min()), float(train.max())
        exchanged = _affine(torch.tensor(-1.0), torch.tensor(low + high), train.dtype)
        yield Correction("light and dark exchanged", exchanged)
        yield from _turns(val, axes)
        yield from _zooms(axes)


def _channels(x: torch.Tensor) -> int | None:
    if x.ndim < 3 or (x.ndim == 3 and x.shape[1] > 16):
        return None
    return x.ndim - 1 if x.ndim >= 4 and x.shape[-1] <= 4 < x.shape[1] else 1


def _statistics(x: torch.Tensor, axes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    return x.double().mean(axes, keepdim=True), x.double().std(axes, keepdim=True, correction=0)


def _scales(train: torch.Tensor, val: torch.Tensor, grid: bool) -> Iterator[Correction]:
    dtype = train.dtype
    everywhere = tuple(range(val.ndim))
    channels = _channels(val) if grid else None
    by_part = tuple(axis for axis in everywhere if axis != channels) if grid else (0,)
    sets = [("scale or offset", everywhere)] if grid else []
    if not grid or (channels is not None and val.shape[channels] > 1):
        sets.append(("scale or offset of each " + ("channel" if grid else "column"), by_part))
    for what, axes in sets:
        (mean, deviation), (other, others) = _statistics(train, axes), _statistics(val, axes)
        factor = torch.where(others > 1e-12, deviation / others.clamp_min(1e-12), torch.ones(()).double())
        offset = (mean - other).abs() / deviation.clamp_min(1e-12)
        if float(torch.maximum((factor - 1).abs(), offset).max()) < _NOTHING:
            continue
        yield Correction(what, _affine(factor, mean - factor * other, dtype))


_LUMA = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]).double()
"""Matrix from RGB to YCbCr (ITU-R BT.601)."""


def _codings(train: torch.Tensor, val: torch.Tensor, channels: int) -> Iterator[Correction]:
    """Conversions between RGB and YCbCr. Each channel then gets the mean and deviation of training, since both may have
    been normalized."""
    axes = tuple(axis for axis in range(val.ndim) if axis != channels)
    for what, matrix in (("RGB for YCbCr", _LUMA), ("YCbCr for RGB", torch.linalg.inv(_LUMA))):
        (mean, deviation), (other, others) = _statistics(train, axes), _statistics(_coded(val, matrix, channels), axes)
        factor = deviation / others.clamp_min(1e-12)
        undo = partial(_recoded, matrix, channels, _affine(factor, mean - factor * other, train.dtype))
        yield Correction(f"colors in another coding ({what})", undo)


def _recoded(matrix: torch.Tensor, channels: int, affine: Change, x: torch.Tensor) -> torch.Tensor:
    return affine(_coded(x, matrix, channels))


def _coded(x: torch.Tensor, matrix: torch.Tensor, channels: int) -> torch.Tensor:
    return (x.double().movedim(channels, -1) @ matrix.T.to(x.device)).movedim(-1, channels)


def _affine(factor: torch.Tensor, offset: torch.Tensor, dtype: torch.dtype) -> Change:
    return lambda x: (x.double() * factor.to(x.device) + offset.to(x.device)).to(dtype)


def _turns(x: torch.Tensor, axes: list[int]) -> Iterator[Correction]:
    yield Correction("left and right exchanged", lambda x: x.flip(axes[1]))
    yield Correction("top and bottom exchanged", lambda x: x.flip(axes[0]))
    yield Correction("turned by half", lambda x: x.flip(axes))
    if x.shape[axes[0]] == x.shape[axes[1]]:
        yield Correction("rows and columns exchanged", lambda x: x.transpose(*axes))
        yield Correction("turned by a quarter", lambda x: x.rot90(1, axes))
        yield Correction("turned by a quarter", lambda x: x.rot90(-1, axes))


def _zooms(axes: list[int]) -> Iterator[Correction]:
    if axes != [2, 3]:
        return
    for share in (0.5, 0.7, 0.85):
        yield Correction(f"shown at {percent(share, 0)} of the size, with a border", partial(_closer, share=share))
        yield Correction(f"cropped to {percent(share, 0)} and enlarged", partial(_farther, share=share))


def _closer(x: torch.Tensor, share: float) -> torch.Tensor:
    height, width = x.shape[2:]
    h, w = max(1, round(height * share)), max(1, round(width * share))
    top, left = (height - h) // 2, (width - w) // 2
    return _resized(x[:, :, top : top + h, left : left + w], (height, width))


def _farther(x: torch.Tensor, share: float) -> torch.Tensor:
    height, width = x.shape[2:]
    h, w = max(1, round(height * share)), max(1, round(width * share))
    top, left = (height - h) // 2, (width - w) // 2
    small = _resized(x, (h, w))
    return functional.pad(small, (left, width - w - left, top, height - h - top), mode="replicate")


def _resized(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    shrinks = x.ndim == 4 and size[0] < x.shape[2]
    found = functional.interpolate(x.float(), size=size, mode=mode, align_corners=False, antialias=shrinks)
    return found.to(x.dtype)


def _sizes(train: torch.Tensor, val: torch.Tensor) -> Iterator[Correction]:
    if train.shape[1] == val.shape[1]:
        size = tuple(train.shape[2:])
        yield Correction("another size", lambda x: _resized(x, size))
        yield Correction("another size, cut or with a border", lambda x: _fitted(x, size))
    if sorted(train.shape[1:]) == sorted(val.shape[1:]) and val.ndim == 4:
        order = (0, 2, 3, 1) if train.shape[-1] == val.shape[1] else (0, 3, 1, 2)
        yield Correction("axes in another order", lambda x: x.permute(order))
    elif train.shape[1] > val.shape[1] == 1 and train.shape[2:] == val.shape[2:]:
        yield Correction("gray instead of color", lambda x: x.expand(-1, train.shape[1], *x.shape[2:]))


def _fitted(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """(N, C, …) cropped at the center, or padded with its smallest number, to `size`."""
    for axis, side in enumerate(size, 2):
        more = side - x.shape[axis]
        if more <= 0:
            x = x.narrow(axis, -more // 2, side)
            continue
        parts = [x.new_full((*x.shape[:axis], n, *x.shape[axis + 1 :]), float(x.min())) for n in (more // 2,)]
        parts += [x, x.new_full((*x.shape[:axis], more - more // 2, *x.shape[axis + 1 :]), float(x.min()))]
        x = torch.cat(parts, axis)
    return x
