"""Inputs and labels that a collate function puts into different rows of the batch, such as by sorting one of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from striate.doctor.checks.data.labels.collated_rows import mismatched_rows


def sorted_words(batch: list[Any]) -> Any:
    words, tags = zip(*batch, strict=True)
    words = sorted(words, key=len, reverse=True)
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=-100)


def sorted_sentences(batch: list[Any]) -> Any:
    words, tags = zip(*sorted(batch, key=lambda item: -len(item[0])), strict=True)
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=-100)


def with_others_tags(batch: list[Any]) -> Any:
    words, tags = sorted_sentences(batch)
    return words, tags, tags.roll(1, 0)


@pytest.mark.parametrize(
    ("collate", "wrong"), [(sorted_words, True), (sorted_sentences, False), (with_others_tags, False)]
)
def test_a_collate_function_keeps_tags_beside_their_words(collate: Any, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    words = [torch.randint(1, 30, (int(n),), generator=generator) for n in torch.randperm(40, generator=generator) + 5]
    loader = DataLoader([(part, part % 3) for part in words], 8, collate_fn=collate)  # type: ignore[arg-type]
    found, _ = mismatched_rows(loader) or (0, 0)
    assert (found >= 12) if wrong else not found


def apart(batch: list[Any]) -> Any:
    return pad_sequence(sorted((wave for wave, _ in batch), key=len), batch_first=True), torch.tensor(
        [label for _, label in batch]
    )


def put_back(batch: list[Any]) -> Any:
    order = torch.tensor([len(wave) for wave, _ in batch]).argsort()
    waves = pad_sequence([batch[row][0] for row in order.tolist()], batch_first=True)
    return waves, order.argsort(), torch.tensor([label for _, label in batch])


def blended(batch: list[Any]) -> Any:
    waves, labels = together(batch)
    other = torch.randperm(len(labels))
    return 0.6 * waves + 0.4 * waves[other], 0.6 * labels + 0.4 * labels[other]


def together(batch: list[Any]) -> Any:
    batch = sorted(batch, key=lambda item: len(item[0]))
    return pad_sequence([wave for wave, _ in batch], batch_first=True), torch.tensor([label for _, label in batch])


@pytest.mark.parametrize(("collate", "wrong"), [(apart, True), (together, False), (blended, False), (put_back, False)])
def test_a_collate_function_keeps_labels_beside_their_inputs(collate: Any, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randperm(40, generator=generator) + 20
    waves = [torch.randn(int(length), generator=generator) for length in lengths]
    loader = DataLoader([(wave, number % 3) for number, wave in enumerate(waves)], 8, collate_fn=collate)
    found, _ = mismatched_rows(loader) or (0, 0)
    assert (found >= 12) if wrong else not found
