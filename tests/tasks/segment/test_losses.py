"""The losses of a segmentation are those of their papers, and add up from the parts of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from striate.tasks.config import TaskConfig
from striate.tasks.segment.losses import LOSSES
from striate.tasks.segment.task import IGNORED, Segment, has_rare_class


def made() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (4, 5, 6), generator=generator).to(torch.uint8)
    targets[torch.rand(4, 5, 6, generator=generator) < 0.2] = IGNORED
    targets[0][targets[0] == 2] = 1  # a class that one image lacks
    return 2 * torch.randn(4, 3, 5, 6, generator=generator), targets


def defined(name: str, logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, gamma: float) -> float:
    """The mean loss, pixel by pixel and image by image."""
    total = count = 0.0
    for scores, mask in zip(logits.astype(float), targets, strict=True):
        shifted = np.exp(scores - scores.max(0))
        p = shifted / shifted.sum(0)
        labeled = np.argwhere(mask != IGNORED)
        own = sum(weights[mask[r, c]] for r, c in labeled)
        count += own
        for r, c in labeled:
            surprise = -np.log(p[mask[r, c], r, c])
            weight = weights[mask[r, c]]
            total += weight * surprise * ("cross-entropy" in name)
            total += weight * (1 - p[mask[r, c], r, c]) ** gamma * surprise * ("focal" in name)
        if "dice" in name:
            each = []
            for k in {mask[r, c] for r, c in labeled}:
                both = sum(p[k, r, c] for r, c in labeled if mask[r, c] == k)
                either = sum(p[k, r, c] + (mask[r, c] == k) for r, c in labeled)
                each.append((2 * both + 1) / (either + 1))
            total += own * (1 - np.mean(each))
    return total / count


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
def test_each_loss_is_its_definition_and_adds_up_from_parts(name: str, weights: tuple[float, ...] | None) -> None:
    logits, targets = made()
    task = Segment(("a", "b", "c"), weights, loss_name=name, gamma=1.5)
    expected = defined(name, logits.numpy(), targets.numpy(), np.array(weights or (1, 1, 1)), 1.5)
    assert float(task.loss(logits, targets)) == pytest.approx(expected, rel=1e-5)
    parts = task.loss_sum(logits[:1], targets[:1]) + task.loss_sum(logits[1:], targets[1:])
    assert float(parts) == pytest.approx(float(task.loss_sum(logits, targets)), rel=1e-5)
    assert Segment.from_state(task.state()) == task
    guess = float(task.loss(torch.zeros_like(logits), targets))
    assert task.guessed_classes == (3 if guess == pytest.approx(np.log(3), rel=1e-5) else 0)


@pytest.mark.parametrize("name", ["dice", "focal"])
def test_an_image_without_labels_has_no_loss_and_a_gradient_of_zero(name: str) -> None:
    logits, targets = made()
    logits.requires_grad_()
    loss = Segment(("a", "b", "c"), loss_name=name).loss(logits, torch.full_like(targets, IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) == 0


@pytest.mark.parametrize(
    ("counts", "rare"),
    [((76, 24), True), ((74, 26), False), ((0, 100), False), ((500, 300, 197, 3), True), ((500, 300, 173, 27), False)],
)
def test_dice_is_added_where_a_class_is_rare(counts: tuple[int, ...], rare: bool) -> None:
    """Of two classes below a quarter, of four below a fortieth; a class that never occurs is not rare, nor are pixels
    without a label counted."""
    masks = torch.cat([torch.full((count,), number) for number, count in enumerate((*counts, 50))])
    masks = torch.where(masks == len(counts), IGNORED, masks).to(torch.uint8)[None, None]
    assert has_rare_class(masks, len(counts)) == rare


def _made(counts: tuple[int, ...], **fields: Any) -> Segment:
    """The task of one mask with so many pixels of each class."""
    mask = torch.cat([torch.full((count,), number, dtype=torch.uint8) for number, count in enumerate(counts)])
    data: Any = SimpleNamespace(
        splits={"train": SimpleNamespace(targets=mask[None, None])},
        classes=tuple("abcdef"[: len(counts)]),
        input_shape=(3, 1, len(mask)),
        preparation=SimpleNamespace(values=(), colors=()),
    )
    return Segment.make(data, TaskConfig(**fields), LOSSES[0])


def test_pixels_of_rare_classes_weigh_by_the_root_of_how_rare_they_are() -> None:
    task = _made((900, 96, 4))
    weights = torch.tensor(task.class_weights)
    assert torch.allclose(weights / weights[0], torch.tensor([1, (900 / 96) ** 0.5, (900 / 4) ** 0.5]))
    assert task.loss_name == "cross-entropy+dice"
    assert "weighted" in task.loss_text()
    assert torch.tensor(_made((900, 0, 4)).class_weights).isfinite().all(), "a class that never occurs"
    two = _made((96, 4))
    assert (two.loss_name, two.class_weights) == ("cross-entropy+dice", None)
    assert _made((400, 300, 300)).loss_text() == ""
    for asked in ({"loss": "focal"}, {"class_weights": "none"}):
        assert _made((900, 96, 4), **asked).class_weights is None
    balanced = torch.tensor(_made((900, 96, 4), class_weights="balanced").class_weights)
    assert torch.allclose(balanced / balanced[0], torch.tensor([1, 900 / 96, 900 / 4]))
