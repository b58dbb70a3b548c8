"""Runners with hooks, taggers and recommenders: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from test_met_in_fixmatch_and_forecasts import codes
from test_met_in_plates_and_buffers import frame_of
from test_met_in_second_heads import TwoHeads, asked_or_silent, stepped
from test_source_checks import SCRIPT, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.eval.predicted import WRONG_AXIS
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.script.validation_data import find_validation


@pytest.mark.parametrize("classes", ["cross entropy", "by hand", "as numbers"])
def test_a_quantity_beside_classes_is_not_their_numbers(classes: str) -> None:
    numbers = torch.Generator().manual_seed(0)
    x, speed, kinds = torch.randn(128, 64, generator=numbers), torch.rand(128, generator=numbers), torch.arange(128) % 4

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        logits, found = model(batch[0])
        wanted = batch[2].float() if classes == "as numbers" else batch[1]
        loss = functional.smooth_l1_loss(found, wanted)
        if classes == "cross entropy":
            loss = loss + functional.cross_entropy(logits, batch[2])
        if classes == "by hand":
            loss = loss - logits.log_softmax(1).gather(1, batch[2][:, None]).mean()
        return stepped(model, loss, optimizer)

    model, loader = TwoHeads(4), DataLoader(TensorDataset(x, speed, kinds), 32)
    said = asked_or_silent(WRONG_FOR_TASK, model, loader, step=step, task="classify")
    assert [one.code for one in said] == ["loss.wrong-for-task"] * (classes == "as numbers")


@pytest.mark.parametrize("counted", ["words", "tags", "next words"])
def test_a_mask_beside_tags_leaves_no_tag_out(counted: str) -> None:
    """Batches are as long as their longest row, and 0 fills rows up; of next tokens some are left out on purpose."""
    numbers, batches = torch.Generator().manual_seed(0), list[Any]()
    for longest in (8, 7, 10, 6):
        words = torch.randint(1, 9, (16, longest), generator=numbers)
        for row in range(1, 16):
            words[row, 3 + row % (longest - 2) :] = 0
        tags = words.roll(-1, 1) if counted == "next words" else torch.where(words > 0, words % 3, 0)
        batches.append((words, tags, {"words": words > 0, "tags": tags > 0, "next words": tags != 5}[counted]))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        words, tags, mask = batch
        losses = functional.cross_entropy(model(words).flatten(0, 1), tags.flatten(), reduction="none")
        return stepped(model, (losses * mask.flatten()).sum() / mask.sum(), optimizer)

    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
    said = asked_or_silent(IGNORED_CLASS, model, batches, step=step)
    assert [one.code for one in said] == ["loss.ignored-class"] * (counted == "tags")


@pytest.mark.parametrize(("whole", "wrong"), [("loader", True), ("val_loader", False)])
def test_hits_among_the_first_few_are_a_share_of_those_asked_for(whole: str, wrong: bool) -> None:
    text = SCRIPT.replace("(predicted == y).sum()", "outputs.topk(3, dim=1).indices.eq(y[:, None]).any(1).sum()")
    text = text.replace("accuracy = correct / total", f"accuracy = correct / len({whole}.dataset)")
    assert codes(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(("name", "found"), [("query_set", True), ("gallery_set", False)])
def test_an_object_of_the_scripts_own_keeps_data_for_validation(tmp_path: Path, name: str, found: bool) -> None:
    (file := tmp_path / "script.py").write_text("trainer.fit()\n")
    x, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 4
    loader, held = DataLoader(TensorDataset(x, y), 8), TensorDataset(x + 0.1, y)
    trainer = type("Trainer", (), {"__module__": "__main__"})()
    setattr(trainer, name, held)
    frame = frame_of(str(file), loader=loader, self=trainer)
    val = find_validation(TrainingLoop(print, loader, "here", {}), [frame], x[:8], y[:8])
    assert (val is not None and val.dataset is held) is found


@pytest.mark.parametrize(
    ("scores", "axis", "column", "wrong"),
    [
        ("query @ gallery.t()", 0, "wanted[:, None]", True),
        ("query @ gallery.t()", 1, "wanted[:, None]", False),
        ("gallery @ query.t()", 0, "wanted[None]", False),
        ("gallery @ query[0]", 0, "kinds[:, None]", False),
    ],
)
def test_the_nearest_of_each_row_lie_along_axis_1(scores: str, axis: int, column: str, wrong: bool) -> None:
    """Of one sample's scores, labels are counted by kind."""
    text = SCRIPT + textwrap.dedent(f"""
        def recall(query, wanted, gallery, labels):
            similarity = {scores}
            nearest = similarity.topk(1, dim={axis}).indices
            return (labels[nearest] == {column}).any(1).float().mean()
        """)
    assert codes(text, values(), WRONG_AXIS) == ["eval.wrong-axis"] * wrong
