"""`data.random-validation`: does validation show the same images each time?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from for_checks.asked import asked
from for_checks.pictures import Labeled
from striate.doctor.checks.data.random_validation import RANDOM_VALIDATION


def with_nan(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x == x.flatten()[0], torch.nan, x)


@pytest.mark.parametrize("whole", [lambda x: x, with_nan])
@pytest.mark.parametrize("augmented", [True, False])
def test_validation_that_is_augmented_as_training_is(augmented: bool, whole: Any) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    train = Labeled(lambda x: whole(x) + 0.1 * torch.randn_like(x))
    val = train if augmented else Labeled(whole)
    told = asked(RANDOM_VALIDATION, model, DataLoader(train, 32), val=DataLoader(val, 32))
    assert [f.code for f in told] == ["data.random-validation"] * augmented
