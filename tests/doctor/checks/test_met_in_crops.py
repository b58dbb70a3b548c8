"""Averages that a hook moves, crops of next to nothing and masks in another order: faults that were met in scripts, and
their healthy twins."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.data.axes_dealt import _of_scores
from striate.doctor.script.library_loop import _of_lightning


class MeanTeacher(nn.Module):
    """As a LightningModule, whose teacher is moved behind each step."""

    automatic_optimization = True

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(4, 3)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        return self.teacher(x)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return functional.mse_loss(self.student(batch), self(batch) + 1)

    def validation_step(self, batch: Any) -> None: ...

    @torch.no_grad()
    def on_train_batch_end(self, *_: Any) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 0.5)
        raise KeyError("train_loss")  # as of metrics that a whole training logs


def test_the_hook_behind_a_step_of_lightning_is_a_part_of_it() -> None:
    model = MeanTeacher()
    given: dict[str, Any] = {
        "lightning_module": model, "gradient_clip_val": None, "gradient_clip_algorithm": "norm", "datamodule": None,
        "lr_scheduler_configs": [], "max_steps": -1, "max_epochs": 3, "accumulate_grad_batches": 1,
        "train_dataloader": [torch.ones(8, 4)], "val_dataloaders": None,
    }  # fmt: skip
    loop, _ = _of_lightning(SimpleNamespace(**given))
    before = model.teacher.weight.clone()
    loop.step(model, torch.ones(8, 4), torch.optim.SGD(model.student.parameters(), 0.1), None)
    assert not torch.equal(model.teacher.weight, before)


def test_scores_of_places_are_no_rows_of_classes() -> None:
    said = "as if classes were put last", "x.movedim(1, -1).reshape(-1, 4)"
    assert _of_scores((32, 4, 24, 24), (32 * 24 * 24, 4)) == said
    assert _of_scores((32, 24, 24, 4), (32 * 24 * 24, 4)) is None
    assert _of_scores((32, 4, 24, 24), (32, 4, 24 * 24)) is None
    assert _of_scores((32, 4, 24, 4), (32 * 24 * 4, 4)) is None  # whose last axis may be that of classes
