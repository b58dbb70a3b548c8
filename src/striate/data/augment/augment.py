"""Augmentation of a batch of images: one record, a pure function of (seed, epoch, sample id).

`draw_augmentation` draws the random numbers of a batch and turns them into an `Augmentation`: TrivialAugment's tones, a
`Warp` (geometry), a `ColorChange`, and the changes of `STEPS`. `apply` applies them in this order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from striate.data.augment import sound
from striate.data.augment.clip import mirror_motion
from striate.data.augment.pixels import BLUR, CUTOUT, Change, ColorChange
from striate.data.augment.trivial import Trivial, draw_trivial
from striate.data.augment.volume import COLUMNS, VolumeWarp, describe_volume_augmentation, draw_volume
from striate.data.augment.warp import Warp
from striate.data.augment.window import draw_window, without_margins
from striate.data.config import AugmentConfig
from striate.data.counter_random import hash_key, uniforms
from striate.data.dataset import Dataset
from striate.errors import ConfigError
from striate.wording import percent

_ASPECT = math.log(4 / 3)  # crops are between 3:4 and 4:3, as in Szegedy et al. 2014
# Each name has a column of random numbers of its own, so that no option changes what another one draws.
_MOVES = ("flip", "down", "right", "area", "aspect", "top", "left", "vertical_flip", "rotate", "scale", "shear")
_COLORS = ("brightness", "contrast", "saturation", "hue", "cut_down", "cut_right", "blur")
_TRIVIAL = ("operation", "strength", "sign")
_TURN = "turn"
STEPS = (BLUR, CUTOUT, *sound.STEPS)
"""Further changes of pixel values, in the order in which they are applied. Their random numbers come from the columns
after all others, so a new step belongs at the end."""
_PIXELS = tuple(dict.fromkeys((*_COLORS, *_TRIVIAL, *(column for step in STEPS for column in step.columns))))
_FIRST_MIRROR = 5  # the purpose of a hash, as the last part of its key
_CHEAP_COLUMNS = _MOVES.index("rotate")  # columns that the moves without interpolation, and crops, need


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of a batch, applied in the order of the fields; None is skipped."""

    trivial: Trivial | None = None
    """TrivialAugment; only its tones are applied here, since `warp` has its movements and `color` its colors."""
    warp: Warp | VolumeWarp | None = None
    """Geometric augmentation."""
    color: ColorChange | None = None
    changes: tuple[Change, ...] = ()
    """Those of `STEPS` that are on."""
    motion: bool = False
    """Whether the last two channels are motion vectors, whose direction a mirrored image reverses."""

    def apply(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The augmented batch: uint8 of the same shape. Every step rounds to bytes."""
        if x_BCHW.ndim == 5 and not isinstance(self.warp, VolumeWarp):
            return self._apply_to_clips(x_BCHW, self.warp)
        out = x_BCHW if self.trivial is None else self.trivial.apply_tones(x_BCHW)
        out = out if self.warp is None else self.warp.apply(out)
        out = out if self.color is None else self.color.apply(out)
        for change in self.changes:
            out = change(out)
        return out

    def _apply_to_clips(self, x: torch.Tensor, warp: Warp | None) -> torch.Tensor:
        """(B, C, T, H, W): all frames of a clip change alike. The warp takes frames as channels of one image, colors as
        one tall image."""
        shape = x.shape
        out = x if warp is None else warp.apply(x.flatten(1, 2)).view(shape)
        if warp is not None and self.motion:
            out = mirror_motion(out, warp.mirrored)
        if self.color is not None:
            out = self.color.apply(out.flatten(2, 3)).view(shape)
        for change in self.changes:
            out = change(out)
        return out


def augment_batch(
    inputs: torch.Tensor,
    config: AugmentConfig,
    seed: int,
    epoch: int,
    ids: torch.Tensor,
    *,
    motion: bool = False,
    masks: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Warp | VolumeWarp | None]:
    """Raw inputs (images (B, C, H, W) uint8, sounds, clips (B, C, T, H, W) uint8, or volumes (B, C, D, H, W) float32)
    as augmented in this epoch, and the warp that masks have to follow, if any. `motion`: the last two channels are
    motion to the right and down. `masks`: those of volumes, (B, D, H, W) uint8 class numbers, if patches are to contain
    rare classes (`augment.foreground`).

    Inputs without augmentation, such as tables and grids, are returned unchanged.
    """
    shape = tuple(inputs.shape[1:])
    if inputs.ndim == 5 and inputs.is_floating_point():
        columns = torch.from_numpy(uniforms(hash_key(seed, epoch, 1), ids.numpy(), len(COLUMNS))).unbind(1)
        drawn = draw_volume(config, dict(zip(COLUMNS, columns, strict=True)), shape, masks)
        augmentation: Augmentation | None = Augmentation(warp=drawn[0], changes=drawn[1])
    else:
        image = shape if len(shape) < 4 else (shape[0], *shape[2:])
        within = without_margins(inputs) if config.window else None
        augmentation = draw_augmentation(config, seed, epoch, ids, image, within, motion=motion)
    return (inputs, None) if augmentation is None else (augmentation.apply(inputs), augmentation.warp)


def draw_augmentation(
    config: AugmentConfig,
    seed: int,
    epoch: int,
    ids: torch.Tensor,
    shape: tuple[int, ...],
    within: torch.Tensor | None = None,
    *,
    motion: bool = False,
) -> Augmentation | None:
    """The augmentation of the (B,) samples `ids` of `shape` (C, H, W) in this epoch; None where no option is on.
    `within`: (B, 4) the part of each image in which windows are drawn (`draw_window`).

    The augmentation of a sample does not depend on its batch. Noise is added later, to standardized inputs
    (`with_noise`), and mixup after that.
    """
    trivial = config.policy == "trivial"
    steps = [(step, value) for step in STEPS if (value := getattr(config, step.field))]
    pixels = trivial or config.color or steps
    bends = trivial or _bends(config)
    moves = bends or config.shift or config.flip or config.vertical_flip or config.window or _crops(config)
    if not (moves or pixels):
        return None
    names = (*_MOVES, *_PIXELS) if pixels else _MOVES if bends else _MOVES[:_CHEAP_COLUMNS]
    names = (*_MOVES, *_PIXELS, _TURN) if config.quarter_turns else names
    known = ids.numpy()
    columns = uniforms(hash_key(seed, epoch, 1), known, len(names))
    u = dict(zip(names, torch.from_numpy(columns).unbind(1), strict=True))
    chosen = None
    if trivial:
        chosen = draw_trivial(torch.stack([u["operation"], u["strength"], u["sign"]], dim=1), shape[0] == 3)
    warp = None
    if moves:
        flip = _mirrored(config.flip, u["flip"], seed, epoch, known)
        warp = _draw_warp(config, u, chosen, shape, flip, within)
    return Augmentation(
        warp=warp,
        trivial=chosen,
        color=_draw_color(config, u, chosen) if config.color or trivial else None,
        changes=tuple(step.draw(value, u) for step, value in steps),
        motion=motion,
    )


def _bends(config: AugmentConfig) -> bool:
    return any((config.rotate, config.scale, config.shear, config.quarter_turns))


def _crops(config: AugmentConfig) -> bool:
    return config.crop is not None and config.crop < 1


def _mirrored(flip: bool | str | None, u: torch.Tensor, seed: int, epoch: int, ids: np.ndarray) -> torch.Tensor:
    """(B,) bool: which images are mirrored left to right.

    `alternate` is that of Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024 (arXiv 2404.00498): of two
    consecutive epochs, one shows an image mirrored and the other does not.
    """
    if flip == "alternate":
        first = uniforms(hash_key(seed, _FIRST_MIRROR), ids, 1)[:, 0] < 0.5
        return torch.from_numpy(first ^ bool(epoch % 2))
    return u < 0.5 if flip else torch.zeros(len(u), dtype=torch.bool)


def _draw_warp(
    config: AugmentConfig,
    u: dict[str, torch.Tensor],
    trivial: Trivial | None,
    shape: tuple[int, ...],
    flip: torch.Tensor,
    within: torch.Tensor | None,
) -> Warp:
    window = draw_window(config.window, config.zoom or 1, u, shape, within) if config.window else None
    shape = shape if window is None else (shape[0], *window.size)
    if config.shift:
        shift = torch.floor(torch.stack([u["down"], u["right"]], dim=1) * (2 * config.shift + 1)).long() - config.shift
    else:
        shift = torch.zeros(len(flip), 2, dtype=torch.int64)
    turns = None
    if config.quarter_turns:
        turns = torch.floor(4 * u[_TURN]).long() if shape[1] == shape[2] else 2 * torch.floor(2 * u[_TURN]).long()
    return Warp(
        flip,
        shift if trivial is None else shift + trivial.shift(shape[1], shape[2]),
        _boxes(config.crop or 1, u, shape) if _crops(config) else None,
        (u["vertical_flip"] < 0.5) if config.vertical_flip else None,
        _bend(config, u, trivial, turns) if trivial or _bends(config) else None,
        config.fill or "edge",
        window,
        turns,
    )


def _boxes(smallest: float, u: dict[str, torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """(B, 4) top, left, height, width as shares: area uniform in [smallest, 1], aspect ratio log-uniform, then rounded
    to whole pixels of images of `shape` (C, H, W)."""
    area = smallest + (1 - smallest) * u["area"]
    stretch = torch.exp((2 * u["aspect"] - 1) * _ASPECT / 2)
    sides = torch.tensor(shape[1:], dtype=torch.float64)
    extent = torch.stack([area.sqrt() * stretch, area.sqrt() / stretch], dim=1)
    extent = (extent * sides).round().clamp(min=torch.ones(2).double(), max=sides)
    first = torch.floor(torch.stack([u["top"], u["left"]], dim=1) * (sides - extent + 1))
    return (torch.cat([first, extent], dim=1) / sides.repeat(2)).float()


def _bend(
    config: AugmentConfig, u: dict[str, torch.Tensor], trivial: Trivial | None, turns: torch.Tensor | None
) -> torch.Tensor:
    """(B, 2, 2) float64 on (right, down): quarter turns, shear along y, shear along x, scaling and rotation, in this
    order; turns and rotation are counterclockwise."""
    angle = _symmetric(u["rotate"], math.radians(config.rotate or 0))
    slant = torch.tan(_symmetric(u["shear"], math.radians(config.shear or 0)))
    slant_y = torch.zeros_like(slant)
    if trivial is not None:
        angle, slant, slant_y = angle + trivial.angle(), slant + trivial.shear("x"), trivial.shear("y")
    cos, sin, one = torch.cos(angle), torch.sin(angle), torch.ones_like(angle)
    # The second axis points down, so a counterclockwise rotation has its minus sign below.
    turn = torch.stack([cos, sin, -sin, cos], dim=1).view(-1, 2, 2)
    along_x = torch.stack([one, slant, 0 * one, one], dim=1).view(-1, 2, 2)
    along_y = torch.stack([one, 0 * one, slant_y, one], dim=1).view(-1, 2, 2)
    scale = 1 + _symmetric(u["scale"], config.scale or 0)
    bend: torch.Tensor = turn @ along_x @ along_y * scale[:, None, None]
    return bend if turns is None else bend @ _QUARTERS[turns]


_QUARTERS = torch.stack([torch.linalg.matrix_power(torch.tensor([[0.0, 1], [-1, 0]]).double(), k) for k in range(4)])


def _draw_color(config: AugmentConfig, u: dict[str, torch.Tensor], trivial: Trivial | None) -> ColorChange:
    """Factors uniform in [1 − color, 1 + color]; hue within ± color · 90°, which is the usual 0.1 turns at 0.4."""
    strength = config.color or 0

    def factor(name: str) -> torch.Tensor:
        own = 1 + _symmetric(u[name], strength)
        return own if trivial is None else own * trivial.factor(name)

    hue = _symmetric(u["hue"], strength * math.pi / 2)
    return ColorChange(factor("brightness"), factor("contrast"), factor("saturation"), hue)


def _symmetric(u: torch.Tensor, reach: float) -> torch.Tensor:
    """Uniform in [−reach, reach)."""
    return (2 * u - 1) * reach


_OFF = {"crop": 1, "zoom": 1, "policy": "none", "fill": "edge"}  # 0 or false turns other fields off


def check_augmentation(config: AugmentConfig, data: Dataset) -> None:
    """Raise ConfigError for the first field that is set and that does not apply to the data. None sets no field.

    Tables and grids take `noise` and `mixup`. Shift and blur stay below the shorter side of the image. Spectrograms and
    waveforms have fields of their own.
    """
    requested = [name for name, value in vars(config).items() if value not in (None, False, 0, _OFF.get(name))]
    data.medium.check_augmentation(config, requested, data.name, data.input_shape)


def check_fill(decided: AugmentConfig) -> None:
    """Raise ConfigError if `fill` is set, all fields are decided, and no augmentation moves images."""
    moves = (decided.shift, decided.rotate, decided.scale, decided.shear, decided.policy == "trivial")
    if decided.fill not in (None, "edge") and not any(moves):
        raise ConfigError(
            "augment.fill",
            f"{decided.fill}, but no augmentation that moves images",
            "shift, rotate, scale, shear or a policy with it",
            f"--augment.shift 2 --augment.fill {decided.fill}, or leave it out",
        )


_FILLS = {"edge": "", "reflect": "mirror images beyond the edge", "zero": "black beyond the edge"}


def describe_augmentation(config: AugmentConfig, shape: tuple[int, ...], *, frames: bool = False) -> tuple[str, ...]:
    """A few words for each option that is on, in the order in which they are applied, for inputs of `shape`; `frames`:
    whether these are clips."""
    if len(shape) == 4 and not frames:
        return describe_volume_augmentation(config)
    channels = shape[0]
    colors = "brightness, contrast, saturation and hue" if channels == 3 else "brightness and contrast"
    words = {
        "policy": "one operation of TrivialAugment per image" if config.policy == "trivial" else "",
        "crop": f"crops down to {percent(config.crop or 1, 0)} of the area" if (config.crop or 1) < 1 else "",
        "window": f"windows of {config.window or 0} pixels",
        "zoom": f"images up to {config.zoom or 1:g} times smaller or larger" if (config.zoom or 1) > 1 else "",
        "flip": "mirroring in every other epoch" if config.flip == "alternate" else "mirroring",
        "vertical_flip": "mirroring upside down",
        "quarter_turns": "quarter turns" if shape[-1] == shape[-2] else "half turns",
        "shear": f"slants up to {config.shear or 0:g}°",
        "scale": f"sizes ± {percent(config.scale or 0, 0)}",
        "rotate": f"rotations up to {config.rotate or 0:g}°",
        "shift": f"shifts up to {config.shift or 0} px",
        "fill": _FILLS[config.fill or "edge"],
        "color": f"{colors} ± {percent(config.color or 0, 0)}",
        **{step.field: step.words(getattr(config, step.field) or 0) for step in STEPS},
        "noise": f"noise up to {config.noise or 0:g} standard deviations",
        "mixup": "pairs blended (mixup)",
        "cutmix": "boxes pasted from other images (cutmix)",
    }
    return tuple(text for name, text in words.items() if text and getattr(config, name))
