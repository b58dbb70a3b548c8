"""`data.step-labels` of language models of transformers, which shift labels themselves: labels shifted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from for_checks.steps import told
from striate.doctor.checks.data.labels.shifted_twice import SHIFTED_TWICE


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_labels_that_a_language_model_shifts_itself_are_not_shifted_before(shifted: bool, padded: bool) -> None:
    kind = type("TinyLMHeadModel", (nn.Embedding,), {"__module__": "transformers.models.tiny"})
    tokens = torch.randint(0, 9, (32, 12), generator=torch.Generator().manual_seed(0))
    labels = tokens.roll(-1, 1) if shifted else tokens.clone()
    labels[:, :4] = -100
    mask = torch.ones_like(tokens)
    if padded:  # the label of the last token, the end, is no input
        tokens[:, 9:], labels[:, 9:], mask[:, 9:] = 0, -100, 0
        labels[:, 8 if shifted else 9] = 8
    parts = zip(tokens, labels, mask, strict=True)
    rows: Any = [{"input_ids": row, "labels": label, "attention_mask": seen} for row, label, seen in parts]

    def step(model: nn.Module, batch: Any, *_: Any) -> Tensor:
        return functional.cross_entropy(model(batch["input_ids"]).flatten(0, 1), batch["labels"].flatten())

    found = told(SHIFTED_TWICE, kind(9, 9), DataLoader(rows, 16), step=step)
    assert [finding.code for finding in found] == ["data.step-labels"] * shifted
