"""Sentences in batches (positions, samples), and decoders that are fed one word after the other: faults that were met
in scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.evidence.reading import shared_positions

WORDS = 12


def sentences(least: int = 3, most: int = 8, count: int = 128) -> list[Tensor]:
    """Words from 2 on, between the first one, 1, and padding, 0."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(least, most + 1, (count,), generator=generator).tolist()
    draws = (torch.randint(2, WORDS, (length,), generator=generator) for length in lengths)
    return [torch.cat([torch.ones(1, dtype=torch.long), drawn]) for drawn in draws]


class Translator(nn.Module):
    """An encoder, and a decoder that is fed the word `behind` steps before the one that it has to say, or this one
    after it is said."""

    def __init__(self, behind: int = 1, *, after: bool = False) -> None:
        super().__init__()
        self.behind, self.words, self.given = behind, nn.Embedding(WORDS, 12), nn.Embedding(WORDS, 12)
        self.after = after
        self.read, self.cell, self.say = nn.GRU(12, 12), nn.GRUCell(12, 12), nn.Linear(12, WORDS)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        hidden, said = self.read(self.given(source))[1][0], list[Tensor]()
        for t in range(1, len(target)):
            before, hidden = hidden, self.cell(self.words(target[t - self.behind]), hidden)
            said.append(self.say(before if self.after else hidden))
        return torch.stack(said)


def translating(ignored: int = 0) -> dict[str, Any]:
    """A step that asks for all words but the first, in batches (positions, samples)."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        said, wanted = model(*batch), batch[1][1:]
        return stepped(
            model, functional.cross_entropy(said.flatten(0, 1), wanted.flatten(), ignore_index=ignored), optimizer
        )

    return {"step": step}


def batches() -> DataLoader[Any]:
    def collate(pairs: list[Any]) -> list[Tensor]:
        return [pad_sequence(list(part)) for part in zip(*pairs, strict=True)]

    return DataLoader(list(zip(sentences(4, 9), sentences(), strict=True)), 32, collate_fn=collate)  # type: ignore[arg-type]


@pytest.mark.parametrize("ignored", [pytest.param(0, marks=pytest.mark.slow), 5])
def test_what_fills_columns_up_may_be_left_out(ignored: int) -> None:
    said = asked_or_silent(IGNORED_CLASS, Translator(), batches(), **translating(ignored))
    assert [one.code for one in said] == ["loss.ignored-class"] * (ignored == 5)


@pytest.mark.parametrize("ignored", [pytest.param(0, marks=pytest.mark.slow), -100])
def test_what_fills_columns_up_counts_for_nothing(ignored: int) -> None:
    said = asked_or_silent(PADDING_COUNTED, Translator(), batches(), **translating(ignored))
    assert [one.code for one in said] == ["loss.padding-counted"] * (ignored == -100)


@pytest.mark.slow
@pytest.mark.parametrize(("behind", "after", "wrong"), [(0, False, True), (1, False, False), (0, True, False)])
def test_a_decoder_is_fed_the_word_before(behind: int, after: bool, wrong: bool) -> None:
    said = asked_or_silent(TARGET_IN_INPUT, Translator(behind, after=after), batches(), **translating())
    assert [one.code for one in said] == ["data.target-in-input"] * wrong


@pytest.mark.parametrize("refused", [True, False])
def test_outputs_of_several_lengths_are_no_refusal(refused: bool) -> None:
    network = nn.Sequential(nn.Embedding(WORDS, 8), nn.Linear(8, WORDS))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(model, functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten()), optimizer)

    def collate(rows: list[Tensor]) -> Tensor:
        return pad_sequence(rows, batch_first=True)

    asked = [row.float() for row in sentences(5, 5)] if refused else sentences(5, 5, 64) + sentences(7, 7, 64)
    train, val = (DataLoader(part, 32, collate_fn=collate) for part in (sentences(6, 6), asked))  # type: ignore[arg-type]
    said = asked_or_silent(SHIFT, network, train, val=val, step=step)
    assert [one.code for one in said] == ["data.shift"] * refused


@pytest.mark.parametrize("cut_again", [True, False])
def test_one_list_that_is_cut_in_two_orders(cut_again: bool) -> None:
    pairs = [(f"{number}", ["word"]) for number in range(40)]
    order = pairs[::-1] if cut_again else pairs
    train, val = DataLoader(pairs[10:], 4), DataLoader(order[:10], 4)  # type: ignore[arg-type]
    assert shared_positions(train, val) == (10 * cut_again, 10)
    few = [("cat",), ("dog",), ("fish",)] * 10
    assert shared_positions(DataLoader(few), DataLoader(few[:10])) is None  # type: ignore[arg-type]
