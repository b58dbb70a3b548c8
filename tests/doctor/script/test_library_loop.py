"""The training loop of a library's trainer: Lightning's and Hugging Face's, known by their shape, not imported."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from striate.doctor.script.library_loop import _joined, _of_lightning, _stepped_by_hand, _validation_loader


class ByHand(nn.Module):
    """As a LightningModule that steps once in two batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        module: Any = self
        module.manual_backward(self.layer(batch).mean() / 2)
        if (batch_idx + 1) % 2 == 0:
            module.optimizers().step()
            module.optimizers().zero_grad()


def test_a_step_by_hand_is_told_the_number_of_its_batch() -> None:
    model = ByHand()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model.layer.weight.detach().clone()
    _stepped_by_hand(model, torch.ones(4, 3), 2, optimizer, [])
    assert torch.equal(model.layer.weight, before)
    loss = _stepped_by_hand(model, torch.ones(4, 3), 3, optimizer, [])
    assert not torch.equal(model.layer.weight, before)
    assert loss.ndim == 0


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


class Moved(MeanTeacher):
    """Moves it by itself."""

    @torch.no_grad()
    def on_train_batch_end(self, *_: Any) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 0.5)
        raise KeyError("train_loss")  # as of metrics that a whole training logs


class Mover:
    """As a callback that moves it."""

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        assert trainer.max_epochs == 3
        Moved.on_train_batch_end(module)


def of_lightning(model: MeanTeacher, callbacks: list[Any]) -> Any:
    given: dict[str, Any] = {
        "lightning_module": model, "gradient_clip_val": None, "gradient_clip_algorithm": "norm", "datamodule": None,
        "lr_scheduler_configs": [], "max_steps": -1, "max_epochs": 3, "accumulate_grad_batches": 1,
        "train_dataloader": [torch.ones(8, 4)], "val_dataloaders": None, "callbacks": callbacks,
    }  # fmt: skip
    return _of_lightning(SimpleNamespace(**given))[0]


@pytest.mark.parametrize(("model", "callbacks"), [(Moved(), []), (MeanTeacher(), [Mover()])])
def test_the_hook_behind_a_step_of_lightning_is_a_part_of_it(model: MeanTeacher, callbacks: list[Any]) -> None:
    loop = of_lightning(model, callbacks)
    before = model.teacher.weight.clone()
    loop.step(model, torch.ones(8, 4), torch.optim.SGD(model.student.parameters(), 0.1), None)
    assert not torch.equal(model.teacher.weight, before)


class Silent(MeanTeacher):
    def training_step(self, batch: Any, number: int) -> None:  # type: ignore[override]
        super().training_step(batch, number)


def test_a_training_step_that_returns_nothing_is_skipped_as_by_lightning() -> None:
    model = Silent()
    before = model.student.weight.clone()
    optimizer = torch.optim.SGD(model.student.parameters(), 0.1)
    assert of_lightning(model, []).step(model, torch.ones(8, 4), optimizer, None) is None
    assert torch.equal(model.student.weight, before)


class Labeled(Dataset[Any]):
    def __init__(self, images: Tensor) -> None:
        self.images, self.labels = images, torch.arange(len(images)) % 3

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.images[number], self.labels[number]


def test_a_gallery_is_no_validation() -> None:
    images = torch.randn(24, 1, 8, 8)
    train, gallery, queries = (DataLoader(Labeled(part)) for part in (images, images.clone(), images + 1))
    assert _validation_loader([gallery, queries], train) is queries
    assert _validation_loader([queries, gallery], train) is queries
    assert _validation_loader([gallery], train) is gallery
    assert _validation_loader(gallery, train) is gallery


def test_predictions_of_batches_are_filled_up() -> None:
    joined = _joined([torch.zeros(2, 3, 4), torch.zeros(1, 5, 4)])
    assert joined.shape == (3, 5, 4)
    assert bool((joined[:2, 3:] == -100).all())
    assert _joined([torch.zeros(2), torch.zeros(1)]).shape == (3,)
