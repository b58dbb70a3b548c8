"""Sums that a checkpoint held go on where the outputs are."""

from __future__ import annotations

import torch

from striate.tasks.accumulator import Sums, with_sums


def test_sums_from_memory_move_to_what_is_added() -> None:
    """`meta` stands for an accelerator: its tensors cannot be added to those in memory."""
    more = torch.zeros(2, device="meta")
    assert with_sums(torch.ones(2), more).device.type == "meta"
    sums = Sums(lambda *_: more, lambda _: {})
    sums.load_state_dict({"total": torch.ones(2)})
    sums.update(more, more)
    assert sums.total is not None
    assert sums.total.device.type == "meta"


def test_sums_are_added_in_memory() -> None:
    assert with_sums(None, torch.ones(2)).tolist() == [1, 1]
    assert with_sums(torch.ones(2), torch.ones(2)).tolist() == [2, 2]
