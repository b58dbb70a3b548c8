"""Exact and near copies among samples, and how many there would be by chance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from striate.doctor.evidence.features import channels_first, coarse, is_grid


def keys_of(x: torch.Tensor) -> list[bytes]:
    """The bytes of each sample of (N, …), which are equal for equal samples; −0 becomes 0."""
    plain = (x + 0 if x.is_floating_point() else x).contiguous()
    rows = plain.reshape(len(plain), -1) if plain.numel() else plain.reshape(len(plain), 0)
    if rows.dtype == torch.bfloat16:
        rows = rows.float()
    return [row.tobytes() for row in rows.numpy()]


def first_of_each(x: torch.Tensor) -> torch.Tensor:
    """Positions of the samples that equal no earlier sample."""
    seen: dict[bytes, int] = {}
    for number, key in enumerate(keys_of(x)):
        seen.setdefault(key, number)
    return torch.tensor(sorted(seen.values()), dtype=torch.long)


MOST = 2048
TENTH = 10
NEAR = 0.3
"""A sample is a near copy of its nearest neighbor where their distance is below this share of the distance to the tenth
neighbor. That is rare among unrelated samples, whose distances are similar in many dimensions."""


def same_in(x: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(N,) for each sample of `x` (N, …), the position of an equal sample in `known`; -1 where there is none."""
    if x.shape[1:] != known.shape[1:] or x.dtype != known.dtype:
        return torch.full((len(x),), -1)
    places = {key: number for number, key in reversed(list(enumerate(keys_of(known))))}
    return torch.tensor([places.get(key, -1) for key in keys_of(x)], dtype=torch.long)


def copies_in(x: torch.Tensor) -> torch.Tensor:
    """(N,) for each sample of `x` (N, …), the position of the first sample that equals it, perhaps its own."""
    return same_in(x, x)


def columns_shuffled(x: torch.Tensor) -> torch.Tensor:
    """A table (N, D) with each column shuffled separately: any copies in it are there by chance."""
    flat = x.reshape(len(x), -1)
    generator = torch.Generator().manual_seed(0)
    return torch.stack([column[torch.randperm(len(flat), generator=generator)] for column in flat.T], dim=1)


@dataclass(frozen=True)
class Neighbors:
    """The nearest neighbors of samples."""

    nearest: torch.Tensor
    """(N,) position of the nearest neighbor."""
    ratio: torch.Tensor
    """(N,) distance to the nearest neighbor over the distance to the tenth."""

    @property
    def near(self) -> torch.Tensor:
        """(N,) whether a sample is a near copy of its nearest neighbor."""
        return self.ratio < NEAR


def neighbors(x: torch.Tensor, known: torch.Tensor, *, same: bool = False) -> Neighbors:
    """Neighbors of samples (N, D) among `known` (M, D), both results of `comparable`. `same`: both are the same
    samples, and none is its own neighbor."""
    distances = torch.cdist(x, known)
    if same:
        distances.fill_diagonal_(float("inf"))
    found = distances.topk(min(TENTH, distances.shape[1] - int(same)), dim=1, largest=False)
    tenth = found.values[:, -1].clamp_min(1e-12)
    return Neighbors(found.indices[:, 0], found.values[:, 0] / tenth)


def comparable(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(N, D) vectors to compare samples by. Grids are averaged over blocks and have mean 0 and norm 1, so that
    brightness and contrast do not count; tables are standardized by the columns of `like`."""
    if is_grid(x):
        flat = coarse(channels_first(x.float())).flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        length: torch.Tensor = flat.norm(dim=1, keepdim=True).clamp_min(1e-9)
        return flat / length
    flat, base = x.float().reshape(len(x), -1), like.float().reshape(len(like), -1)
    deviation = base.std(0, correction=0)
    return (flat - base.mean(0)) / torch.where(deviation > 1e-12, deviation, torch.ones(()))


def correlation_over_shifts(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The highest correlation of each pair of images (N, C, H, W) over all shifts, -1 to 1 (N,); 0 for blank images."""
    return correlation_by_shift(one, other).flatten(1).amax(1)


def correlation_by_shift(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The correlation of each pair of images (N, C, H, W) at each shift (N, H, W)."""
    a, b = (part - part.mean((1, 2, 3), keepdim=True) for part in (one.float(), other.float()))
    products = torch.fft.irfft2(torch.fft.rfft2(a) * torch.fft.rfft2(b).conj(), s=a.shape[-2:]).sum(1)
    size = a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    found: torch.Tensor = products / size.clamp_min(1e-12)[:, None, None]
    return found
