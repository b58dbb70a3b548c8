"""Checks of `data.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.augmentation import AUGMENTATION
from striate.doctor.checks.data.axes_dealt import AXES_DEALT
from striate.doctor.checks.data.class_balance import IMBALANCE, MISSING_CLASS
from striate.doctor.checks.data.copied_first import COPIED_FIRST
from striate.doctor.checks.data.fitted_anew import FITTED_ANEW
from striate.doctor.checks.data.folds import OPTIMIZER_OF_ANOTHER_FOLD, SHARED_NETWORK
from striate.doctor.checks.data.graphs_together import GRAPHS_TOGETHER
from striate.doctor.checks.data.groups_shared import GROUPS_SHARED
from striate.doctor.checks.data.held_out_labels import HELD_OUT_LABELS
from striate.doctor.checks.data.input_values import CONSTANT_IMAGES, NOT_FINITE
from striate.doctor.checks.data.label_noise import LABEL_NOISE
from striate.doctor.checks.data.label_numbers import LABEL_MAP, LABEL_RANGE
from striate.doctor.checks.data.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED
from striate.doctor.checks.data.preferred_both_ways import PREFERRED_BOTH_WAYS
from striate.doctor.checks.data.random_validation import RANDOM_VALIDATION
from striate.doctor.checks.data.repeated_samples import DUPLICATES, LEAK
from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.data.scrambled import MIXED_UP, SCRAMBLED
from striate.doctor.checks.data.shift import SHIFT
from striate.doctor.checks.data.shifted_tables import SHIFTED_TABLES
from striate.doctor.checks.data.shifted_tags import SHIFTED_TAGS
from striate.doctor.checks.data.shifted_twice import SHIFTED_TWICE
from striate.doctor.checks.data.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.data.step_labels import STEP_LABELS
from striate.doctor.checks.data.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.data.target_scale import TARGET_SCALE
from striate.doctor.checks.data.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.too_few import TOO_FEW
from striate.doctor.checks.data.windows_shared import WINDOWS_SHARED

CHECKS: tuple[Check, ...] = (
    NOT_FINITE,
    LABEL_RANGE,
    CONSTANT_IMAGES,
    MISSING_CLASS,
    IMBALANCE,
    TOO_FEW,
    COPIED_FIRST,  # before the next: what is measured takes the place of what code says
    LEAK,
    SPLIT_OVERLAP,
    HELD_OUT_LABELS,
    GROUPS_SHARED,
    WINDOWS_SHARED,
    SHARED_NETWORK,
    OPTIMIZER_OF_ANOTHER_FOLD,
    DUPLICATES,
    NOT_SHUFFLED,
    SAME_ORDER,
    SCRAMBLED,
    AXES_DEALT,
    GRAPHS_TOGETHER,
    MIXED_UP,
    NOT_NORMALIZED,
    TARGET_SCALE,
    TARGET_IN_INPUT,
    LABEL_MAP,
    FITTED_ANEW,
    SHIFT,
    SHIFTED_TABLES,
    RANDOM_VALIDATION,
    LEFT_BEHIND,
    STEP_LABELS,
    SHIFTED_TWICE,
    SHIFTED_TAGS,
    AUGMENTATION,
    LABEL_NOISE,
    LABELS_RANDOM,
    PREFERRED_BOTH_WAYS,
)
