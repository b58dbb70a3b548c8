"""Mixup and cutmix: what is blended, with what share, always the same."""

from __future__ import annotations

import pytest
import torch

from striate.data.config import AugmentConfig
from striate.training.prepared_batch import mix_batch

MIXUP, CUTMIX = AugmentConfig(mixup=0.4), AugmentConfig(cutmix=1.0)
CLASSES = torch.arange(6)  # of which the partners' targets say who they are


def images(n: int = 6, *grid: int) -> torch.Tensor:
    """Each image has one value, its number: what comes from where is seen in every pixel."""
    return torch.arange(n, dtype=torch.float32)[(...,) + (None,) * (1 + len(grid or (8, 8)))].expand(
        n, 2, *(grid or (8, 8))
    )


@pytest.mark.parametrize("config", [AugmentConfig(), AugmentConfig(mixup=0.0, cutmix=0.0)])
def test_nothing_is_blended_when_it_is_off(config: AugmentConfig) -> None:
    x = images()
    mixed, targets, mix = mix_batch(x, CLASSES, config, 0, 0)
    assert mixed is x
    assert targets is CLASSES
    assert mix is None


def test_one_sample_has_no_partner() -> None:
    assert mix_batch(images(1), CLASSES[:1], MIXUP, 0, 0)[2] is None


@pytest.mark.parametrize("grid", [(), (5,), (8, 8), (3, 4, 5)])
def test_mixup_is_the_weighted_mean_of_two_samples(grid: tuple[int, ...]) -> None:
    x = images(6, *grid) if grid else torch.randn(6, 4)
    mixed, targets, mix = mix_batch(x, CLASSES, MIXUP, 3, 7)
    assert torch.allclose(mixed, mix.share * x + (1 - mix.share) * x[mix.targets])
    assert targets is CLASSES
    assert 0 < mix.share < 1
    assert sorted(mix.targets.tolist()) == list(range(6))


@pytest.mark.parametrize("grid", [(40,), (8, 8), (7, 12), (4, 5, 6)])
def test_cutmix_pastes_one_box_and_the_share_is_that_of_the_pixels(grid: tuple[int, ...]) -> None:
    x = images(6, *grid)
    shares = []
    for step in range(30):
        mixed, _, mix = mix_batch(x, CLASSES, CUTMIX, 0, step)
        from_partner = mixed != x
        assert torch.equal(torch.where(from_partner, x[mix.targets], x), mixed)
        moved = [i for i in range(6) if mix.targets[i] != i]
        for i in moved:
            places = from_partner[i, 0].nonzero()
            assert len(places) / x[0, 0].numel() == pytest.approx(1 - mix.share)
            if len(places):  # a box: as many places as its sides give
                sides = places.amax(0) - places.amin(0) + 1
                assert len(places) == int(sides.prod())
        shares.append(mix.share)
    assert min(shares) < 0.5 < max(shares)


def test_a_mask_is_pasted_with_its_image() -> None:
    x = images()
    masks = x[:, 0].to(torch.uint8)
    for step in range(10):
        mixed, targets, mix = mix_batch(x, masks, CUTMIX, 0, step, paste=True)
        assert mix is None
        assert torch.equal(targets, mixed[:, 0].to(torch.uint8))
    assert not torch.equal(targets, masks)


def test_numbers_as_long_as_a_signal_are_no_mask() -> None:
    x, numbers = images(6, 5), torch.randn(6, 5)
    _, targets, mix = mix_batch(x, numbers, CUTMIX, 0, 1)
    assert targets is numbers
    assert mix is not None


def test_a_part_of_a_blend_has_the_partners_of_its_samples() -> None:
    mix = mix_batch(images(), CLASSES, MIXUP, 0, 5)[2]
    part = mix.part(2, 5)
    assert part.share == mix.share
    assert torch.equal(part.targets, mix.targets[2:5])


def test_it_is_a_function_of_seed_and_step() -> None:
    x = torch.randn(6, 2, 8, 8)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    same = [mix_batch(x, CLASSES, MIXUP, 0, 5)[0] for _ in range(2)]
    assert torch.equal(*same)
    assert torch.equal(state, torch.get_rng_state())
    for key in ((1, 5), (0, 6)):
        assert not torch.equal(mix_batch(x, CLASSES, MIXUP, *key)[0], same[0])


def test_where_both_are_on_a_coin_decides() -> None:
    x = images()
    config = AugmentConfig(mixup=1.0, cutmix=1.0)
    blended = [bool((mix_batch(x, CLASSES, config, 0, step)[0] % 1).any()) for step in range(40)]
    assert 8 < sum(blended) < 32


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("config", [MIXUP, CUTMIX])
def test_the_memory_format_is_kept(layout, config) -> None:
    x = torch.randn(6, 3, 8, 8).contiguous(memory_format=layout)
    assert mix_batch(x, CLASSES, config, 0, 0)[0].is_contiguous(memory_format=layout)


def test_a_larger_alpha_blends_more_evenly() -> None:
    spread = []
    for alpha in (0.1, 8.0):
        shares = [mix_batch(images(), CLASSES, AugmentConfig(mixup=alpha), 0, k)[2].share for k in range(60)]
        spread.append(sum(abs(s - 0.5) for s in shares) / 60)
    assert spread[1] < 0.2 < 0.4 < spread[0]
