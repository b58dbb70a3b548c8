"""`data.split-overlap` of groups: are samples of one patient, speaker or recording on both sides of a split?"""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from for_checks.asked import asked, perceptron
from for_checks.scripts import SCRIPT, found, values
from striate.doctor.checks.data.splits.groups_shared import GROUPS_SHARED
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize(("alike", "by_plate"), [(True, False), (True, True), (False, False)])
def test_photographs_of_one_plate_lie_on_one_side(alike: bool, by_plate: bool, columns: bool) -> None:
    """Of which arrays hold images, plates and labels, or a dictionary of arrays."""
    generator = torch.Generator().manual_seed(0)
    plates = torch.arange(180) // 3
    things = torch.randn(60, 1, 8, 8, generator=generator)[plates]
    images = things + (0.1 if alike else 5.0) * torch.randn(180, 1, 8, 8, generator=generator)
    order = torch.arange(180) if by_plate else torch.randperm(180, generator=generator)
    names = {"images": images.numpy(), "plates": plates.numpy(), "labels": (plates % 2).numpy()}
    held: dict[str, Any] = {"photographs": names} if columns else names
    said: dict[str, str] = {}
    with suppress(NoEvidence):
        said = found(
            SCRIPT, values() | held | {"trn_idx": order[:120].numpy(), "val_idx": order[120:].numpy()}, [GROUPS_SHARED]
        )
    assert list(said) == ["data.split-overlap"] * (alike and not by_plate)


class Read(Dataset[Any]):
    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.images[number], self.targets[number]


@pytest.mark.parametrize(
    ("by_clip", "target", "names", "wrong"),
    [
        (False, "own", ("train", "val"), True),
        (False, "own", ("train_rows", "test_rows"), True),
        (True, "own", ("train", "val"), False),
        (False, "clip", ("train", "val"), False),  # the number that is asked for is no group
    ],
)
def test_frames_of_a_clip_whose_quantity_is_asked_lie_on_one_side(
    by_clip: bool, target: str, names: tuple[str, str], wrong: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    clip = torch.arange(240) // 4
    scenes = torch.randn(60, 1, 8, 8, generator=generator)[clip]
    images = scenes + 0.4 * torch.randn(240, 1, 8, 8, generator=generator)
    wanted = clip.float() if target == "clip" else torch.randn(240, generator=generator)
    order = torch.arange(240) if by_clip else torch.randperm(240, generator=generator)
    train, val = order[:160], order[160:]
    loaders = (DataLoader(Read(images[rows], wanted[rows, None]), batch_size=32) for rows in (train, val))
    given = {"images": images.numpy(), "clip": clip.numpy(), names[0]: train.numpy(), names[1]: val.numpy()}
    tree = ast.parse("for x, y in loader:\n    pass\n")
    source = ScriptSource({"train.py": tree}, given, ("train.py", 1, 2), 5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(GROUPS_SHARED, model, next(loaders), val=next(loaders), task="regress", source=source)
    assert [finding.code for finding in said] == ["data.split-overlap"] * wrong


@pytest.mark.parametrize(
    ("split", "by_plate", "wrong"),
    [
        ("splitter.split(images, labels, groups=plates)", False, True),
        ("splitter.split(images, labels, plates)", False, True),
        ("splitter.split(images, labels, groups=plates)", True, False),
        ("splitter.split(images, labels)", False, False),
    ],
)
def test_groups_that_a_splitter_is_given_lie_on_one_side(split: str, by_plate: bool, wrong: bool) -> None:
    """Whatever the images look like."""
    generator = torch.Generator().manual_seed(0)
    plates = torch.arange(180) // 3
    images = torch.randn(180, 1, 8, 8, generator=generator)
    order = torch.arange(180) if by_plate else torch.randperm(180, generator=generator)
    names = {"images": images.numpy(), "plates": plates.numpy(), "labels": (plates % 2).numpy()}
    names |= {"trn_idx": order[:120].numpy(), "val_idx": order[120:].numpy()}
    said: dict[str, str] = {}
    with suppress(NoEvidence):
        said = found(f"trn_idx, val_idx = next({split})\n{SCRIPT}", values() | names, [GROUPS_SHARED])
    assert list(said) == ["data.split-overlap"] * wrong


class Scans(Dataset[Any]):
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.zeros(1, 8, 8), self.rows[number]["target"]


@pytest.mark.parametrize(
    ("key", "by_patient", "wrong"),
    [("patient_id", False, True), ("patient_id", True, False), ("user_id", False, False), ("image_id", False, False)],
)
def test_each_patient_is_on_one_side_of_the_split(key: str, by_patient: bool, wrong: bool) -> None:
    rows = [{"image": f"{n}.png", key: n // 3, "target": n % 2} for n in range(120)]
    order = range(120) if by_patient else torch.randperm(120, generator=torch.Generator().manual_seed(0)).tolist()
    data, chosen = Scans(rows), list(order)
    train, val = (DataLoader(Subset(data, part), 16) for part in (chosen[:90], chosen[90:]))
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(GROUPS_SHARED, perceptron(), train, val=val)
    assert ["`patient_id`" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize("by_plate", [False, True])
def test_masks_of_the_outermost_function_lie_on_one_side(by_plate: bool) -> None:
    """A function further in has a batch of the name of the images."""
    generator = torch.Generator().manual_seed(0)
    plates = torch.arange(180) // 3
    images = torch.randn(60, 1, 8, 8, generator=generator)[plates]
    images = images + 0.1 * torch.randn(180, 1, 8, 8, generator=generator)
    folds = plates % 5 if by_plate else torch.randint(5, (180,), generator=generator)
    names = {"images": images.numpy(), "plates": plates.numpy(), "train": (folds > 0).numpy()}
    names["valid"] = ~names["train"]
    tree = ast.parse("for x, y in loader:\n    pass\n")
    source = ScriptSource({"a.py": tree}, names | {"images": images[:16]}, ("a.py", 1, 2), 5, outermost=names)
    loader = DataLoader(Read(images, plates % 2), batch_size=32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(GROUPS_SHARED, model, loader, val=loader, task="classify", source=source)
    assert [finding.code for finding in said] == ["data.split-overlap"] * (not by_plate)
