"""Images that the data set mirrors, while their texts still name left and right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from for_checks.asked import asked
from striate.doctor.checks.data.moved.sides_in_texts import unmirrored_texts
from striate.doctor.checks.data.moved.targets_left_behind import LEFT_BEHIND

_VOCABULARY = ["a", "disc", "square", "left", "right", "above", "of", "just"]
_OTHER_SIDE = {"left": "right", "right": "left"}


class _Scenes(Dataset[Any]):
    """A disc and a square, one beside the other or above it, with a sentence, in words or in their numbers. `mirrors`:
    which images; `exchanges`: whether words go along."""

    def __init__(self, mirrors: str, exchanges: bool = False, numbers: bool = True) -> None:
        self.images = torch.zeros(120, 1, 12, 12)
        self.images[:, :, 1:5, 1:5], self.images[:, :, 7:11, 7:11] = 1.0, -1.0
        self.images += torch.linspace(0, 1, 12)
        self.images += 0.05 * torch.randn(self.images.shape, generator=torch.Generator().manual_seed(0))
        self.captions = [["a disc just above a square", "a disc left of a square"][number % 2] for number in range(120)]
        self.files = [f"scenes/left of all/{number}.png" for number in range(120)]
        self.mirrors, self.exchanges, self.numbers = mirrors, exchanges, numbers

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, Any]:
        image, words = self.images[number], self.captions[number].split()
        allowed = self.mirrors == "all" or (self.mirrors == "without sides" and "left" not in words)
        if allowed and torch.rand(()) < 0.5:
            image = image.flip(-1)
            words = [_OTHER_SIDE.get(word, word) if self.exchanges else word for word in words]
        return image, torch.tensor([_VOCABULARY.index(word) for word in words]) if self.numbers else " ".join(words)


@pytest.mark.parametrize("numbers", [True, False])
def test_texts_of_mirrored_images_name_the_same_side(numbers: bool) -> None:
    torch.manual_seed(0)
    found = unmirrored_texts(DataLoader(Subset(_Scenes("all", numbers=numbers), list(range(20, 100))), 8))
    assert found is not None
    assert found[0] >= 10
    assert "a disc left of a square" in found[1]


@pytest.mark.parametrize(("mirrors", "exchanges"), [("all", True), ("without sides", False), ("none", False)])
def test_texts_that_stay_true(mirrors: str, exchanges: bool) -> None:
    torch.manual_seed(0)
    assert unmirrored_texts(DataLoader(_Scenes(mirrors, exchanges), 8)) is None


def _third_word(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
    images, words = batch
    loss = functional.cross_entropy(model(images), words[:, 2])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def test_a_caption_that_a_flip_makes_wrong_is_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 8))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    (finding,) = asked(LEFT_BEHIND, model, DataLoader(_Scenes("all"), 20), optimizer=optimizer, step=_third_word)
    assert "whose texts name left or right are mirrored" in finding.measured


def test_texts_that_nothing_is_asked_of() -> None:
    torch.manual_seed(0)
    scenes = _Scenes("all")
    scenes.captions = ["a disc just above a square"] * 120
    assert unmirrored_texts(DataLoader(scenes, 8)) is None
