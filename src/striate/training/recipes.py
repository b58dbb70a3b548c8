"""What a good practitioner would run: fills in every field that the user left open, and says why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset
from striate.errors import ConfigError
from striate.training.config import Config

_MIRROR_SAFE = {"fashion-mnist", "cifar10", "cifar100"}
_MIRROR_UNSAFE = {"mnist", "mnist5k", "digits", "svhn"}
_SAMPLES_SEEN = 200_000  # by `standard`, over all epochs, as far as the limits on epochs allow
_SMALL = 40  # pixels: up to here an image is shifted, above it is cropped


@dataclass(frozen=True)
class Decision:
    """The decided configuration and, in a sentence each, what was chosen and why."""

    config: Config
    notes: tuple[str, ...]


def decide(config: Config, data: Dataset) -> Decision:
    """Fill in `augment`, `optim`, `batch` and `budget` where they are open. Fields that are set stay as they are.

    Raises ConfigError on an augmentation that the data cannot take.
    """
    augment, reason = _augment(config.augment, data)
    n = len(data.splits["train"])
    notes = [reason] if reason else []
    if config.batch is None:
        config = replace(config, batch=_batch(n))
    optim = config.optim
    name = optim.name or "adamw"
    # AdamW's rate hardly depends on the network; tables of a hundred rows bear, and need, a larger one.
    lr = optim.lr or (0.1 if name == "sgd" else 0.01 if data.kind == "table" else 0.003)
    decay = optim.weight_decay if optim.weight_decay is not None else (5e-4 if name == "sgd" else 0.02)
    budget = config.budget
    if budget.epochs is None and budget.minutes is None and budget.steps is None:
        budget = replace(budget, epochs=_epochs(n, config.recipe))
        notes.append(f"{budget.epochs} epochs of {n:,} samples ({config.recipe} recipe), batch {config.batch}")
    config = replace(config, augment=augment, optim=replace(optim, name=name, lr=lr, weight_decay=decay), budget=budget)
    return Decision(config, tuple(notes))


def _batch(samples: int) -> int:
    """A power of two that leaves about fifty steps an epoch, between 16 and 128."""
    batch = 16
    while batch < 128 and samples / (2 * batch) >= 50:
        batch *= 2
    return batch


def _epochs(samples: int, recipe: str) -> int:
    standard = min(150, max(12, round(_SAMPLES_SEEN / samples)))
    return max(3, standard // 4) if recipe == "quick" else standard


def _augment(augment: AugmentConfig, data: Dataset) -> tuple[AugmentConfig, str]:
    if data.kind != "image":
        asked = [n for n in ("shift", "flip") if getattr(augment, n)] + (["crop"] if (augment.crop or 1) < 1 else [])
        if asked:
            raise ConfigError(
                f"augment.{asked[0]}",
                f"asked for {data.name}, a {data.kind}",
                "images: shift, flip and crop move pixels",
                f"leave out --augment.{asked[0]}",
            )
        return AugmentConfig(shift=0, flip=False, crop=1.0), ""
    channels, height, width = data.input_shape
    small = min(height, width) <= _SMALL
    if augment.shift is not None and augment.shift >= min(height, width):
        raise ConfigError(
            "augment.shift",
            f"{augment.shift} pixels for images of {height}×{width}",
            "less than the side of the image",
            f"--augment.shift {max(1, min(height, width) // 8)}",
        )
    # Moved, mirrored or cropped, an image keeps its class; whether it keeps its number, nobody knows.
    keeps = data.annotation != "number"
    shift = max(1, min(height, width) // 12) if small and keeps else 0
    mirrors = data.name in _MIRROR_SAFE or (channels == 3 and data.name not in _MIRROR_UNSAFE)
    crop = 0.35 if keeps and not small else 1.0
    decided = AugmentConfig(
        shift=shift if augment.shift is None else augment.shift,
        flip=(mirrors and keeps) if augment.flip is None else augment.flip,
        crop=crop if augment.crop is None else augment.crop,
    )
    return decided, _augment_reason(decided, augment, data)


def _augment_reason(decided: AugmentConfig, asked: AugmentConfig, data: Dataset) -> str:
    parts = []
    if decided.shift:
        parts.append(f"shifts up to {decided.shift} px")
    if (decided.crop or 1) < 1:
        parts.append(f"crops down to {decided.crop:.0%} of the area")
    if decided.flip:
        parts.append("mirroring")
    text = "augmentation: " + (", ".join(parts) if parts else "none")
    if not decided.flip and asked.flip is None:
        why = "gray images may be letters or digits" if data.input_shape[0] == 1 else "these are digits"
        if data.annotation == "number":
            why = "a moved image may have another number"
        text += f"; no mirroring ({why}; --augment.flip true adds it)"
    return text
