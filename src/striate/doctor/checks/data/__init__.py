"""Checks of `data.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.data import (
    constant_images,
    duplicates,
    imbalance,
    label_map,
    label_noise,
    label_range,
    labels_random,
    leak,
    missing_class,
    mixed_up,
    not_finite,
    not_normalized,
    not_shuffled,
    scrambled,
    shift,
    too_few,
)

CHECKS: tuple[Check, ...] = (
    not_finite.CHECK,
    label_range.CHECK,
    constant_images.CHECK,
    missing_class.CHECK,
    imbalance.CHECK,
    too_few.CHECK,
    leak.CHECK,
    duplicates.CHECK,
    not_shuffled.CHECK,
    scrambled.CHECK,
    mixed_up.CHECK,
    not_normalized.CHECK,
    label_map.CHECK,
    shift.CHECK,
    label_noise.CHECK,
    labels_random.CHECK,
)
