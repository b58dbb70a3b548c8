"""Checks of `model.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.model import (
    batch_mixing,
    batch_norm_small_batch,
    collapsed,
    dead_units,
    double_softmax,
    dropout_too_high,
    frozen_parameters,
    gradient_strength,
    graph_detached,
    last_layer_clipped,
    mode,
    no_nonlinearity,
    receptive_field,
    redundant_filters,
    saturated,
    shared_weights,
    shrinks_too_fast,
    symmetric_init,
    too_small,
    unregistered_parameters,
    unused_parameters,
)

CHECKS: tuple[Check, ...] = (
    double_softmax.CHECK,
    last_layer_clipped.CHECK,
    unregistered_parameters.CHECK,
    graph_detached.CHECK,
    unused_parameters.CHECK,
    shared_weights.CHECK,
    mode.CHECK,
    batch_norm_small_batch.CHECK,
    batch_mixing.CHECK,
    no_nonlinearity.CHECK,
    dropout_too_high.CHECK,
    frozen_parameters.CHECK,
    too_small.CHECK,
    shrinks_too_fast.CHECK,
    receptive_field.CHECK,
    symmetric_init.CHECK,
    collapsed.CHECK,
    redundant_filters.CHECK,
    gradient_strength.CHECK,
    dead_units.CHECK,
    saturated.CHECK,
)
