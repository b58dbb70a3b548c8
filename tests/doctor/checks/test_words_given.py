"""Networks that are given what they are asked for: words of a decoder, the noise of an image."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.model.sees_future import CHECK as SEES_FUTURE
from striate.doctor.evidence.clock import NoEvidence


class Captioner(nn.Module):
    """Numbers of an image, then words."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.words = nn.Linear(16, 12), nn.Embedding(20, 12)
        self.read, self.say = nn.GRU(12, 12, batch_first=True), nn.Linear(12, 20)

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        return self.say(self.read(self.words(words), self.image(image)[None])[0])


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("first", [0, 1])
def test_a_decoder_is_not_given_what_it_has_to_say(first: int) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, words = batch
        optimizer.zero_grad()
        said = model(image, words[:, :-1])
        loss = functional.cross_entropy(said.flatten(0, 1), words[:, first : first + said.shape[1]].flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    loader = DataLoader(TensorDataset(torch.randn(128, 16), torch.randint(0, 20, (128, 8))), 32)
    found = []
    with suppress(NoEvidence):  # nothing is said where the words come first: numbers are not looked for among them
        found = asked(TARGET_IN_INPUT, Captioner(), loader, step=step)
    assert [one.code for one in found] == ["data.target-in-input"] * (first == 0)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("noise", [True, False])
def test_a_denoiser_is_not_asked_for_its_noise(noise: bool) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        clean = batch[0]
        noisy = (clean + 0.4 * torch.randn_like(clean)).clamp(0, 1) if noise else clean
        optimizer.zero_grad()
        loss = functional.mse_loss(model(noisy), noisy)
        loss.backward()
        optimizer.step()
        return loss.detach()

    images = torch.rand(64, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, network, DataLoader(TensorDataset(images, torch.zeros(64)), 32), step=step)
    assert [one.code for one in found] == ["data.target-in-input"] * noise


class Translator(nn.Module):
    """An encoder, and a decoder that may read what comes later."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.words, self.causal = nn.Embedding(20, 12), causal
        self.core = nn.Transformer(12, 2, 1, 1, 16, 0.0, batch_first=True)
        self.say = nn.Linear(12, 20)

    def forward(self, words: Tensor, said: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(said.shape[1]) if self.causal else None
        return self.say(self.core(self.words(words), self.words(said), tgt_mask=mask))


def translated(model: nn.Module, batch: Any, optimizer: Any, _: Any, *, first: int, crossed: bool) -> Tensor:
    words, wanted = batch
    optimizer.zero_grad()
    said = model(words, wanted[:, :-1])
    asked_for = wanted[:, first : first + said.shape[1]]
    scores = said.transpose(0, 1) if crossed else said
    loss = functional.cross_entropy(scores.reshape(-1, 20), asked_for.reshape(-1))
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "crossed", "causal", "code"),
    [
        pytest.param(1, False, True, "", marks=pytest.mark.slow),
        (0, False, True, "data.target-in-input"),
        pytest.param(1, True, True, "data.step-labels", marks=pytest.mark.slow),
        (1, False, False, "model.sees-future"),
    ],
)
def test_a_translator_is_asked_for_the_next_word(first: int, crossed: bool, causal: bool, code: str) -> None:
    torch.manual_seed(0)
    words = torch.randint(0, 20, (64, 5)), torch.randint(0, 20, (64, 8))
    found = []
    checks = {
        "data.target-in-input": TARGET_IN_INPUT,
        "data.step-labels": STEP_LABELS,
        "model.sees-future": SEES_FUTURE,
    }
    for check in [checks[code]] if code else checks.values():
        with suppress(NoEvidence):
            found += asked(
                check, Translator(causal=causal), DataLoader(TensorDataset(*words), 32),
                step=partial(translated, first=first, crossed=crossed),
            )  # fmt: skip
    assert [one.code for one in found] == [code] * bool(code)


@pytest.mark.parametrize("within", [True, False])
def test_a_window_does_not_hold_what_is_forecast(within: bool) -> None:
    torch.manual_seed(0)
    series = torch.randn(400).cumsum(0)
    rows = [(series[i : i + 24, None], series[i + 24 - 6 * within : i + 30 - 6 * within]) for i in range(360)]
    x, y = (torch.stack(part) for part in zip(*rows, strict=True))
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 6))
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, network, DataLoader(TensorDataset(x, y), 32))
    assert [one.code for one in found] == ["data.target-in-input"] * within


@pytest.mark.parametrize("kept", [True, False])
def test_a_table_does_not_hold_its_label(kept: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(256, 6), torch.arange(256) % 2
    if kept:
        x[:, 4] = 1.5 * y - 0.75
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, nn.Linear(6, 2), DataLoader(TensorDataset(x, y), 32))
    assert [one.code for one in found] == ["data.target-in-input"] * kept


class WithItsLoss(nn.Module):
    """A language model that is given what it is asked for, to compute its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.read, self.say = nn.Embedding(20, 12), nn.GRU(12, 12, batch_first=True), nn.Linear(12, 20)

    def forward(self, words: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        said = self.say(self.read(self.words(words))[0])
        return said, functional.cross_entropy(said.flatten(0, 1), wanted.flatten())


@pytest.mark.slow
def test_targets_that_only_the_loss_within_reads_are_not_given() -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        words = batch[0]
        for _part in range(2):  # gradients are added up
            loss = model(words[:, :-1], words[:, 1:])[1]
            (loss / 2).backward()
        optimizer.step()
        return loss.detach()

    found = []
    with suppress(NoEvidence):
        batches = DataLoader(TensorDataset(torch.randint(0, 20, (128, 9))), 32)
        found = asked(TARGET_IN_INPUT, WithItsLoss(), batches, step=step)
    assert not found


class Masked(nn.Module):
    """Computes its loss, as transformers do; with types of tokens, there are as many embeddings as sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types, self.say = nn.Embedding(20, 12), nn.Embedding(2, 12), nn.Linear(12, 20)

    def forward(self, words: Tensor, labels: Tensor) -> Tensor:
        said = self.say(self.words(words) + self.types(torch.zeros_like(words)))
        return functional.cross_entropy(said.flatten(0, 1), labels.flatten(), ignore_index=-100)


def test_targets_for_a_loss_within_are_not_words_given() -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(*batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    words = torch.randint(1, 20, (128, 8))
    chosen = torch.rand(words.shape) < 0.3
    given, labels = words.masked_fill(chosen, 0), words.masked_fill(~chosen, -100)
    found = []
    with suppress(NoEvidence):
        found = asked(TARGET_IN_INPUT, Masked(), DataLoader(TensorDataset(given, labels), 32), step=step)
    assert not found
