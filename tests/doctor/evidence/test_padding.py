"""What only fills rows of sequences up to the longest of a batch."""

from __future__ import annotations

import torch
from torch import nn

from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import padding_value, target_rows
from striate.doctor.setup.training_setup import make_setup


def test_a_hyphen_in_all_dates_fills_nothing_up() -> None:
    dates = torch.tensor(
        [[1 + int(c) if c != "-" else 0 for c in f"19{n:02d}-0{1 + n % 9}-1{n % 9}"] for n in range(48)]
    )
    assert padding_value(dates) is None
    assert padding_value(torch.tensor([[1, 2, 9, 9], [2, 1, 2, 9], [1, 1, 2, 2]])) == 9


def test_rows_of_a_part_of_a_batch_are_known() -> None:
    tokens = torch.randint(1, 9, (16, 7), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(28, 3))
    setup = make_setup(model, [(tokens, tokens[:, 0] % 3)] * 3, None, loss=nn.CrossEntropyLoss())
    evidence = Evidence(setup, Clock(20.0))
    for rows in (16, 8, 4):
        found = target_rows(evidence, torch.zeros(rows * 6, dtype=torch.long))
        assert found is not None
        assert found.shape == (rows, 6)
    assert target_rows(evidence, torch.zeros(5, dtype=torch.long)) is None
