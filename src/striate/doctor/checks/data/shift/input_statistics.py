"""Differences between inputs of validation and training in scale, smoothness and tokens."""

from __future__ import annotations

import math
from contextlib import suppress

import torch

from striate.doctor.checks.data.inputs.scrambled import roughness
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.draws import drawn_twice, noise
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.nearness import first_of_each
from striate.wording import percent, show_shape

MOST = 512
"""The most samples for statistics and predictions."""
FAR, SCALED = 0.5, 3.0
_FEWEST_TOKENS, _MOST_TOKENS = 8, 200_000
TOKENS, CHANCE = 0.1, 4.0
OUTSIDE = 0.02
"""The share of training images on either side of the usual range."""


def deviations_apart(known: torch.Tensor, x: torch.Tensor) -> float:
    """The distance between the means of all values, in standard deviations of training."""
    gap = abs(float(known.double().mean()) - float(x.double().mean()))
    return gap / max(float(known.double().std()), 1e-12)


def far_apart(known: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether the mean or standard deviation of all values is far from that of training."""
    if x.shape[1:] != known.shape[1:]:
        return False
    one, other = float(known.double().std()), float(x.double().std())
    apart = abs(float(known.double().mean()) - float(x.double().mean())) > FAR * max(one, 1e-12)
    return apart or not 1 / (1 + FAR) < other / max(one, 1e-12) < 1 + FAR


def scaled_apart(known: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether the standard deviations of all values differ several times, which normalization of pixels causes, but
    hardly chance."""
    one, other = float(known.double().std()), float(x.double().std())
    return min(one, other) > 0 and max(one, other) > SCALED * min(one, other)


def tokens_apart(known: torch.Tensor, x: torch.Tensor) -> str:
    """The measured share of pairs of neighboring tokens of validation that training lacks, if that is more than chance;
    empty otherwise, and if inputs are not tokens."""
    whole = all(part.ndim == 2 and part.dtype in (torch.int64, torch.int32) for part in (known, x))
    if not whole or min(int(known.min()), int(x.min())) < 0 or min(known.shape[1], x.shape[1]) < 2 or len(known) < 2:
        return ""
    size = max(int(known.max()), int(x.max())) + 1
    if not _FEWEST_TOKENS <= size <= _MOST_TOKENS:
        return ""
    known = known[first_of_each(known)]  # copies have the same pairs in both halves
    pairs = [(part[:, :-1].long() * size + part[:, 1:].long()).flatten() for part in (known, x)]
    half = len(pairs[0]) // 2
    new = float((~torch.isin(pairs[1], pairs[0])).double().mean())
    by_chance = float((~torch.isin(pairs[0][half:], pairs[0][:half])).double().mean())
    if new < max(TOKENS, CHANCE * by_chance):
        return ""
    return (
        f"{percent(new, 0)} of the pairs of neighboring tokens in validation do not occur in training; between two "
        f"halves of training it is {percent(by_chance, 0)}"
    )


def smoothness_apart(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> str:
    """The measured difference if half of the validation images are smoother or rougher than nearly all training images:
    enlarged, blurred or compressed. Empty otherwise, and if draws of a training image differ as much, or by noise that
    would make validation as rough."""
    if not (is_grid(known) and is_grid(x) and known.ndim == x.ndim == 4 and known.shape[1:] == x.shape[1:]):
        return ""
    train, val = (roughness(part[:MOST].double(), 1) for part in (known, x))
    low, high = torch.quantile(train, torch.tensor([OUTSIDE, 1 - OUTSIDE]).to(train)).tolist()
    middle = float(val.median())
    if low <= middle <= high:
        return ""
    usual = float(train.median())
    gap = abs(math.log(middle / usual))
    with suppress(NoEvidence):
        pairs = drawn_twice(evidence)
        for one, other in pairs:
            drawn = roughness(torch.stack([one, other]).double(), 1).log()
            if float(drawn.diff().abs()) > gap / 2:
                return ""
        like = x[:MOST].double()
        like = like + noise(pairs) * torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).double()
        if abs(math.log(float(roughness(like, 1).median()) / usual)) < gap / 2:
            return ""
    return (
        f"neighboring pixels differ by {'less' if middle < low else 'more'} than {middle:.2g} standard deviations "
        f"in half of the validation images, and by {'more' if middle < low else 'less'} than "
        f"{low if middle < low else high:.2g} in {percent(1 - OUTSIDE, 0)} of the training images: validation was "
        "resized, cropped or filtered in another way"
    )


def compared(known: torch.Tensor, x: torch.Tensor) -> str:
    return f"training: {statistics_of(known)}; validation: {statistics_of(x)}"


def statistics_of(x: torch.Tensor) -> str:
    numbers = x.double()
    return (
        f"{show_shape(x.shape[1:])} of {str(x.dtype).removeprefix('torch.')}, mean {float(numbers.mean()):.3g}, "
        f"standard deviation {float(numbers.std(correction=0)):.3g}, {float(numbers.min()):.3g} to "
        f"{float(numbers.max()):.3g}"
    )
