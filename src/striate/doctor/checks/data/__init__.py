"""Checks of `data.`, in folders by what they examine."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.augmentation.shared_by_parts import SHARED_BY_PARTS
from striate.doctor.checks.data.inputs.batched_graphs import BATCHED_GRAPHS
from striate.doctor.checks.data.inputs.constant_images import CONSTANT_IMAGES
from striate.doctor.checks.data.inputs.fractions_lost import FRACTIONS_LOST
from striate.doctor.checks.data.inputs.not_finite import NOT_FINITE
from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.inputs.reshaped_axes import RESHAPED_AXES
from striate.doctor.checks.data.inputs.scrambled import MIXED_UP, SCRAMBLED
from striate.doctor.checks.data.labels.imbalance import IMBALANCE
from striate.doctor.checks.data.labels.label_map import LABEL_MAP
from striate.doctor.checks.data.labels.label_noise import LABEL_NOISE
from striate.doctor.checks.data.labels.label_range import LABEL_RANGE
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.labels.missing_class import MISSING_CLASS
from striate.doctor.checks.data.labels.preferred_both_ways import PREFERRED_BOTH_WAYS
from striate.doctor.checks.data.labels.shifted_tags import SHIFTED_TAGS
from striate.doctor.checks.data.labels.shifted_twice import SHIFTED_TWICE
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.labels.too_few import TOO_FEW
from striate.doctor.checks.data.labels.written_blends import WRITTEN_BLENDS
from striate.doctor.checks.data.moved.targets_left_behind import LEFT_BEHIND
from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED
from striate.doctor.checks.data.random_validation import RANDOM_VALIDATION
from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.data.shift.fitted_again import FITTED_AGAIN
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.shift.shifted_tables import SHIFTED_TABLES
from striate.doctor.checks.data.splits.copied_before_split import COPIED_BEFORE_SPLIT
from striate.doctor.checks.data.splits.duplicates import DUPLICATES
from striate.doctor.checks.data.splits.folds import OPTIMIZER_OF_ANOTHER_FOLD, SHARED_BY_SETTINGS, SHARED_NETWORK
from striate.doctor.checks.data.splits.groups_shared import GROUPS_SHARED
from striate.doctor.checks.data.splits.held_out_labels import HELD_OUT_LABELS
from striate.doctor.checks.data.splits.leak import LEAK
from striate.doctor.checks.data.splits.overlap.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.checks.data.targets.centered_windows import CENTERED_WINDOWS
from striate.doctor.checks.data.targets.divided_labels import DIVIDED_LABELS
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE

CHECKS: tuple[Check, ...] = (
    NOT_FINITE,
    LABEL_RANGE,
    CONSTANT_IMAGES,
    MISSING_CLASS,
    IMBALANCE,
    TOO_FEW,
    COPIED_BEFORE_SPLIT,  # before LEAK: a measured finding replaces one that code suggests
    LEAK,
    SPLIT_OVERLAP,
    HELD_OUT_LABELS,
    GROUPS_SHARED,
    WINDOWS_SHARED,
    SHARED_NETWORK,
    SHARED_BY_SETTINGS,
    OPTIMIZER_OF_ANOTHER_FOLD,
    DUPLICATES,
    NOT_SHUFFLED,
    SAME_ORDER,
    SCRAMBLED,
    RESHAPED_AXES,
    BATCHED_GRAPHS,
    MIXED_UP,
    NOT_NORMALIZED,
    FRACTIONS_LOST,
    DIVIDED_LABELS,
    TARGET_SCALE,
    TARGET_IN_INPUT,
    CENTERED_WINDOWS,
    LABEL_MAP,
    FITTED_AGAIN,
    SHIFT,
    SHIFTED_TABLES,
    RANDOM_VALIDATION,
    LEFT_BEHIND,
    WRITTEN_BLENDS,  # before STEP_LABELS: a measured finding replaces one that code suggests
    STEP_LABELS,
    SHIFTED_TWICE,
    SHIFTED_TAGS,
    AUGMENTATION,
    SHARED_BY_PARTS,
    LABEL_NOISE,
    LABELS_RANDOM,
    PREFERRED_BOTH_WAYS,
)
