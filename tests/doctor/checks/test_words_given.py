"""Networks that are given what they are asked for: words of a decoder, the noise of an image."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.target_in_input import TARGET_IN_INPUT
from striate.doctor.evidence.clock import NoEvidence


class Captioner(nn.Module):
    """Numbers of an image, then words."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.words = nn.Linear(16, 12), nn.Embedding(20, 12)
        self.read, self.say = nn.GRU(12, 12, batch_first=True), nn.Linear(12, 20)

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        return self.say(self.read(self.words(words), self.image(image)[None])[0])


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
