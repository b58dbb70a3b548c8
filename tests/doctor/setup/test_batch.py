"""A batch taken apart: inputs, targets, tensors and their places, and how a network is called with them."""

from __future__ import annotations

import torch

from for_checks.graphs import Graphs, of_classes, together
from for_checks.sequences import padded_sentences
from striate.doctor.setup.batch import altered, copied, leaf, leaves, main_tensor, parts, reshuffled


def test_batches_are_dealt_anew_whatever_their_form() -> None:
    batches = [{"x": torch.arange(6) + 6 * n, "y": [torch.arange(6) + 6 * n]} for n in range(3)]
    dealt = reshuffled(batches)
    assert dealt is not None
    assert torch.cat([batch["x"] for batch in dealt]).sort().values.tolist() == list(range(18))
    assert all(torch.equal(batch["x"], batch["y"][0]) for batch in dealt)
    assert reshuffled([(torch.zeros(2, 3), torch.zeros(2)), (torch.zeros(2, 4), torch.zeros(2))]) is None


def test_a_batch_of_the_scripts_own_class_is_copied_with_its_tensors() -> None:
    batch = next(iter(padded_sentences()))
    copy = copied(batch)
    copy.given.zero_()
    assert copy.count == batch.count == 32
    assert int(batch.given[0, 0]) > 0


def test_objects_of_data_classes_are_batches_taken_apart() -> None:
    batch = together(of_classes(4))
    assert [path for path, _ in leaves(batch)] == [("x",), ("edges",), ("graph",), ("y",)]
    inputs, targets = parts(batch)
    assert inputs is batch.x
    assert targets is batch.y
    assert main_tensor(batch) is batch.x
    changed = altered(copied(batch), ("y",), torch.zeros_like)
    assert isinstance(changed, Graphs)
    assert not changed.y.any()
    assert torch.equal(batch.x, changed.x)
    assert changed.x is not batch.x
    assert leaf(changed, ("count",)) is None
    assert changed.count == 4


def test_two_tensors_of_a_dictionary_are_input_and_target_in_their_order() -> None:
    noisy, clean = torch.rand(2, 3), torch.rand(2, 3)
    assert parts({"noisy": noisy, "clean": clean}) == (noisy, clean)
    tokens, mask = torch.ones(2, 3).long(), torch.ones(2, 3)
    inputs, wanted = parts({"input_ids": tokens, "attention_mask": mask})
    assert inputs is wanted


def test_what_comes_beside_pixels_is_the_target() -> None:
    pixels, box, mask = torch.zeros(2, 3, 4, 4), torch.ones(2, 4), torch.ones(2, 4)
    assert parts({"pixel_values": pixels, "box": box}) == (pixels, box)
    assert parts({"images": pixels, "attention_mask": mask}) == (pixels, pixels)


def test_lengths_behind_targets_are_inputs() -> None:
    lengths = torch.tensor([3, 5, 2, 4])
    places = torch.arange(5)
    words = torch.randint(1, 9, (4, 5)).masked_fill(places >= lengths[:, None], 0)
    tags = (words % 3).masked_fill(places >= lengths[:, None], -100)
    inputs, targets = parts((words, tags, lengths))
    assert inputs == (words, lengths)
    assert targets is tags
    assert parts((words, tags, lengths - 1))[1] is not tags
    assert parts((torch.randn(4, 5), torch.randn(4, 5), lengths))[1] is lengths
