"""Which pairs of embeddings a loss pulls together and which it pushes apart, by the gradients of both."""

from __future__ import annotations

import pytest
import torch

from for_checks.sequences import tones
from striate.doctor.evidence.pairs import _are_signals, _stacked, input_distances


def test_spectra_are_of_signals_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    one, again, other = (tones(torch.full((8,), k), generator) for k in (1, 1, 2))
    assert float(input_distances(one, again).max()) < float(input_distances(one, other).min())
    assert _are_signals(one)
    assert not _are_signals(torch.randn(64, 256, generator=generator))
    assert not _are_signals(one[:, :100])


def test_images_are_near_wherever_they_show_something() -> None:
    image, other = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(input_distances(image, image.roll((2, -1), (2, 3)))) < 1e-5
    assert float(input_distances(image, other)) > 0.3


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_sets_of_a_batch_are_told_in_any_order(order: tuple[int, ...]) -> None:
    sets = torch.randn(3, 4, 5)
    assert _stacked(torch.cat([sets[place] for place in order]), tuple(sets)) == 3
    assert _stacked(torch.randn(12, 5), tuple(sets)) == 1
