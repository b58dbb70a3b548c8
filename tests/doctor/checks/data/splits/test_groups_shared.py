"""`data.split-overlap` of groups: are several samples of one patient, speaker or recording on both sides of a split?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from for_checks.asked import asked, perceptron
from for_checks.scripts import SCRIPT, found, values
from striate.doctor.checks.data.splits.groups_shared import GROUPS_SHARED
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


@pytest.mark.parametrize(("alike", "by_plate"), [(True, False), (True, True), (False, False)])
def test_photographs_of_one_plate_lie_on_one_side(alike: bool, by_plate: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    plates = torch.arange(180) // 3
    things = torch.randn(60, 1, 8, 8, generator=generator)[plates]
    images = things + (0.1 if alike else 5.0) * torch.randn(180, 1, 8, 8, generator=generator)
    order = torch.arange(180) if by_plate else torch.randperm(180, generator=generator)
    names = {"images": images.numpy(), "plates": plates.numpy(), "labels": (plates % 2).numpy()}
    said: dict[str, str] = {}
    with suppress(NoEvidence):
        said = found(
            SCRIPT, values() | names | {"trn_idx": order[:120].numpy(), "val_idx": order[120:].numpy()}, [GROUPS_SHARED]
        )
    assert list(said) == ["data.split-overlap"] * (alike and not by_plate)


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
