"""Operations that are no multiply–accumulates, as the table of account/observing/arithmetic.py says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from striate.account.summarize import observe


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("form", "axes", "each"),
    [
        ({"mode": "nearest"}, 2, 0),
        ({"mode": "linear"}, 1, 3),
        ({"mode": "bilinear"}, 2, 7),
        ({"mode": "bilinear", "align_corners": True}, 2, 7),
        ({"mode": "bicubic"}, 2, 31),
        ({"mode": "trilinear"}, 3, 15),
    ],
)
def test_interpolation_is_two_for_each_neighbor_but_one(form: dict[str, Any], axes: int, each: int) -> None:
    ledger = observe(nn.Upsample(scale_factor=2, **form), (3, *(4,) * axes))
    assert (ledger.macs, sum(ledger.other_ops.values())) == (0, each * 3 * 8**axes)
    assert ledger.uncounted == ()


class Search(nn.Module):
    """A step of a beam search."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        banned = torch.tensor([0], device=x.device)
        return x.index_fill(-1, banned, -torch.inf).flatten(1).topk(3, dim=1).indices // 7


def test_a_search_has_comparisons_and_quotients_and_nothing_uncounted() -> None:
    ledger = observe(Search(), (3, 7))
    assert ledger.uncounted == ()
    assert ledger.other_ops == {"topk": 21, "floor_divide": 3}
