"""Augmentations of sounds: shift, gain, speed, and blanked spans of time or bands of frequency.

A batch has spectrograms (B, 1, bands, frames) uint8 in half decibels, or waveforms (B, 1, samples) float32; the last
axis is time.
"""

from __future__ import annotations

import torch

from striate.data.augment.clip import shift_frames
from striate.data.augment.pixels import PixelStep
from striate.data.media.audio.log_mel import LEVELS_A_DECIBEL
from striate.data.transfer import sent
from striate.wording import percent


def shift_time(x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Each sample shifted in time by (B,) shares of its length, cyclically; clips: see `shift_frames`."""
    if x.ndim == 5:
        return shift_frames(x, shares)
    places = torch.round(shares * x.shape[-1]).long().tolist()
    return torch.stack([one.roll(place, -1) for one, place in zip(x, places, strict=True)])


TIME_SHIFT = PixelStep(
    field="time_shift",
    columns=("time_shift",),
    draw=lambda value, u: lambda x: shift_time(x, (2 * u["time_shift"] - 1) * value),
    words=lambda value: f"shifts up to {percent(value, 0)} of the length",
)


def amplify(x: torch.Tensor, decibels: torch.Tensor) -> torch.Tensor:
    """Each sample amplified by (B,) decibels; silence in a spectrogram stays silent."""
    if x.dtype == torch.uint8:
        levels = sent(torch.round(decibels * LEVELS_A_DECIBEL).to(torch.int16), x.device)[:, None, None, None]
        return torch.where(x > 0, (x.to(torch.int16) + levels).clamp_(0, 255).to(torch.uint8), x)
    return x * sent((10 ** (decibels / 20)).float(), x.device)[:, None, None]


GAIN = PixelStep(
    field="gain",
    columns=("gain",),
    draw=lambda value, u: lambda x: amplify(x, (2 * u["gain"] - 1) * value),
    words=lambda value: f"louder or quieter by up to {value:g} dB",
)


def change_speed(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Waveforms (B, C, samples) played (B,) times as fast from their beginning, by linear interpolation; the end is
    padded with silence."""
    length = x.shape[-1]
    places = torch.arange(length, dtype=torch.float64) * factors[:, None]
    first = places.floor()
    share = sent((places - first).float(), x.device)[:, None]
    known = sent(first.long(), x.device)[:, None].expand_as(x)
    padded = torch.nn.functional.pad(x, (0, 1))
    low, high = (padded.gather(-1, (known + step).clamp(max=length)) for step in (0, 1))
    return torch.lerp(low, high, share)


SPEED = PixelStep(
    field="speed",
    columns=("speed",),
    draw=lambda value, u: lambda x: change_speed(x, 1 + (2 * u["speed"] - 1) * value),
    words=lambda value: f"speed ± {percent(value, 0)}",
)


def blank(x: torch.Tensor, axis: int, width: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """The batch with a span blanked along `axis` of each sample: with the mean in spectrograms, with silence in
    waveforms.

    `width`: (B,) shares of the axis; `start`: (B,) shares of the range of possible starts. Source: Park et al.,
    "SpecAugment", 2019."""
    length = x.shape[axis]
    wide = torch.floor(width * length)
    first = torch.floor(start * (length - wide + 1))
    places = torch.arange(length)
    inside = (places >= first[:, None]) & (places < (first + wide)[:, None])
    shape = [len(x)] + [1] * (x.ndim - 1)
    shape[axis] = length
    others = tuple(range(1, x.ndim))
    mean = x.float().mean(others, keepdim=True).round_().to(x.dtype) if x.dtype == torch.uint8 else x.new_zeros(())
    return torch.where(sent(inside, x.device).view(shape), mean, x)


TIME_MASK = PixelStep(
    field="time_mask",
    columns=("blank_seconds", "blank_from"),
    draw=lambda value, u: lambda x: blank(x, x.ndim - 1, u["blank_seconds"] * value, u["blank_from"]),
    words=lambda value: f"up to {percent(value, 0)} of the time blanked",
)
FREQUENCY_MASK = PixelStep(
    field="frequency_mask",
    columns=("blank_bands", "blank_above"),
    draw=lambda value, u: lambda x: blank(x, 2, u["blank_bands"] * value, u["blank_above"]),
    words=lambda value: f"up to {percent(value, 0)} of the bands blanked",
)
STEPS = (SPEED, TIME_SHIFT, GAIN, TIME_MASK, FREQUENCY_MASK)
"""The steps, in the order in which they are applied."""
