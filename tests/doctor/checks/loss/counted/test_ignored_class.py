"""`loss.ignored-class`: do all real targets count in the loss?"""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, digits, loop, perceptron, stepped
from for_checks.sequences import Translator, padded_sentences, translating, translation_batches
from for_checks.steps import stepping
from striate.doctor.checks.loss.counted.ignored_class import IGNORED_CLASS
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.setup.script_source import ScriptSource


def without_three(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs[y != 3], y[y != 3])


WITHOUT_THREE = torch.ones(10)
WITHOUT_THREE[3] = 0


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("loss", [without_three, nn.CrossEntropyLoss(weight=WITHOUT_THREE)])
def test_a_class_without_gradient_is_named(loss: Any) -> None:
    (found,) = asked(IGNORED_CLASS, perceptron(), digits(), **stepping(loss))
    assert "targets of class 3" in found.measured
    assert "nn.CrossEntropyLoss()" in found.remedy


@pytest.mark.parametrize("wrong", [True, False])
def test_a_class_that_a_small_first_batch_lacks_is_named(wrong: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, y, ignore_index=3 if wrong else -100)

    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    order = torch.cat([(y != 3).nonzero()[:8, 0], torch.arange(400)])
    found = asked(IGNORED_CLASS, perceptron(), DataLoader(TensorDataset(x[order], y[order]), 8), **stepping(loss))
    assert ["those of class 3" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize("wrong", [True, False])
def test_small_batches_are_watched_for_longer(wrong: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, y, weight=WITHOUT_THREE if wrong else None)

    found = asked(IGNORED_CLASS, perceptron(), digits(8), **stepping(loss))
    assert ["in 40 steps no gradient" in one.measured for one in found] == [True] * wrong


def two_classes() -> tuple[nn.Module, DataLoader[Any]]:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    model = perceptron()
    model[-1] = nn.Linear(32, 1)
    return nn.Sequential(model, nn.Flatten(0)), DataLoader(TensorDataset(x, y % 2), 32)


@pytest.mark.parametrize("signed", [False, True])
def test_a_margin_wants_labels_with_signs(signed: bool) -> None:
    def margin(outputs: Tensor, y: Tensor) -> Tensor:
        return functional.relu(1 - (2 * y - 1 if signed else y) * outputs).mean()

    found = asked(IGNORED_CLASS, *two_classes(), **stepping(margin))
    assert ["2 * labels - 1" in finding.remedy for finding in found] == [True] * (not signed)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("loss", [nn.NLLLoss(), nn.CrossEntropyLoss(), nn.MultiMarginLoss()])
def test_losses_of_all_classes_are_let_pass(loss: Any) -> None:
    model = perceptron()
    if isinstance(loss, nn.NLLLoss):
        model = nn.Sequential(model, nn.LogSoftmax(1))
    assert not asked(IGNORED_CLASS, model, digits(), **stepping(loss))


def test_a_mask_after_the_targets_is_no_class() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    known = (x[:, 0] > 0).float()
    loader = DataLoader(TensorDataset(x, x[:, 1], known), 32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch[:2], optimizer, lambda o, y: ((o[:, 0] - y).square() * batch[2]).mean())

    assert not asked(IGNORED_CLASS, nn.Linear(64, 1), loader, step=step)


@pytest.mark.parametrize("ignored", [0, -100])
def test_padding_is_known_in_batches_of_the_scripts_own_class(ignored: int) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        scores = model(batch.given).flatten(0, 1)
        loss = functional.cross_entropy(scores, batch.wanted.flatten(), ignore_index=ignored)
        return stepped(loss, optimizer)

    findings = []
    for check in (IGNORED_CLASS, PADDING_COUNTED):
        model = nn.Sequential(nn.Embedding(12, 8), nn.Linear(8, 12))
        findings += asked(check, model, padded_sentences(), step=step, optimizer=torch.optim.Adam(model.parameters()))
    assert [one.code for one in findings] == ["loss.padding-counted"] * (ignored < 0)


@pytest.mark.parametrize(
    ("names", "tags", "end", "wrong"),
    [
        ({"EOS": 0}, False, 0, True),
        ({"vocab": {"<pad>": 0, "</s>": 0}}, False, 0, True),
        ({"cfg": SimpleNamespace(eos_id=0)}, False, 0, True),
        ({"end": 0}, False, 0, False),
        ({"EOS": 0}, False, 2, False),
        ({"EOS": 0}, True, 0, False),
    ],
)
def test_an_end_of_sentences_that_is_padding_is_never_learned(
    names: dict[str, Any], tags: bool, end: int, wrong: bool
) -> None:
    numbers = torch.Generator().manual_seed(0)
    rows = torch.zeros(24, 9, dtype=torch.long)
    for number, row in enumerate(rows):
        length = 3 + number % 5
        row[0], row[1 + length] = 1, end
        row[1 : 1 + length] = torch.randint(3, 9, (length,), generator=numbers)
    wanted = torch.where(rows > 0, rows * 5 % 7 + 1, 0)[:, :-1] if tags else rows[:, 1:]

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = functional.cross_entropy(model(batch[0]).transpose(1, 2), batch[1], ignore_index=0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    source = ScriptSource({"train.py": ast.parse("step()")}, names, ("train.py", 1, 1), 5)
    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
    found = asked(IGNORED_CLASS, model, [(rows[:, :-1], wanted)] * 3, step=step, source=source)
    assert [f.code for f in found] == ["loss.ignored-class"] * wrong


@pytest.mark.parametrize("counted", ["words", "tags", "next words"])
def test_a_mask_for_tags_excludes_no_tag(counted: str) -> None:
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
        return stepped((losses * mask.flatten()).sum() / mask.sum(), optimizer)

    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
    findings = asked_in_script(IGNORED_CLASS, model, batches, step=step)
    assert [one.code for one in findings] == ["loss.ignored-class"] * (counted == "tags")


@pytest.mark.parametrize("ignored", [pytest.param(0, marks=pytest.mark.slow), 5])
def test_what_fills_columns_up_may_be_left_out(ignored: int) -> None:
    findings = asked_in_script(IGNORED_CLASS, Translator(), translation_batches(), **translating(ignored))
    assert [one.code for one in findings] == ["loss.ignored-class"] * (ignored == 5)


def test_a_class_in_a_batch_with_void_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 4, (64, 6, 6), generator=generator)  # 3 is void
    data = DataLoader(TensorDataset(torch.randn(64, 1, 6, 6, generator=generator), maps), 8)
    model = nn.Conv2d(1, 3, 3, padding=1)

    def step(lost: int) -> Any:
        def stepped(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
            x, y = batch
            counts = ((y != 3) & (y != lost)).float()
            target = torch.nn.functional.one_hot(y.clamp(max=2), 3).permute(0, 3, 1, 2).float()
            each = torch.nn.functional.binary_cross_entropy_with_logits(model(x), target, reduction="none")
            optimizer.zero_grad()
            value = (each * counts[:, None]).mean()
            value.backward()
            optimizer.step()
            return value.detach()

        return stepped

    (finding,) = asked(IGNORED_CLASS, model, data, step=step(0), task="classify")
    assert "class 0, " in finding.measured
    assert not asked(IGNORED_CLASS, model, data, step=step(-1), task="classify")
