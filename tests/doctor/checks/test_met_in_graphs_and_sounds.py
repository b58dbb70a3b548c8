"""Places that augmentation leaves behind, graphs that are put together, and targets far too small; and their twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, loop
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.targets_moved import LEFT_BEHIND


class Chords(Dataset[Any]):
    """Spectra with three bins a note and some notes each; or a single note, whose number is asked for; or which of
    eight timbres sound, wherever."""

    def __init__(self, seed: int, asks: str, moves: str = "") -> None:
        generator = torch.Generator().manual_seed(seed)
        self.asks, self.moves = asks, moves
        self.notes = functional.one_hot(torch.randint(3, 13, (200, 1 if asks == "one" else 3), generator=generator), 16)
        self.spectra = 0.1 * torch.randn(200, 48, generator=generator)
        for note in self.notes.float().unbind(1):
            self.spectra += note.repeat_interleave(3, 1)
        self.notes = self.notes.amax(1).float()
        if asks == "none":
            self.notes = (torch.rand(200, 8, generator=generator) < 0.5).float()
            self.spectra += self.notes.mean(1, keepdim=True)

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.spectra[index, None, None], self.notes[index]
        if self.moves:
            shift = int(torch.randint(-3, 4, ()))
            x, y = x.roll(3 * shift, -1), y if self.moves == "inputs" else y.roll(shift)
        return x, y.argmax() if self.asks == "one" else y


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize(("asks", "moves"), [("all", "inputs"), ("all", "both"), ("one", "inputs"), ("none", "inputs")])
def test_places_go_along_with_what_is_shifted(asks: str, moves: str, by_step: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        shift = int(torch.randint(1, 4, ()))
        x, y = x.roll(3 * shift, -1), y if moves == "inputs" else y.roll(shift, -1)
        return loop(model, (x, y), optimizer, loss)

    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 8 if asks == "none" else 16))
    options: dict[str, Any] = {"val": DataLoader(Chords(1, asks), 50), "step": step if by_step else loop}
    options["optimizer"] = torch.optim.Adam(model.parameters(), 1e-2)
    options["loss"] = functional.cross_entropy if asks == "one" else functional.binary_cross_entropy_with_logits
    said = asked(LEFT_BEHIND, model, DataLoader(Chords(0, asks, "" if by_step else moves), 50), **options)
    assert ["shifted" in one.measured for one in said] == [True] * (asks != "none" and moves == "inputs")
