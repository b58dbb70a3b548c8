"""A batch as the network gets it: augmented, standardized, in its memory format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from striate.data.augment.augment import augment_batch
from striate.data.augment.pixels import with_noise
from striate.data.loader import Batch, batch_bounds
from striate.data.memory_layout import channels_last
from striate.data.normalize import Normalize
from striate.errors import ConfigError
from striate.models.own_code import own_code
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.progressive_resizing import at_size_of_step


def part_bounds(samples: int, most: int | None) -> list[tuple[int, int]]:
    """Start and stop of each part of a batch that goes through the network at once; a lone last sample joins the part
    before it. One part where `most` is None."""
    return [(0, samples)] if most is None else batch_bounds(samples, most)


def prepared_inputs(
    batch: Batch, task: Task, config: Config, normalize: Normalize, epoch: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A training batch augmented, as large as it is at this step, standardized, with noise, in its memory format; and
    its targets, moved as the images were."""
    inputs, warp = augment_batch(batch.inputs, config.augment, config.seed, epoch, batch.ids)
    if config.augment.transform is not None:
        inputs = _transformed(inputs, config.augment.transform, dict(config.code))
    targets = batch.targets if warp is None else task.warp_targets(batch.targets, warp)
    inputs, targets = at_size_of_step(inputs, targets, task, config, step)
    inputs = with_noise(normalize(inputs), config.augment, config.seed, epoch, batch.ids)
    return to_memory_format(inputs, config), targets


def _transformed(inputs: torch.Tensor, name: str, code: Mapping[str, str]) -> torch.Tensor:
    """The batch as the user's own transform gives it. Raises ConfigError for another shape or type."""
    transform: Any = own_code(name, "a transform", "transform", code.get(name))
    given = transform(inputs)
    if isinstance(given, torch.Tensor) and given.shape == inputs.shape and given.dtype == inputs.dtype:
        return given
    got = f"{tuple(given.shape)} {given.dtype}" if isinstance(given, torch.Tensor) else f"a {type(given).__name__}"
    expected = f"{tuple(inputs.shape)} {inputs.dtype}, as the batch that it gets"
    raise ConfigError(
        "augment.transform", f"{got} from {name}", expected, "return images.clamp(0, 255).to(images.dtype)"
    )


def to_memory_format(inputs: torch.Tensor, config: Config) -> torch.Tensor:
    """The batch laid out as the plan says: channels last exists for images and volumes."""
    return channels_last(inputs) if config.execution.memory_format == "channels_last" else inputs
