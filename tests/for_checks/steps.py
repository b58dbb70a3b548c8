"""Training steps that tests of checks share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, loop
from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def sums_of_three() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 16, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].sum(1, keepdim=True)), 32, shuffle=True, generator=generator)


def told(check: Any, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    found: list[Finding] = []
    torch.manual_seed(0)
    with suppress(NoEvidence):
        found = asked(check, model, train, **options)
    return found


def scheduled(scheduler: Any, every: int) -> Any:
    count = 0

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        nonlocal count
        value = loop(model, batch, optimizer, loss)
        count += 1
        if count % every == 0:
            scheduler.step()
        return value

    return step


def every_so_many(every: int = 1, *, clear: str = "before", clip: float = 0.0) -> Any:
    """A step of so many batches each; gradients are cleared `before` backward, `after` the step, `between` or never."""
    count = 0

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        nonlocal count
        if clear == "before" and count % every == 0:
            optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        (value / every).backward()
        count += 1
        if clear == "between":
            optimizer.zero_grad()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        if count % every == 0:
            optimizer.step()
            if clear == "after":
                optimizer.zero_grad()
        return value

    return step


Own = Callable[[Tensor, Tensor], Tensor]


def own_loss(loss: Own) -> Any:
    """A step with a loss written in it."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def stepping(loss: Any) -> dict[str, Any]:
    """A loss that stands in the step, as in a script."""
    return {"step": lambda model, batch, optimizer, _: loop(model, batch, optimizer, loss)}


def scaled_quantities(mean: float = 0.0, deviation: float = 1.0) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(640, 8, generator=generator)
    y = (x[:, :1] - 2 * x[:, 1:2]) / 5**0.5 + 0.05 * torch.randn(640, 1, generator=generator)
    y = mean + deviation * y
    return TensorDataset(x, y, y.clone())


def codes_said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[str]:
    with suppress(NoEvidence):
        return [finding.code for finding in asked(check, model, train, **options)]
    return []


class Boxes(nn.Module):
    """Classes and boxes, these as fractions of the image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.scores, self.box = nn.Linear(32, 3), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.features(x)
        return {"logits": self.scores(features), "boxes": self.box(features).sigmoid()}


def boxed_squares(side: float) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 5, (128, 2), generator=generator)
    x = torch.zeros(128, 1, 8, 8)
    for image, (top, left) in zip(x, corner.tolist(), strict=True):
        image[:, top : top + 3, left : left + 3] = 1
    boxes = torch.cat([corner, corner + 3], 1) / 8 * side
    data = [(image, {"boxes": box, "labels": int(box[0] > box[1])}) for image, box in zip(x, boxes, strict=True)]
    return DataLoader(data, 32, shuffle=True, generator=generator)  # type: ignore[arg-type]


def boxes_step(sign: float) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        x, targets = batch
        outputs = model(x)
        away = (outputs["boxes"] - targets["boxes"]).abs().mean(1)
        value = functional.cross_entropy(outputs["logits"], targets["labels"])
        value = value + sign * (1 / (1 + away)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return step
