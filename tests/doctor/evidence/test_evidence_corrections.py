"""Ways in which validation inputs may have been prepared otherwise than training inputs, undone."""

from __future__ import annotations

import pytest
import torch

from striate.doctor.evidence.corrections import corrections


@pytest.mark.parametrize(("factor", "offered"), [(1.01, False), (1.3, True)])
def test_what_is_apart_by_chance_is_not_put_right(factor: float, offered: bool) -> None:
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert any("scale" in way.what for way in corrections(x, factor * x)) is offered


def test_signals_have_no_light_and_dark() -> None:
    def offered(*shape: int) -> bool:
        return any("light" in way.what for way in corrections(torch.randn(8, *shape), torch.randn(8, *shape)))

    assert offered(1, 16, 16)
    assert not offered(1, 64)
