"""States, rates, masks and metrics that scripts keep in code of their own: faults that were met, and healthy twins."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_met_in_second_heads import asked_or_silent
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.model.evaluates_untrained import _are_chosen
from striate.doctor.checks.optim.lr_schedule import _ends_early
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(("added", "wrong"), [("mean(1) / y", False), ("mean() / 2", True)])
def test_errors_of_each_sample_in_units_of_its_own(added: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y).sum().item()", f"errors.append(outputs.abs().{added})")
    text = text.replace("    accuracy = correct / total\n", "    accuracy = torch.stack(errors).mean().item()\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize(("test", "chosen"), [("score > best", True), ("state is None", False), ("", False)])
def test_copied_tensors_by_name_are_the_best_state(test: str, chosen: bool) -> None:
    model = nn.Linear(2, 2)
    kept = "state = {k: v.clone() for k, v in model.state_dict().items()}"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    names = {"state": {name: tensor.clone() for name, tensor in model.state_dict().items()}}
    source = ScriptSource({"train.py": ast.parse(text + "    train(x, y)\n")}, names, ("train.py", 1, 4), 5)
    setup: Any = SimpleNamespace(source=source, model=model)
    assert _are_chosen(setup) is chosen


RISE = [0.05 * i for i in range(1, 21)]


@pytest.mark.parametrize(
    ("rates", "wrong"),
    [
        (RISE + [0.1] * 180, True),
        (RISE + [1.0] * 5 + [0.1] * 175, False),  # a step down, as people mean it
        (RISE + [0.1] * 60, False),
        (RISE + [0.5] * 180, False),
    ],
)
def test_a_rate_that_drops_from_the_peak_of_its_warmup(rates: list[float], wrong: bool) -> None:
    evidence: Any = SimpleNamespace(
        trial=SimpleNamespace(rows=rates), setup=SimpleNamespace(source=None, train=range(len(rates)))
    )
    assert (_ends_early(evidence, rates, [(rates, len(rates), "step")]) is not None) is wrong


def squares(count: int = 32) -> tuple[Tensor, Tensor]:
    """Noisy images of one bright square each, and where it is."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, 12, 12, dtype=torch.long)
    for mask, (top, left) in zip(masks, torch.randint(0, 9, (count, 2), generator=generator).tolist(), strict=True):
        mask[top : top + 4, left : left + 4] = 1
    return masks[:, None] + 0.3 * torch.randn(count, 1, 12, 12, generator=generator), masks


class Flipped(Dataset[Any]):
    """Images mirrored now and then along one axis, and two maps of the squares, which change places, along another."""

    def __init__(self, axis: int) -> None:
        self.axis, self.images, self.masks = axis, *squares(24)
        self.flips = torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image, mask = self.images[number], self.masks[number].float()
        maps = torch.stack([mask, 2 * mask])
        if torch.rand((), generator=self.flips) < 0.5:
            image, maps = image.flip(self.axis), maps.flip(-1)[[1, 0]]
        return image, maps


@pytest.mark.parametrize(("axis", "wrong"), [(-2, True), (-1, False)])
def test_maps_are_flipped_as_their_images_are(axis: int, wrong: bool) -> None:
    model = nn.Conv2d(1, 2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked_or_silent(
        LEFT_BEHIND, model, DataLoader(Flipped(axis), 8), loss=nn.MSELoss(), optimizer=optimizer, task="regress"
    )
    assert [one.code for one in said] == ["data.targets-left-behind"] * wrong


@pytest.mark.parametrize(("turned", "two"), [(True, True), (True, False), (False, False)])
def test_masks_lie_as_their_images_do(turned: bool, two: bool) -> None:
    """As class numbers, and as 0 and 1 with a point."""
    images, masks = squares()
    data = TensorDataset(images.transpose(2, 3) if turned else images, masks[:, None].float() if two else masks)
    model = nn.Conv2d(1, 1 if two else 2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = nn.BCEWithLogitsLoss() if two else nn.CrossEntropyLoss()
    said = asked_or_silent(LEFT_BEHIND, model, DataLoader(data, 16), loss=loss, optimizer=optimizer)
    assert [one.code for one in said] == ["data.targets-left-behind"] * turned
