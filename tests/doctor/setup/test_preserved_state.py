"""Everything that a diagnosis may come across, put back as it was."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from striate.doctor.setup.preserved_state import outside_autocast


@pytest.mark.parametrize("within", [False, True])
def test_weights_that_change_are_cast_anew(within: bool) -> None:
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(1, 4)
    given, made_before = [], torch.autocast("cpu", torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16) if within else nullcontext():
        with outside_autocast():
            for _ in range(2):
                with made_before:
                    given.append(layer(x).detach())
                nn.init.zeros_(layer.weight)
        assert torch.is_autocast_enabled("cpu") == within
    assert bool(given[0].any())
    assert not bool(given[1].any())
