"""Samples that the step blends, as mixup and CutMix do: do the labels have the shares that their samples have?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.data import default_collate

from striate.doctor.evidence.calls import StepCalls, watch_steps
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import has_own_collate
from striate.doctor.setup.batch import main_tensor, parts
from striate.models.preserved_state import same_random_state

_COLLATED = 24
"""Batches of a collate function, which may leave most as they are."""
_LOOKED, _DRAWS, _FEWEST, _FEWEST_NUMBERS = 4, 8, 3, 16
_TELLING = 0.1
"""Farther than this from one half, a share says which sample is meant."""
_FEWEST_MIXED, _EVEN = 4, 1e-3
"""Samples that are blended with one of another class, and by how much the shares of their labels differ at most."""
_PLAIN, _EXPLAINED = 0.99, 0.85
"""A correlation from which on nothing is blended; and of what is shown, by the own sample and one other."""
_LEFT = 0.05
"""The share of a blend that its two samples may leave unexplained where the second one is known, and the least share
that a second one has."""
_LEFT_OF_ALL, _MANY = 0.15, 48
"""The same where samples are compared by all their numbers, so many at least: the step may have masked some."""
_SIDE = 4
"""Images are compared by so many patches a side, and with their mirror images: the step may have shifted and flipped
them before."""


@dataclass(frozen=True)
class Blended:
    """A batch as a step was given it, and what the step made of it."""

    inputs: torch.Tensor
    wanted: torch.Tensor
    calls: StepCalls


def blended_batches(evidence: Evidence) -> list[Blended]:
    """Some batches with labels of classes, one a sample or several; few where the first ones show that none is
    blended."""
    raw = evidence.train.raw
    batches = [raw[number % len(raw)] for number in range(_DRAWS)]
    if _labeled(batches[0]) is None:
        return []

    def watched(count: int) -> list[Blended]:
        steps = watch_steps(evidence.setup, batches[:count], evidence.clock.until(0.02 * count))
        given = zip(map(_labeled, batches), steps, strict=False)
        return [Blended(*pair, calls) for pair, calls in given if pair is not None]

    first = watched(_LOOKED)
    blended = any(_are_shares(one.calls) or _share_of_labels(one.calls, one.wanted) is not None for one in first)
    return watched(_DRAWS) if blended else first


def blended_by_loader(evidence: Evidence) -> list[Blended]:
    """The same of batches that the loader's own collate function blends: what it makes of samples that the data set
    gives, beside these."""
    loader, until = evidence.setup.train, evidence.clock.until(0.04)
    if not has_own_collate(loader) or loader.batch_size is None:
        return []
    shares = main_tensor(parts(evidence.train.raw[0])[1])
    if shares is None or shares.ndim != 2:
        return []
    found, data = list[Blended](), loader.dataset
    with suppress(Exception), same_random_state():  # a data set and a function of the user's
        for first in range(0, min(len(data), _COLLATED * loader.batch_size), loader.batch_size):  # type: ignore[arg-type]
            samples = [data[number] for number in range(first, min(first + loader.batch_size, len(data)))]  # type: ignore[arg-type]
            pair = _labeled(default_collate(samples))
            shown, shares = (main_tensor(part) for part in parts(loader.collate_fn(samples)))
            if pair is None or shares is None or perf_counter() > until:
                break
            found.append(Blended(*pair, StepCalls(shown=shown, soft=[shares] if shares.is_floating_point() else [])))
    return found


def _labeled(batch: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The inputs of a batch and its labels: class numbers (N,), or (N, classes) of zeros and ones."""
    inputs, wanted = (main_tensor(part) for part in parts(batch))
    if inputs is None or wanted is None or inputs.ndim < 2:
        return None
    several = wanted.ndim == 2 and wanted.shape[1] > 1 and bool(((wanted == 0) | (wanted == 1)).all())
    one = wanted.ndim == 1 and not wanted.is_floating_point()
    return (inputs, wanted.cpu()) if one or several else None


def swapped_shares(batches: Sequence[Blended]) -> tuple[float, float] | None:
    """Of a batch the share of its own samples in what the network is shown, and that of their labels in the loss, where
    one is more than half and the other less in all of several steps; None where nothing is blended, or rightly."""
    found = list(_shares(batches))
    swapped = all((inputs > 0.5) != (labels > 0.5) for inputs, labels in found)
    return max(found, key=lambda shares: abs(shares[0] - shares[1])) if swapped and len(found) >= _FEWEST else None


def left_unblended(evidence: Evidence) -> list[float]:
    """How much of what each of several steps shows the network is the batch as it came, where the loss is given its
    labels alone; nothing where it is given others, too, or it cannot be told."""
    raw, own = evidence.train.raw, list[float]()
    if not _asks_for_labels(raw[0], evidence.calls):
        return []
    batches = [raw[number % len(raw)] for number in range(_DRAWS)]
    for batch, calls in zip(batches, watch_steps(evidence.setup, batches, evidence.clock.until(0.1)), strict=False):
        inputs = main_tensor(parts(batch)[0])
        if inputs is None or not _asks_for_labels(batch, calls):
            return []
        share = _share_of_inputs(calls.shown, inputs)
        own += [] if share is None else [share]
    return own


def _asks_for_labels(batch: Any, calls: StepCalls) -> bool:
    """Whether the loss of a step is given the labels of its batch, and no others."""
    inputs, wanted = (main_tensor(part) for part in parts(batch))
    if inputs is None or wanted is None or wanted.ndim not in (1, 2) or inputs[0].numel() < _FEWEST_NUMBERS:
        return False
    asked = [*(call.target.cpu() for call in calls.losses if call.gradients), *calls.soft]
    return bool(asked) and all(_are_labels(target, wanted.cpu()) for target in asked)


def _are_labels(target: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether a loss is given these labels, be it as shares of classes (N, K), smoothed perhaps."""
    if target.shape == wanted.shape:
        return torch.equal(target.double(), wanted.double())
    if wanted.is_floating_point() or not target.is_floating_point() or target.shape[:-1] != wanted.shape:
        return False
    above = _above_smoothing(target)
    return torch.equal(above.argmax(1), wanted) and bool(((above > _EVEN).sum(1) == 1).all())


def _shares(batches: Sequence[Blended]) -> Iterator[tuple[float, float]]:
    for batch in batches:
        labels = _share_of_labels(batch.calls, batch.wanted)
        own = _share_of_inputs(batch.calls.shown, batch.inputs)
        if own is not None and labels is not None and min(abs(own - 0.5), abs(labels - 0.5)) > _TELLING:
            yield own, labels


def partners_named(batches: Sequence[Blended]) -> tuple[int, int]:
    """Of how many samples that are blended with one of another class, known again in what is shown, that class is the
    other one in the loss, and how many they are."""
    right = total = 0
    for batch in batches:
        shown, labels = batch.calls.shown, _other_labels(batch)
        if labels is None or shown is None or shown.shape != batch.inputs.shape or len(shown) < 8:
            continue
        whole = shown.ndim != 4 and shown[0].numel() >= _MANY
        partner, clear = _partners(_patches(shown), _patches(batch.inputs), whole=whole)
        clear &= (labels >= 0) & (batch.wanted[partner] != batch.wanted)
        right += int((batch.wanted[partner] == labels)[clear].sum())
        total += int(clear.sum())
    return right, total


def _other_labels(batch: Blended) -> torch.Tensor | None:
    """(N,) the class that counts in the loss beside the sample's own; -1 where none does. None where nothing is
    blended."""
    wanted = batch.wanted
    if wanted.ndim > 1:
        return None
    for shares in [*batch.calls.soft, *(call.target for call in batch.calls.losses if call.name == "cross_entropy")]:
        if shares.is_floating_point() and shares.shape[:-1] == wanted.shape and shares.shape[1] > int(wanted.max()):
            above = _above_smoothing(shares.cpu())
            if not bool((above.gather(1, wanted[:, None]) > 0).all()):
                continue  # of pairs of samples, not of classes
            above.scatter_(1, wanted[:, None], 0.0)
            return torch.where(above.amax(1) > _EVEN, above.argmax(1), -1)
    given = [call.target.cpu() for call in batch.calls.losses if call.gradients and call.target.shape == wanted.shape]
    others = [target for target in given if not target.is_floating_point() and not torch.equal(target, wanted)]
    if len(others) != 1 or len(given) < 2:
        return None
    return torch.where(others[0] != wanted, others[0], -1)


def _partners(shown: torch.Tensor, samples: torch.Tensor, *, whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) which other sample explains best what is none of the own one, and whether it does so clearly."""
    rest, fit = _fit_of_others(shown, samples)
    best, nearest = fit.topk(2, dim=1)
    size = rest.square().sum(1)
    left, next_left = size - best[:, 0], size - best[:, 1]
    most, apart = (_LEFT_OF_ALL, 2) if whole else (_LEFT, 3)
    clear = (left < most * size) & (left < next_left / apart) & (size > _LEFT * shown.square().sum(1))
    return nearest[:, 0], clear


def _are_shares(calls: StepCalls) -> bool:
    """Whether labels are given as shares of classes: some batches may be blended, and others not."""
    soft = (call for call in calls.losses if call.name == "cross_entropy" and call.target.is_floating_point())
    return bool(calls.soft) or any(call.target.ndim == 2 for call in soft)


def _share_of_inputs(shown: torch.Tensor | None, inputs: torch.Tensor) -> float | None:
    """How much of what is shown is the batch as it came, where the rest is other samples of it: with a part p of its
    own the correlation is p / √(p² + (1 − p)²)."""
    if shown is None or shown.shape != inputs.shape or len(inputs) < 8:
        return None
    one = _patches(shown)
    mirrored = [inputs, *([inputs.flip(-2)] if inputs.ndim == 4 else [])]  # left and right are alike in patches
    found = [(float((one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-12)), other)
             for other in map(_patches, mirrored)]  # fmt: skip
    # With little of the own sample in it, chance decides which way up that is nearer: what explains it is right.
    for near, other in sorted(found, key=lambda pair: -pair[0]):
        share = min(1.0, max(0.0, near))
        if _of_others(one, other, share):
            return share / (share + math.sqrt(1 - share**2))
    return None


def _of_others(shown: torch.Tensor, samples: torch.Tensor, near: float) -> bool:
    """Whether what is shown is mostly a sum of the own sample and another one of the batch, not something erased."""
    if near > _PLAIN:
        return True
    rest, fit = _fit_of_others(shown, samples)
    left = rest.square().sum(1) - fit.amax(1)
    explained = 1 - left / shown.square().sum(1).clamp_min(1e-12)
    return float(explained.median()) > _EXPLAINED


def _fit_of_others(shown: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, numbers) what is shown without what is of the own sample, and (N, N) how much of its square each other sample
    explains."""
    own = nn.functional.normalize(samples, dim=1)
    rest = shown - own * (shown * own).sum(1, keepdim=True)
    others = samples[None] - own[:, None] * (own @ samples.T)[:, :, None]  # [i, j]: of sample j what is none of i
    fit = (nn.functional.normalize(others, dim=2) * rest[:, None]).sum(2).square()
    return rest, fit.fill_diagonal_(0)


def _patches(samples: torch.Tensor) -> torch.Tensor:
    """(N, numbers) float64, of which the batch has mean 0."""
    found = samples.detach().cpu().double()
    if found.ndim == 4:
        found = adaptive_avg_pool2d(found + found.flip(-1), _SIDE)
    found = found.flatten(1)
    return found - found.mean(0)


def _share_of_labels(calls: StepCalls, wanted: torch.Tensor) -> float | None:
    """How much the labels of the batch as it came count in the loss, where other labels of it count too."""
    own = others = 0.0
    if wanted.ndim > 1:
        return _share_of_each(calls, wanted)
    for shares in calls.soft:
        if shares.shape[:-1] == wanted.shape:
            return _share_of_soft_labels(shares, wanted)
    for call in calls.losses:
        target = call.target.cpu()
        if target.shape == wanted.shape and not target.is_floating_point():
            if not call.gradients or not torch.equal(target.sort().values, wanted.sort().values):
                return None
            if torch.equal(target, wanted):
                own += sum(call.gradients)
            else:
                others += sum(call.gradients)
        elif call.name == "cross_entropy" and target.is_floating_point() and target.shape[:-1] == wanted.shape:
            return _share_of_soft_labels(target, wanted)
    return own / (own + others) if own >= 0 and others > 0 else None


def _share_of_each(calls: StepCalls, wanted: torch.Tensor) -> float | None:
    """The same of (N, classes) zeros and ones, of which any may be one: what is between is one of both samples'."""
    for call in calls.losses:
        target = call.target.cpu().double()
        if target.shape == wanted.shape:
            between = (target > _EVEN) & (target < 1 - _EVEN)
            own = torch.where(wanted > 0, target, 1 - target)[between]
            return float(own.mean()) if len(own) >= _FEWEST_MIXED and float(own.std()) <= _EVEN else None
    return None


def _above_smoothing(shares: torch.Tensor) -> torch.Tensor:
    """(N, K) shares of classes without what smoothing gives to all: smoothed labels are nowhere zero."""
    return shares - shares.amin(1, keepdim=True)


def _share_of_soft_labels(target: torch.Tensor, wanted: torch.Tensor) -> float | None:
    """The same of (N, K) shares of classes, where it is one number for all samples: what a teacher gives is another
    for each."""
    above = _above_smoothing(target).double()
    shares = above / above.sum(1, keepdim=True).clamp_min(1e-12)
    own = shares.gather(1, wanted[:, None].clamp(0, target.shape[1] - 1))[:, 0]
    named = shares.argmax(1)
    if float(shares.amax(1).min()) > 1 - _EVEN and torch.equal(named.sort().values, wanted.sort().values):
        return None if torch.equal(named, wanted) else 0.0  # of the partners alone
    # The two samples are of different classes; where the own one never counts, these are shares of something else.
    own = own[(own > 1e-6) & (own < 1 - 1e-6)]
    return float(own.mean()) if len(own) >= _FEWEST_MIXED and float(own.std()) <= _EVEN else None
