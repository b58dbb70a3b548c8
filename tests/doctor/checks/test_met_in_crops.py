"""Averages that a hook moves, crops of next to nothing and masks in another order: faults that were met in scripts, and
their healthy twins."""

from __future__ import annotations

import copy
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_met_in_fixmatch_and_forecasts import codes
from test_met_in_plates_and_buffers import frame_of
from test_source_checks import SCRIPT, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.inputs.axes_dealt import _of_scores
from striate.doctor.checks.data.labels.as_held import labels_fit_as_held
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.evidence.clock import Clock
from striate.doctor.script.library_loop import _of_lightning
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.script.validation_data import find_validation


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


@pytest.mark.parametrize(("model", "callbacks"), [(Moved(), []), (MeanTeacher(), [Mover()])])
def test_the_hook_behind_a_step_of_lightning_is_a_part_of_it(model: MeanTeacher, callbacks: list[Any]) -> None:
    given: dict[str, Any] = {
        "lightning_module": model, "gradient_clip_val": None, "gradient_clip_algorithm": "norm", "datamodule": None,
        "lr_scheduler_configs": [], "max_steps": -1, "max_epochs": 3, "accumulate_grad_batches": 1,
        "train_dataloader": [torch.ones(8, 4)], "val_dataloaders": None, "callbacks": callbacks,
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


class Cropped(Dataset[Any]):
    """Gradients of two directions, of which next to nothing is shown: of the labeled image, or of another one."""

    def __init__(self, others: int, labels: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self.others, self.kinds = others, torch.arange(200) % 2
        ramp = torch.linspace(-1, 1, 8).expand(1, 8, 8)
        images = torch.stack([ramp if kind else ramp.mT for kind in self.kinds])
        levels = torch.rand(200, 1, 1, 1, generator=generator) * 4
        self.images = images + levels + 0.3 * torch.randn(images.shape, generator=generator)
        self.labels = self.kinds if not len(labels) else labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image = self.images[(number + self.others) % len(self)]
        return image[:, 3:4, 3:4].expand(1, 8, 8) + 0.1 * torch.randn(1, 8, 8), self.labels[number]


@pytest.mark.parametrize(("others", "permuted", "fit"), [(0, False, True), (77, False, False), (0, True, False)])
def test_labels_that_go_with_images_as_they_are_held_are_not_random(others: int, permuted: bool, fit: bool) -> None:
    labels = torch.randperm(200, generator=torch.Generator().manual_seed(1)) % 2 if permuted else torch.empty(0)
    train = DataLoader(Cropped(others, labels), 50, shuffle=True)
    samples, clock = SimpleNamespace(x_path=(0,), y_path=(1,)), Clock(20)
    evidence: Any = SimpleNamespace(drawn_anew=True, setup=SimpleNamespace(train=train), samples=samples, clock=clock)
    assert labels_fit_as_held(evidence) is fit


@pytest.mark.parametrize(("name", "found"), [("queries", True), ("gallery", False)])
def test_queries_of_a_search_are_validation(tmp_path: Path, name: str, found: bool) -> None:
    """A gallery may have samples that were trained on."""
    file = tmp_path / "script.py"
    file.write_text("recall_at(model, queries, gallery)\n")
    x, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 4
    loader, held = DataLoader(TensorDataset(x, y), 8), TensorDataset(x + 0.1, y)
    frame = frame_of(str(file), **{"loader": loader, name: held})
    val = find_validation(TrainingLoop(print, loader, "here", {}), [frame], x[:8], y[:8])
    assert (val is not None and val.dataset is held) is found


@pytest.mark.parametrize(
    ("kept", "wrong"),
    [("(logits, y)", True), ("(y, logits)", False), ("(logits.sigmoid(), y)", False), ("logits", False)],
)
def test_logits_that_another_method_keeps_are_no_probabilities(kept: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        class Tagger:
            def validation_step(self, batch):
                x, y = batch
                logits = model(x)
                self.outputs.append({kept})
            def on_validation_epoch_end(self):
                logits = torch.cat([one[0] for one in self.outputs])
                return logits > 0.5
        """)
    loss = nn.ModuleDict({"loss": nn.BCEWithLogitsLoss()})
    assert codes(text, values() | {"tagger": loss}, THRESHOLD) == ["eval.threshold"] * wrong
