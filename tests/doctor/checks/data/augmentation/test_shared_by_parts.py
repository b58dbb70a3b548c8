"""`data.augmentation` in the code: parts of one data set, whose transform is changed for all of them."""

from __future__ import annotations

import pytest

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.data.augmentation.shared_by_parts import SHARED_BY_PARTS

LOOP = "for x, y in loader:\n    pass\n"
SPLIT = "full = Pictures(x, y, transform=augment)\ntrain_ds, val_ds = random_split(full, [90, 10])\n"
PLAIN_SPLIT = SPLIT.replace(", transform=augment", "")
SUBSETS = "full = Pictures(x, y, transform=augment)\ntrain = Subset(full, a)\nval = Subset(full, b)\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SPLIT + "val_ds.dataset.transform = plain\n", "Training is no longer augmented"),
        (SUBSETS + "val.dataset.transform = plain\n", "Training is no longer augmented"),
        (
            PLAIN_SPLIT + "train_ds.dataset.transform = augment\nval_ds.dataset.transform = plain\n",
            "Training is no longer augmented",
        ),
        (
            PLAIN_SPLIT + "val_ds.dataset.transform = plain\ntrain_ds.dataset.transform = augment\n",
            "Validation is augmented",
        ),
        (PLAIN_SPLIT + "train_ds.dataset.train = True\n", "Validation is augmented"),
        (SPLIT + "val_ds.dataset.transform = augment\n", None),
        (PLAIN_SPLIT + "train_ds.dataset.transform = normalize\n", None),
        (PLAIN_SPLIT + "val_ds.dataset.transform = plain\n", None),
        (SPLIT + "val_ds.dataset = copy.copy(full)\nval_ds.dataset.transform = plain\n", None),
        (SPLIT + "val_ds.dataset.names = names\n", None),
        (SUBSETS.replace("val = Subset(full", "val = Subset(other") + "val.dataset.transform = plain\n", None),
    ],
)
def test_a_transform_is_changed_for_all_parts(text: str, why: str | None) -> None:
    said = read(text + LOOP, SHARED_BY_PARTS, perceptron(), digits())
    assert [one.why.startswith(str(why)) for one in said] == [True] * (why is not None)
