"""The example of learned invariance shows what it says, also after little training."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "rotation_invariance.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("rotation_invariance", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_orientations_that_were_learned_are_recognized_and_others_are_not(example, capsys) -> None:
    curves = example.main(epochs=4, seeds=1, out=Path("curve.png"))
    at = {angle: k for k, angle in enumerate(example.ANGLES)}
    pooled, upright, single = (curves[example.CONTESTANTS[k].name][0] for k in (0, 3, 2))
    assert pooled[at[45]] > upright[at[45]] + 0.15, "the network was shown turned digits, and knows them"
    assert pooled[at[45]] > single[at[45]] + 0.05, "one detector a class cannot stand for all orientations"
    assert pooled[at[45]] > pooled[at[90]] + 0.15, "nothing was learned about 90 degrees"
    with Image.open("curve.png") as image:
        assert image.width == 1100
    assert "62,800" in capsys.readouterr().out


def test_a_quarter_turn_moves_every_pixel_and_four_of_them_none(example) -> None:
    x = torch.rand(2, 1, 5, 5)
    quarter = torch.full((2,), 90.0)
    torch.testing.assert_close(example.turn(x, quarter), torch.rot90(x, 1, (2, 3)), rtol=0, atol=1e-5)
    torch.testing.assert_close(example.turn(x, 4 * quarter), x, rtol=0, atol=1e-5)
