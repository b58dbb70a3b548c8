"""The default augmentation of training images: changes that leave an image in its class."""

from __future__ import annotations

from dataclasses import replace

import torch

from striate.data.augment.augment import check_augmentation, check_fill, describe_augmentation
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset, Split
from striate.training.recipes.facts import Adapt
from striate.wording import several

_MIRROR_SAFE = {"fashion-mnist", "cifar10", "cifar100"}
_MIRROR_UNSAFE = {"mnist", "mnist5k", "digits", "svhn"}
_SMALL = 40  # pixels: smaller images are shifted, larger ones cropped
WINDOW, ZOOM, COLOR = 256, 1.5, 0.2
"""For masks of images with at least 1.5 times the pixels of a window."""
TILT = 15
"""Degrees of rotation for images whose top and bottom look alike; they are also mirrored both ways. Rotated by any
angle, a quarter of a window would be repeated edge pixels: after 250 steps on aerial pictures the F1 of roads was
62.0 % then, and 72.5 % with this."""
_FEW_PASSES, _BY_HEART = 4, 30
"""Passes over small images up to which these are not augmented; and passes after which a network with one parameter per
sample begins to memorize them, half as many with two parameters per sample.

Accuracy without and with augmentation. Fashion-MNIST: `mnist-cnn` (0.7 parameters a sample) reaches 83 and 79 % in 1
pass, 88.5 and 85.7 % in 4, 90.4 and 88.8 % in 10, 91.1 and 89.8 % in 20, 91.5 and 90.5 % in 30; ResNet-18 of width 8
(3.2) 92.7 and 91.7 % in 8, in 14 92.2 % without it. Of 3,500 digits (10): 80.0 and 78.7 % in 1, 95.3 and 94.8 % in 4,
96.9 and 97.2 % in 10, 97.7 and 98.1 % in 30."""
_FEWEST, _COMPARED, _CERTAIN = 20, 200, 4.0
"""Images that are compared, at least and at most, and the standard errors from which on a difference counts."""
_OFF = AugmentConfig(
    shift=0, flip=False, vertical_flip=False, crop=1.0, rotate=0, scale=0, shear=0, color=0, noise=0, blur=0, cutout=0,
    policy="none", mixup=0, cutmix=0, fill="edge", window=0, zoom=1.0, time_shift=0, gain=0, speed=0, time_mask=0,
    frequency_mask=0, depth_flip=False, foreground=0, quarter_turns=False,
)  # fmt: skip


def decide_augmentation(
    augment: AugmentConfig,
    data: Dataset,
    *,
    dense: bool = False,
    local_rule: bool = False,
    fast: bool = False,
    survives_moves: bool = True,
    windows: bool = False,
    adapt: Adapt | None = None,
    epochs: int | None = None,
    parameters: int = 0,
) -> tuple[AugmentConfig, str]:
    """The augmentation with every open field filled in, and the reason in a sentence ("" where none applies).

    `dense`: the network has no convolutions, so that each shift is another image to it: half as far.
    `local_rule`: the network has a local learning rule, which is made for unchanged samples.
    `fast`: a training of few epochs: images are mirrored in turns rather than at random, so that two epochs show each
    image both ways; crops have at least a third of the area.
    `survives_moves`: whether a shifted, mirrored or cropped image keeps its target; unknown for numbers.
    `windows`: whether the target of a crop can be cut from that of the image.
    `adapt`: `Task.augmentation` of the task.
    `epochs`: passes over the samples, if known. Small images are not augmented where these are few, or where the
    network's `parameters` (0: unknown) are too few to memorize the samples in them.
    Raises ConfigError for what data and task cannot take.
    """
    check_augmentation(augment, data)
    if not data.medium.pictures:
        fitting = {} if local_rule or not survives_moves else data.medium.varied(data.input_shape, windows=windows)
        decided = _filled(augment, replace(_OFF, **fitting))  # type: ignore[arg-type]
        named = (
            ", ".join(describe_augmentation(decided, data.input_shape, frames=data.medium.folders)) if fitting else ""
        )
        return decided, f"augmentation: {named}" if named else ""
    if local_rule:
        decided = _filled(augment, _OFF)
        check_fill(decided)
        named = ", ".join(describe_augmentation(decided, data.input_shape, frames=data.medium.folders))
        return (
            decided,
            f"augmentation: {named}" if named else "augmentation: none, as in the publications of these learning rules",
        )
    channels, height, width = data.input_shape
    small = min(height, width) <= _SMALL
    mirrors = data.name in _MIRROR_SAFE or (channels > 1 and data.name not in _MIRROR_UNSAFE)
    usual = replace(
        _OFF,
        shift=max(1, min(height, width) // (24 if dense else 12)) if small and survives_moves else 0,
        flip=("alternate" if fast else True) if mirrors and survives_moves else False,
        crop=(1 / 3 if fast else 0.2) if survives_moves and not small else 1.0,
    )
    large = height * width >= 1.5 * WINDOW**2 and augment.crop is None
    if windows and (augment.window or (augment.window is None and large)):
        usual = replace(usual, window=WINDOW, zoom=ZOOM, crop=1.0, color=COLOR)
    if windows and survives_moves and mirrors and not has_upright(data.splits["train"]):
        usual = replace(usual, vertical_flip=True, rotate=TILT)
    usual, reason = (usual, "") if adapt is None else adapt(usual, augment)
    if small and not reason and not fast and epochs is not None:
        samples = len(data.splits["train"])
        if epochs <= _FEW_PASSES:
            reason = f"the images cannot be memorized in {several(epochs, 'epoch')}"
        elif 0 < epochs * parameters <= _BY_HEART * samples:
            reason = (
                f"{several(parameters, 'parameter')} cannot memorize {several(samples, 'sample')} in "
                f"{several(epochs, 'epoch')}"
            )
        if reason:
            usual = _OFF
            requested = describe_augmentation(_filled(augment, _OFF), data.input_shape, frames=data.medium.folders)
            advice = f"{reason}; --augment.shift 2 or --augment.flip true turns it on"
            reason = f"no other, since {reason}" if requested else advice
    if fast and (usual.shift if augment.shift is None else augment.shift):
        usual = replace(usual, fill="reflect")
    decided = _filled(augment, usual)
    check_fill(decided)
    return decided, _reason(decided, augment, data, reason, survives_moves=survives_moves)


def has_upright(train: Split) -> bool:
    """Whether images (N, C, H, W) with masks differ between top and bottom, in a color or in the share of a class.
    Aerial and microscopic images do not. True where there are too few images to tell."""
    count = min(len(train), _COMPARED)
    if count < _FEWEST:
        return True
    rows = torch.arange(count) * len(train) // count
    images, masks = train.inputs[rows], train.targets[rows].cpu()
    if masks.dtype != torch.uint8:  # numbers of single objects
        masks = masks > 0
    half = images.shape[2] // 2

    def differs(values: torch.Tensor) -> torch.Tensor:
        each = values[:, :, :half].float().mean((2, 3)) - values[:, :, -half:].float().mean((2, 3))
        clearly: torch.Tensor = each.mean(0).abs() > _CERTAIN * each.std(0) / count**0.5
        return clearly

    if bool(differs(images.cpu()).any()):
        return True
    return any(bool(differs((masks == number)[:, None]).any()) for number in masks.unique().tolist())


def _filled(request: AugmentConfig, usual: AugmentConfig) -> AugmentConfig:
    return AugmentConfig(
        **{name: value if (given := getattr(request, name)) is None else given for name, value in vars(usual).items()}
    )


def _reason(decided: AugmentConfig, request: AugmentConfig, data: Dataset, reason: str, *, survives_moves: bool) -> str:
    text = "augmentation: " + (
        ", ".join(describe_augmentation(decided, data.input_shape, frames=data.medium.folders)) or "none"
    )
    if reason:
        return f"{text}; {reason}"
    if not decided.flip and request.flip is None:
        why = "a flip may turn a letter or digit into another" if data.input_shape[0] == 1 else "these are digits"
        if not survives_moves:
            why = "a shifted or flipped image may have another target"
        text += f"; no horizontal flip ({why}; --augment.flip true turns it on)"
    return text
