"""One interpolation moves images as whole pixels do, where it can, whatever fills what comes in from outside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.augment.crop import crop_batch
from striate.data.augment.resample import Movement, resample
from striate.data.augment.warp import shift_batch

FILLS = st.sampled_from(["edge", "reflect", "zero"])


@given(
    seed=st.integers(0, 2**32),
    side=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    reach=st.integers(0, 15),
    fill=FILLS,
    nearest=st.booleans(),
)
def test_shifts_and_mirrors_by_interpolation_are_the_exact_ones(seed, side, reach, fill, nearest) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (4, 2, *side), dtype=torch.uint8, generator=generator)
    mirror = torch.randint(0, 2, (2, 4), generator=generator).bool().unbind(0)
    shift = torch.randint(-reach, reach + 1, (4, 2), generator=generator)
    got = resample(x, Movement(mirror, shift, None, None, fill), nearest=nearest)
    assert torch.equal(got, shift_batch(x, mirror, shift, fill))


@given(seed=st.integers(0, 2**32), fill=st.sampled_from(["edge", "zero"]))
def test_a_box_by_interpolation_is_the_crop_and_ends_where_it_does(seed: int, fill: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (3, 1, 16, 24), dtype=torch.uint8, generator=generator)
    box = torch.tensor([[2, 3, 8, 12], [0, 0, 16, 24], [5, 20, 1, 4]]).double()
    mirror = torch.randint(0, 2, (2, 3), generator=generator).bool().unbind(0)
    shares = (box / torch.tensor([16, 24, 16, 24])).float()
    still = torch.zeros(3, 2, dtype=torch.int64)
    got = resample(x, Movement(mirror, still, shares, None, "edge"))
    assert int((got.int() - crop_batch(x, box, mirror).int()).abs().max()) <= 1
    # What is shifted in is what lies around the cropped image.
    shift = torch.tensor([[1, -2], [-3, 0], [4, 5]])
    moved = resample(x, Movement(mirror, shift, shares, None, fill))
    expected = shift_batch(got, (torch.zeros(3, dtype=torch.bool),) * 2, shift, fill)
    assert int((moved.int() - expected.int()).abs().max()) <= 1


def test_reflection_goes_on_from_the_outermost_pixels() -> None:
    x = torch.arange(0, 250, 10, dtype=torch.uint8).view(1, 1, 1, 25).expand(1, 1, 25, 25)
    half = torch.eye(2, dtype=torch.float64)[None] * 0.5
    mirror = (torch.zeros(1, dtype=torch.bool),) * 2
    small = resample(x.clone(), Movement(mirror, torch.zeros(1, 2).long(), None, half, "reflect"))
    row = small[0, 0, 12].int()
    assert row.tolist() == [abs(20 * k - 120) if k < 19 else 480 - (20 * k - 120) for k in range(25)]


def test_parts_of_a_batch_are_moved_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randint(0, 256, (7, 3, 9, 9), dtype=torch.uint8)
    linear = torch.eye(2, dtype=torch.float64) + 0.3 * torch.rand(7, 2, 2, dtype=torch.float64)
    mirror = (torch.arange(7) % 2 == 0, torch.arange(7) % 3 == 0)
    for fill in ("edge", "reflect", "zero"):
        movement = Movement(mirror, torch.arange(14).view(7, 2) - 7, None, linear, fill)
        whole = resample(x, movement)
        monkeypatch.setattr("striate.data.memory_layout._VALUES", 500)
        assert torch.equal(resample(x, movement), whole)
        monkeypatch.undo()
