"""A batch as the network gets it: augmented, standardized, in its memory format, and blended by mixup or cutmix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from striate.data.augment.augment import augment_batch
from striate.data.augment.pixels import with_noise
from striate.data.config import AugmentConfig
from striate.data.counter_random import hash_key
from striate.data.loader import Batch, batch_bounds
from striate.data.memory_layout import channels_last
from striate.data.normalize import Normalize
from striate.data.targets import Targets
from striate.data.transfer import sent
from striate.errors import ConfigError
from striate.models.trusted_code import call_own, trusted_code
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.progressive_resizing import at_size_of_step


def part_bounds(samples: int, most: int | None) -> list[tuple[int, int]]:
    """Start and stop of each part of a batch that goes through the network at once; a last part of one sample joins the
    part before. One part where `most` is None."""
    return [(0, samples)] if most is None else batch_bounds(samples, most)


def prepared_inputs(
    batch: Batch, task: Task, config: Config, normalize: Normalize, epoch: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A training batch, augmented, resized for this step, standardized, with noise, in its memory format; and its
    targets, warped with the images."""
    inputs, warp = augment_batch(
        batch.inputs,
        config.augment,
        config.seed,
        epoch,
        batch.ids,
        motion=config.data.has_motion,
        masks=batch.targets if config.augment.foreground else None,
    )
    if config.augment.transform is not None:
        inputs = transformed(inputs, config.augment.transform, dict(config.code))
    targets = batch.targets if warp is None else task.warp_targets(batch.targets, warp)
    inputs, targets = at_size_of_step(inputs, targets, task, config, step)
    if task.learns_inputs:
        targets = inputs
    inputs = with_noise(normalize(inputs), config.augment, config.seed, epoch, batch.ids)
    return to_memory_format(inputs, config), targets


def transformed(inputs: torch.Tensor, name: str, code: Mapping[str, str]) -> torch.Tensor:
    """The batch after the user's transform. Raises ConfigError for another shape or type, and where the transform
    raises."""
    transform: Any = trusted_code(name, "a transform", "transform", code.get(name))
    given = call_own("augment.transform", name, transform, inputs)
    if isinstance(given, torch.Tensor) and given.shape == inputs.shape and given.dtype == inputs.dtype:
        return given
    got = f"{tuple(given.shape)} {given.dtype}" if isinstance(given, torch.Tensor) else f"a {type(given).__name__}"
    expected = f"{tuple(inputs.shape)} {inputs.dtype}, like the batch that it gets"
    raise ConfigError("augment.transform", f"{got} from {name}", expected, _transform_for(inputs, given))


def _transform_for(inputs: torch.Tensor, given: object) -> str:
    """An ending of the transform that returns the right shape and type, as far as its wrong result shows how."""
    if not isinstance(given, torch.Tensor):
        return "return images"
    converted = f"{'.clamp(0, 255)' if inputs.dtype == torch.uint8 else ''}.to({inputs.dtype})"
    if given.shape == inputs.shape:
        return f"return images{converted}"
    if given.shape[:2] == inputs.shape[:2] and given.ndim == inputs.ndim > 2:
        size = list(inputs.shape[2:])
        return f"return torch.nn.functional.interpolate(images.float(), {size}){converted}"
    return "leave out --augment.transform, or return images of the same shape"


def to_memory_format(inputs: torch.Tensor, config: Config) -> torch.Tensor:
    """The batch in the memory format of the plan: channels last exists for images and volumes."""
    return channels_last(inputs) if config.execution.memory_format == "channels_last" else inputs


@dataclass(frozen=True)
class Mix:
    """What the samples of a batch were blended with."""

    targets: Targets
    """(B, …) targets of the partners."""
    share: float
    """Share of the sample itself, 0 to 1."""

    def part(self, start: int, stop: int) -> Mix:
        """The same for the samples `start` to `stop`."""
        return Mix(self.targets[start:stop], self.share)


def mix_batch(
    inputs: torch.Tensor, targets: Targets, config: AugmentConfig, seed: int, step: int, *, paste: bool = False
) -> tuple[torch.Tensor, Targets, Mix | None]:
    """Inputs (B, C, …) blended with a permutation of themselves, as a function of (seed, step), with one share per
    batch; their targets; and the partners' targets for the loss (None where the loss needs none).

    `mixup`: share · x + (1 − share) · x', with share ~ Beta(alpha, alpha) (Zhang et al. 2017). `cutmix`: a box of 1 −
    share of the area of x' is pasted into x; share is then that of the pixels (Yun et al. 2019). `paste`: targets lie
    on the grid of the image and are pasted with it, so that each pixel of a mask has one class. Where both are on, a
    coin decides at each step.
    """
    mixup, cutmix = config.mixup or 0.0, config.cutmix or 0.0
    if not (mixup or cutmix) or len(inputs) < 2:
        return inputs, targets, None
    random = np.random.default_rng(hash_key(seed, step, 5, 0))
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    alpha = cutmix if cut else mixup
    share = float(random.beta(alpha, alpha))
    partner = sent(torch.from_numpy(random.permutation(len(inputs))), inputs.device)
    if not cut:
        return share * inputs + (1 - share) * inputs[partner], targets, Mix(targets[partner], share)
    grid = inputs.shape[2:]
    box = _box(grid, share, random)
    mixed = _pasted(inputs, partner, (slice(None), slice(None), *box))
    if paste:
        return mixed, _pasted(targets, partner, (slice(None), *box)), None
    area = math.prod(s.stop - s.start for s in box) / math.prod(grid)
    return mixed, targets, Mix(targets[partner], 1 - area)


def _pasted(values: torch.Tensor, partner: torch.Tensor, window: tuple[slice, ...]) -> torch.Tensor:
    result = values.clone(memory_format=torch.preserve_format)
    result[window] = values[partner][window]
    return result


def _box(sizes: torch.Size, share: float, random: np.random.Generator) -> tuple[slice, ...]:
    """A box with the proportions of the grid and 1 − share of its volume, around a random point, clipped at the
    edges."""
    side = (1 - share) ** (1 / len(sizes))
    slices = []
    for size in sizes:
        center, half = random.uniform(0, size), side * size / 2
        slices.append(slice(max(0, round(center - half)), min(size, round(center + half))))
    return tuple(slices)
