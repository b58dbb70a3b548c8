"""What is drawn is what training sees: the same samples, the same epochs, the same masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.data.augment.augment import augment_batch
from striate.data.config import AugmentConfig
from striate.data.dataset import Annotation, Dataset, Kind, Preparation, Split
from striate.data.media.every_medium import medium_of
from striate.data.media.volume.slices_picture import middle_slices
from striate.errors import DataError
from striate.visualize.sample_figures import MOST_CLASSES, refuse_undrawable, rows_by_class, rows_by_epoch

SHIFTS = AugmentConfig(shift=2, flip=True)


def made(annotation: Annotation = "class", classes: int = 3, n: int = 30, channels: int = 3) -> Dataset:
    """Image k is filled with k, its class is k modulo `classes`, its number k / 2, its mask its class."""
    inputs = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, channels, 9, 7).contiguous()
    number = torch.arange(n) % classes
    targets = {
        "class": number,
        "number": torch.arange(n).view(n, 1) / 2,
        "mask": number.to(torch.uint8).view(n, 1, 1).expand(n, 9, 7).contiguous(),
    }[annotation]
    split = Split(inputs, targets, torch.arange(n) * 5)
    names = tuple(f"c{k}" for k in range(classes)) if annotation != "number" else ()
    preparation = Preparation("image", (channels, 9, 7))
    return Dataset("made", "made", "image", annotation, {"train": split}, names, preparation, (), "0" * 64)


def values(row) -> list[int]:
    return row.images[:, 0, 4, 3].tolist()


def test_a_row_a_class_holds_samples_of_that_class_each_once() -> None:
    rows = rows_by_class(made(), count=4, seed=0)
    assert [row.name for row in rows] == ["c0", "c1", "c2"]
    for k, row in enumerate(rows):
        assert len(set(values(row))) == 4
        assert {value % 3 for value in values(row)} == {k}
    again, other = rows_by_class(made(), count=4, seed=0), rows_by_class(made(), count=4, seed=1)
    assert [values(row) for row in rows] == [values(row) for row in again]
    assert [values(row) for row in rows] != [values(row) for row in other]


def test_few_samples_and_many_classes() -> None:
    assert [len(row.images) for row in rows_by_class(made(), count=40, seed=0)] == [10, 10, 10]
    assert len(rows_by_class(made(classes=30), count=1, seed=0)) == MOST_CLASSES


@pytest.mark.parametrize(("count", "lengths"), [(1, [1]), (8, [8]), (11, [8, 3]), (40, [8, 8, 8, 6])])
def test_without_classes_there_are_rows_of_eight_with_their_numbers(count: int, lengths: list[int]) -> None:
    rows = rows_by_class(made("number"), count=count, seed=0)
    assert [len(row.images) for row in rows] == lengths
    for row in rows:
        assert [float(caption) for caption in row.captions] == [value / 2 for value in values(row)]
    masks = rows_by_class(made("mask"), count=count, seed=0)
    assert [row.masks.shape for row in masks] == [(k, 9, 7) for k in lengths]
    assert masks[0].masks[:, 0, 0].tolist() == [value % 3 for value in values(masks[0])]


def test_a_row_a_sample_is_the_original_and_what_training_sees() -> None:
    data = made()
    train = data.splits["train"]
    rows = rows_by_epoch(data, SHIFTS, count=5, epochs=3, seed=4)
    assert [row.name for row in rows] == ["c0", "c0", "c1", "c1", "c2"]  # the classes in turn
    for row in rows:
        k = values(row)[0]
        assert np.array_equal(row.images[0], train.inputs[k].numpy())
        for epoch in range(3):
            batch = slice(k, k + 1)
            seen, _ = augment_batch(train.inputs[batch], SHIFTS, 4, epoch, train.ids[batch])
            assert np.array_equal(row.images[1 + epoch], seen[0].numpy())


def test_masks_move_with_their_images() -> None:
    data = made("mask")
    rows = rows_by_epoch(data, AugmentConfig(shift=3), count=6, epochs=4, seed=0)
    moved = np.stack([row.masks[1:] for row in rows])
    assert (moved == 255).any()
    for row in rows:
        assert set(np.unique(row.masks)) <= {int(row.masks[0, 0, 0]), 255}


def test_noise_is_drawn_in_the_spread_of_the_data() -> None:
    data = made(n=200)
    rows = rows_by_epoch(data, AugmentConfig(noise=0.5), count=40, epochs=6, seed=0)
    spread = float(data.splits["train"].inputs.double().std())
    added = np.stack([row.images[1:].astype(float) - row.images[:1] for row in rows])
    inside = added[[40 < values(row)[0] < 160 for row in rows]]
    assert inside.std() == pytest.approx(spread * 0.5 / 3**0.5, rel=0.15)


@pytest.mark.parametrize(("kind", "shape"), [("table", (4,)), ("grid", (2, 9)), ("image", (4, 8, 8))])
def test_what_is_no_picture_is_refused(kind: Kind, shape: tuple[int, ...]) -> None:
    split = Split(torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    data = Dataset("made", "made", kind, "class", {"train": split}, ("a",), Preparation(kind, shape), (), "0" * 64)
    with pytest.raises(DataError, match="one or three channels"):
        refuse_undrawable(data)


def test_arrays_of_volumes_are_drawn_as_their_middle_slices() -> None:
    drawn = medium_of("grid").drawn(np.arange(24.0).reshape(1, 2, 3, 4), Preparation("grid", (1, 2, 3, 4)))
    assert drawn is not None
    assert drawn.shape == middle_slices(np.arange(24.0).reshape(1, 2, 3, 4)).shape
