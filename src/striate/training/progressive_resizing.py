"""Progressive resizing: training images are small at first, which is cheap, and grow in a few stages to full size.

Howard, "Training Imagenet in 3 hours for $25", fast.ai 2018; Tan and Le, "EfficientNetV2", 2021, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from striate.data.augment.crop import resize_batch
from striate.data.dataset import Dataset
from striate.errors import ConfigError
from striate.models.preserved_state import preserved, zero_input
from striate.tasks.task import Task
from striate.training.config import Config, ScheduleConfig

FULL_SIZE_FROM = 0.6
"""Default share of the steps with smaller images."""
_GRID = 4  # sides are multiples of it, in pixels, so that pooling and strides divide them
_MOST = 4  # smaller sizes at most: each needs its own choice of kernels

Size = tuple[int, int]


@dataclass(frozen=True)
class Stage:
    """Some optimizer steps with one size of training images."""

    first: int
    """The first step, from 0."""
    end: int
    """The step after the last one."""
    size: Size | None
    """(height, width) of the images. None: full size."""


def smaller_sizes(first_size: float, full: Size) -> tuple[Size, ...]:
    """The growing (height, width) of images before they reach the size `full` (pixels); empty where there is no smaller
    one.

    At most four, evenly spaced from `first_size` (a share) on; each side a multiple of 4, and at least 4 pixels.
    """
    count = min(_MOST, math.ceil((1 - first_size) * max(full) / _GRID))
    shares = [first_size + (1 - first_size) * k / count for k in range(count)]
    sizes = dict.fromkeys((_rounded(share, full[0]), _rounded(share, full[1])) for share in shares)
    return tuple(size for size in sizes if size != full)


def _rounded(share: float, side: int) -> int:
    return min(side, max(_GRID, _GRID * math.floor(share * side / _GRID + 0.5)))


def stages(schedule: ScheduleConfig, steps: int, full: Size | None) -> tuple[Stage, ...]:
    """The stages of a training of `steps` optimizer steps, without gaps; `full` is None for data that are not images.

    Smaller sizes have equal shares of the steps up to `full_size_from`. Stages without steps are left out.
    """
    sizes = smaller_sizes(schedule.first_size or 1.0, full) if full is not None else ()
    share = FULL_SIZE_FROM if schedule.full_size_from is None else schedule.full_size_from
    ends = [math.floor(share * steps * (k + 1) / len(sizes)) for k in range(len(sizes))]
    bounds = [0, *ends, steps]
    every = [Stage(a, b, size) for a, b, size in zip(bounds, bounds[1:], (*sizes, None), strict=False)]
    return tuple(stage for stage in every if stage.end > stage.first)


def image_size(schedule: ScheduleConfig, step: int, steps: int, full: Size | None) -> Size | None:
    """(height, width) of training images at the optimizer step `step` (0 to steps − 1) of `steps`; None for the full
    size. A function of the step alone, so that a resumed run has the same sizes."""
    if schedule.first_size in (None, 1.0):
        return None
    return next((s.size for s in stages(schedule, steps, full) if s.first <= step < s.end), None)


def at_size_of_step(
    inputs: torch.Tensor, targets: torch.Tensor, task: Task, config: Config, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented images (B, C, H, W) uint8 in the size of this step, and their targets; both unchanged at full size."""
    if config.schedule.first_size in (None, 1.0) or config.budget.steps is None:  # None: while the speed is measured
        return inputs, targets
    size = image_size(config.schedule, step, config.budget.steps, (inputs.shape[2], inputs.shape[3]))
    if size is None:
        return inputs, targets
    return resize_batch(inputs, size), task.resize_targets(targets, size)


def decide_window(
    config: Config, request: Config, data: Dataset, task: Task, network: nn.Module
) -> tuple[Config, list[str]]:
    """The configuration with `augment.window` decided. Where the network does not take the recipe's windows, it gets
    whole images, with a note. Raises ConfigError where a value of the `request` is impossible."""
    augment = config.augment
    side = augment.window or 0
    if not side:
        if (augment.zoom or 1) > 1:
            got = f"{augment.zoom:g} without windows"
            raise ConfigError("augment.zoom", got, "windows, which it scales", "--augment.window 256")
        if request.augment.foreground and "augment.foreground" not in request.decided:
            got = f"{request.augment.foreground:g} without patches"
            raise ConfigError("augment.foreground", got, "patches, of which it is a fraction", "--augment.window 64")
        return replace(config, augment=replace(augment, foreground=0.0)), []
    if not task.takes_windows:
        got = f"{side} for the task {task.name}, whose targets are of whole images"
        raise ConfigError("augment.window", got, "masks", "leave out --augment.window")
    if (augment.crop or 1) < 1:
        got = f"{augment.crop:g} with windows of {side} pixels, which are already crops"
        raise ConfigError("augment.crop", got, "either of them", "leave out --augment.crop, or --augment.window")
    full = data.input_shape[1:]
    size = tuple(min(side, length) for length in full)
    reason = _refusal(network, (data.input_shape[0], *size), full) if size != full else None
    if reason is None:
        return config, []
    if request.augment.window is not None and "augment.window" not in request.decided:
        got = f"the network does not take {_shown(size)} in place of {_shown(full)}: {reason}"
        raise ConfigError("augment.window", got, "a size that the network takes", "leave out --augment.window")
    note = f"the windows of the recipe are not used: the network does not take {_shown(size)}: {reason}"
    return replace(config, augment=replace(augment, window=0, zoom=1.0, foreground=0.0)), [note]


def decide_sizes(config: Config, request: Config, data: Dataset, network: nn.Module) -> tuple[Config, list[str]]:
    """The configuration with `schedule.first_size` decided. Where the recipe's sizes are impossible, images keep their
    full size, with a note. Raises ConfigError where a value of the `request` is impossible."""
    schedule = config.schedule
    if schedule.first_size in (None, 1.0):
        if _requested(request, "full_size_from"):
            raise ConfigError(
                "schedule.full_size_from",
                f"{schedule.full_size_from:g} without progressive resizing",
                "progressive resizing, by schedule.first_size",
                "--schedule.first_size 0.75, too, or leave out --schedule.full_size_from",
            )
        return replace(config, schedule=replace(schedule, first_size=1.0, full_size_from=None)), []
    problem = _problem(schedule.first_size, config.augment.window, data, network)
    if problem is None:
        share = FULL_SIZE_FROM if schedule.full_size_from is None else schedule.full_size_from
        return replace(config, schedule=replace(schedule, full_size_from=share)), []
    if _requested(request, "first_size"):
        raise ConfigError("schedule.first_size", *problem)
    note = f"the progressive resizing of the recipe is not used: {problem[0]}"
    return replace(config, schedule=replace(schedule, first_size=1.0, full_size_from=None)), [note]


def _requested(request: Config, field: str) -> bool:
    return getattr(request.schedule, field) is not None and f"schedule.{field}" not in request.decided


def _problem(
    first_size: float | None, window: int | None, data: Dataset, network: nn.Module
) -> tuple[str, str, str] | None:
    """Why images cannot begin at this share of their size: got, expected, remedy. None where they can."""
    if not data.medium.pictures:
        return f"{data.name} has {data.medium.a} per sample, not an image", "images", "leave out --schedule.first_size"
    full = (data.input_shape[1], data.input_shape[2])
    if window:
        full = (min(window, full[0]), min(window, full[1]))
    sizes = smaller_sizes(first_size or 1.0, full)
    if not sizes:
        return (
            f"{first_size:g} of {_shown(full)} pixels rounds to the full size (multiples of 4)",
            "a smaller share",
            "--schedule.first_size 0.5, or leave out this option",
        )
    reasons = [_refusal(network, (data.input_shape[0], *size), full) for size in sizes]
    refused = [k for k, reason in enumerate(reasons) if reason is not None]
    if not refused:
        return None
    worst, fitting = refused[-1], sizes[refused[-1] + 1 :]
    remedy = '--model small-resnet, or "… gap fc(10)" as a layer string; or leave out --schedule.first_size'
    return (
        f"the network does not take {_shown(sizes[worst])} in place of {_shown(full)}: {reasons[worst]}",
        "sizes that the network takes: any, with a global average pooling before its last layer",
        f"--schedule.first_size {max(fitting[0]) / max(full):.3g}" if fitting else remedy,
    )


def _refusal(network: nn.Module, shape: tuple[int, ...], full: tuple[int, ...]) -> str | None:
    """Why the network, made for `full`, does not take an input of this shape, in one line; None where it does."""
    with preserved(network), torch.no_grad():
        try:
            outputs = network(zero_input(network, shape))
        except Exception as error:  # whatever the user's network raises
            return _in_words(" ".join(str(error).split()) or type(error).__name__, full)
    if isinstance(outputs, torch.Tensor) and outputs.ndim == len(shape) + 1 > 3 and outputs.shape[2:] != shape[1:]:
        return f"its masks would be {_shown(tuple(outputs.shape[2:]))}"
    return None


def _in_words(reason: str, full: tuple[int, ...]) -> str:
    """torch's message about a shape, for readers who did not write the network."""
    if reason.startswith("mat1 and mat2 shapes cannot be multiplied"):
        return f"its fully connected layer is made for {_shown(full)}"
    if "Kernel size can't be greater than actual input size" in reason or "Output size is too small" in reason:
        return "a kernel would be larger than its map"
    return reason[:120]


def _shown(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
