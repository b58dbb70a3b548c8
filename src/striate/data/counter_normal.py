"""Normally distributed random numbers as a pure function of a key and ids, computed on the device that needs them."""

from __future__ import annotations

import math

import torch

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def normals(key: int, ids: torch.Tensor, count: int) -> torch.Tensor:
    """(B, count) float32, standard normal: for each of (B,) int64 ids, `count` numbers that depend only on `key` and
    the id; on the device of the ids.

    The random bits are those of `uniforms`. The transform of Box and Muller (1958) makes two numbers of each 64; none
    is larger than 6.8.
    """
    rows = _mix(ids * _signed(_GOLDEN) + _signed(key))[:, None]
    columns = torch.arange(1, (count + 1) // 2 + 1, device=ids.device) * _signed(_GOLDEN)
    bits = _mix(rows + columns)
    # Adding half a step keeps the argument of the logarithm above 0; each half of the bits makes a 32-bit number.
    radius = (-2 * torch.log((_right(bits, 32).float() + 0.5) * 2.0**-32)).clamp_(min=0).sqrt_()
    angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi * 2.0**-32)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def _mix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finalizer, as in `counter_random`; torch has no unsigned product, and the bits are the same."""
    x = (x ^ _right(x, 30)) * _signed(_FIRST)
    x = (x ^ _right(x, 27)) * _signed(_SECOND)
    return x ^ _right(x, 31)


def _right(x: torch.Tensor, places: int) -> torch.Tensor:
    """Logical right shift; torch's shift repeats the sign bit."""
    return (x >> places) & ((1 << (64 - places)) - 1)


def _signed(number: int) -> int:
    """The int64 with the same 64 bits as a number from 0 to 2⁶⁴ − 1."""
    return number - 2**64 if number >= 2**63 else number
