"""Checks of `model.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.attends_padding import PADDING_ATTENDED
from striate.doctor.checks.model.batch_mixing import BATCH_MIXING
from striate.doctor.checks.model.batch_norm_small_batch import BATCH_NORM_SMALL_BATCH
from striate.doctor.checks.model.collapsed import COLLAPSED
from striate.doctor.checks.model.dead_units import DEAD_UNITS
from striate.doctor.checks.model.double_softmax import DOUBLE_SOFTMAX
from striate.doctor.checks.model.dropout_too_high import DROPOUT_TOO_HIGH
from striate.doctor.checks.model.evaluated.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.model.evaluated.evaluates_untrained import READ as READ_OF_EVALUATION
from striate.doctor.checks.model.frozen_parameters import FROZEN_PARAMETERS
from striate.doctor.checks.model.graph_detached import GRAPH_DETACHED
from striate.doctor.checks.model.last_layer_clipped import LAST_LAYER_CLIPPED
from striate.doctor.checks.model.mode import MODE
from striate.doctor.checks.model.no_nonlinearity import NO_NONLINEARITY
from striate.doctor.checks.model.order_ignored import CHECK as ORDER_IGNORED
from striate.doctor.checks.model.receptive_field import RECEPTIVE_FIELD
from striate.doctor.checks.model.redundant_filters import REDUNDANT_FILTERS
from striate.doctor.checks.model.saturated import SATURATED
from striate.doctor.checks.model.sees_future import CHECK as SEES_FUTURE
from striate.doctor.checks.model.shared_weights import SHARED_WEIGHTS
from striate.doctor.checks.model.shrinks_too_fast import SHRINKS_TOO_FAST
from striate.doctor.checks.model.symmetric_init import SYMMETRIC_INIT
from striate.doctor.checks.model.too_small import TOO_SMALL
from striate.doctor.checks.model.unregistered_parameters import UNREGISTERED_PARAMETERS
from striate.doctor.checks.model.unused_parameters import UNUSED_PARAMETERS
from striate.doctor.checks.model.vanishing_gradient import GRADIENT_STRENGTH
from striate.doctor.checks.model.weights_not_loaded import CHECK as WEIGHTS_NOT_LOADED

CHECKS: tuple[Check, ...] = (
    DOUBLE_SOFTMAX,
    LAST_LAYER_CLIPPED,
    UNREGISTERED_PARAMETERS,
    GRAPH_DETACHED,
    UNUSED_PARAMETERS,
    SHARED_WEIGHTS,
    MODE,
    BATCH_NORM_SMALL_BATCH,
    BATCH_MIXING,
    NO_NONLINEARITY,
    DROPOUT_TOO_HIGH,
    FROZEN_PARAMETERS,
    EVALUATES_UNTRAINED,
    READ_OF_EVALUATION,
    WEIGHTS_NOT_LOADED,
    SEES_FUTURE,
    PADDING_ATTENDED,
    ORDER_IGNORED,
    TOO_SMALL,
    SHRINKS_TOO_FAST,
    RECEPTIVE_FIELD,
    SYMMETRIC_INIT,
    COLLAPSED,
    REDUNDANT_FILTERS,
    GRADIENT_STRENGTH,
    DEAD_UNITS,
    SATURATED,
)
