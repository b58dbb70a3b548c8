"""Blended samples (mixup, CutMix): do the weights of labels match the weights of samples?"""

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
from striate.doctor.setup.batch import is_binary, main_tensor, parts
from striate.models.preserved_state import same_random_state
from striate.observe.tensors import tensors_in

_COLLATED = 24
"""The most batches of a collate function, which may leave most unchanged."""
_FIRST_STEPS, _DRAWS, _FEWEST, _FEWEST_NUMBERS = 4, 8, 3, 16
_FROM_HALF = 0.1
"""A share that is farther than this from 0.5 shows which sample has the larger weight."""
_FEWEST_MIXED, _EVEN = 4, 1e-3
"""The fewest samples that are blended with one of another class, and the largest difference of their label weights."""
_UNBLENDED, _EXPLAINED = 0.99, 0.85
"""The correlation from which on an input is not blended; and the share of an input that its own sample and one other
explain."""
_LEFT = 0.05
"""The largest share of a blend that its two samples leave unexplained if the partner is identified, and the least share
of the partner."""
_LEFT_OF_ALL, _MANY = 0.15, 48
"""The same where samples are compared by all their values, and the fewest values: the step may have masked some."""
_SIDE = 4
"""Patches on each side by which images are compared, also with their mirror images: the step may have shifted and
flipped them before."""


@dataclass(frozen=True)
class Blended:
    """The inputs and labels of a batch, and the calls of the step that blends it."""

    inputs: torch.Tensor
    """(N, …), before blending."""
    labels: torch.Tensor
    """Labels (N,), or (N, classes) of zeros and ones, before blending."""
    calls: StepCalls
    """Inputs of the network and targets of the loss."""


def blended_batches(evidence: Evidence) -> list[Blended]:
    """Some batches with class labels, one or several for each sample; only the first few if none of these is
    blended."""
    raw = evidence.train.raw
    batches = [raw[number % len(raw)] for number in range(_DRAWS)]
    if _labeled(batches[0]) is None:
        return []

    def watched(count: int) -> list[Blended]:
        steps = watch_steps(evidence.setup, batches[:count], evidence.clock.until(0.02 * count))
        given = zip(map(_labeled, batches), steps, strict=False)
        return [Blended(*pair, calls) for pair, calls in given if pair is not None]

    first = watched(_FIRST_STEPS)
    blended = any(_are_shares(one.calls) or _share_of_labels(one.calls, one.labels) is not None for one in first)
    return watched(_DRAWS) if blended else first


def blended_by_loader(evidence: Evidence) -> list[Blended]:
    """The same for batches that a collate function blends: the samples of the data set, and the batch made from
    them."""
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
    inputs, labels = (main_tensor(part) for part in parts(batch))
    if inputs is None or labels is None or inputs.ndim < 2:
        return None
    # A batch that also holds the partners, (x[i], x[j], y[i], y[j]), has the labels of the first samples first.
    every = list(tensors_in(batch))
    if sum(t.shape == inputs.shape for t in every) > 1:
        labels = next(t for t in every if t.shape == labels.shape and t.dtype == labels.dtype)
    several = labels.ndim == 2 and labels.shape[1] > 1 and is_binary(labels)
    one = labels.ndim == 1 and not labels.is_floating_point()
    return (inputs, labels.cpu()) if one or several else None


def swapped_shares(batches: Sequence[Blended]) -> tuple[float, float] | None:
    """The share of the original samples in the inputs of the network, and that of their labels in the loss, if one is
    above and the other below a half in each of several steps; None where nothing is blended, or the labels match."""
    found = list(_shares(batches))
    swapped = all((inputs > 0.5) != (labels > 0.5) for inputs, labels in found)
    return max(found, key=lambda shares: abs(shares[0] - shares[1])) if swapped and len(found) >= _FEWEST else None


def left_unblended(evidence: Evidence) -> list[float]:
    """The share of the original batch in the inputs of each of several steps, if the loss only gets the original
    labels; empty if it gets other labels, too, or where unknown."""
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
    """Whether the loss of a step gets the labels of its batch, and no others."""
    inputs, labels = (main_tensor(part) for part in parts(batch))
    if inputs is None or labels is None or labels.ndim not in (1, 2) or inputs[0].numel() < _FEWEST_NUMBERS:
        return False
    targets = [*(call.target.cpu() for call in calls.losses if call.gradients), *calls.soft]
    return bool(targets) and all(_are_labels(target, labels.cpu()) for target in targets)


def _are_labels(target: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether targets are these labels, or their one-hot or smoothed form (N, K)."""
    if target.shape == labels.shape:
        return torch.equal(target.double(), labels.double())
    if labels.is_floating_point() or not target.is_floating_point() or target.shape[:-1] != labels.shape:
        return False
    above = _above_smoothing(target)
    return torch.equal(above.argmax(1), labels) and bool(((above > _EVEN).sum(1) == 1).all())


def _shares(batches: Sequence[Blended]) -> Iterator[tuple[float, float]]:
    for batch in batches:
        labels = _share_of_labels(batch.calls, batch.labels)
        own = _share_of_inputs(batch.calls.shown, batch.inputs)
        if own is not None and labels is not None and min(abs(own - 0.5), abs(labels - 0.5)) > _FROM_HALF:
            yield own, labels


def partners_named(batches: Sequence[Blended]) -> tuple[int, int]:
    """The number of blended samples whose second label is the class of their partner, and the number of blended samples
    with an identified partner of another class."""
    right = total = 0
    for batch in batches:
        shown, labels = batch.calls.shown, _other_labels(batch)
        if labels is None or shown is None or shown.shape != batch.inputs.shape or len(shown) < 8:
            continue
        whole = shown.ndim != 4 and shown[0].numel() >= _MANY
        partner, clear = _partners(_patches(shown), _patches(batch.inputs), whole=whole)
        clear &= (labels >= 0) & (batch.labels[partner] != batch.labels)
        right += int((batch.labels[partner] == labels)[clear].sum())
        total += int(clear.sum())
    return right, total


def _other_labels(batch: Blended) -> torch.Tensor | None:
    """(N,) the second class that counts in the loss of each sample; -1 for samples without one. None where nothing is
    blended."""
    labels = batch.labels
    if labels.ndim > 1:
        return None
    for shares in [*batch.calls.soft, *(call.target for call in batch.calls.losses if call.name == "cross_entropy")]:
        if shares.is_floating_point() and shares.shape[:-1] == labels.shape and shares.shape[1] > int(labels.max()):
            above = _above_smoothing(shares.cpu())
            if not bool((above.gather(1, labels[:, None]) > 0).all()):
                continue  # weights of pairs of samples, not of classes
            above.scatter_(1, labels[:, None], 0.0)
            return torch.where(above.amax(1) > _EVEN, above.argmax(1), -1)
    given = [call.target.cpu() for call in batch.calls.losses if call.gradients and call.target.shape == labels.shape]
    others = [target for target in given if not target.is_floating_point() and not torch.equal(target, labels)]
    if len(others) != 1 or len(given) < 2:
        return None
    return torch.where(others[0] != labels, others[0], -1)


def _partners(shown: torch.Tensor, samples: torch.Tensor, *, whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) the other sample that best explains the rest of each input without its own sample, and whether it does so
    clearly."""
    rest, fit = _fit_of_others(shown, samples)
    best, nearest = fit.topk(2, dim=1)
    size = rest.square().sum(1)
    left, next_left = size - best[:, 0], size - best[:, 1]
    most, apart = (_LEFT_OF_ALL, 2) if whole else (_LEFT, 3)
    clear = (left < most * size) & (left < next_left / apart) & (size > _LEFT * shown.square().sum(1))
    return nearest[:, 0], clear


def _are_shares(calls: StepCalls) -> bool:
    """Whether the loss gets soft labels: some batches may be blended, and others not."""
    soft = (call for call in calls.losses if call.name == "cross_entropy" and call.target.is_floating_point())
    return bool(calls.soft) or any(call.target.ndim == 2 for call in soft)


def _share_of_inputs(shown: torch.Tensor | None, inputs: torch.Tensor) -> float | None:
    """The share p of the original batch in the inputs of the network, where the rest is other samples of it: the
    correlation with the original is p / √(p² + (1 − p)²). None where it is unknown."""
    if shown is None or shown.shape != inputs.shape or len(inputs) < 8:
        return None
    one = _patches(shown)
    mirrored = [inputs, *([inputs.flip(-2)] if inputs.ndim == 4 else [])]  # patches are symmetric in left and right
    found = [(float((one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-12)), other)
             for other in map(_patches, mirrored)]  # fmt: skip
    # If the share is small, chance decides which orientation correlates more: the one that explains the input is right.
    for near, other in sorted(found, key=lambda pair: -pair[0]):
        share = min(1.0, max(0.0, near))
        if _of_others(one, other, share):
            return share / (share + math.sqrt(1 - share**2))
    return None


def _of_others(shown: torch.Tensor, samples: torch.Tensor, near: float) -> bool:
    """Whether inputs are mostly sums of the original sample and another one of the batch, not partly erased."""
    if near > _UNBLENDED:
        return True
    rest, fit = _fit_of_others(shown, samples)
    left = rest.square().sum(1) - fit.amax(1)
    explained = 1 - left / shown.square().sum(1).clamp_min(1e-12)
    return float(explained.median()) > _EXPLAINED


def _fit_of_others(shown: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, numbers) the inputs without their projection on the original sample, and (N, N) how much of their square each
    other sample explains."""
    own = nn.functional.normalize(samples, dim=1)
    rest = shown - own * (shown * own).sum(1, keepdim=True)
    others = (
        samples[None] - own[:, None] * (own @ samples.T)[:, :, None]
    )  # [i, j]: sample j without its projection on i
    fit = (nn.functional.normalize(others, dim=2) * rest[:, None]).sum(2).square()
    return rest, fit.fill_diagonal_(0)


def _patches(samples: torch.Tensor) -> torch.Tensor:
    """(N, numbers) float64, less the mean of the batch."""
    found = samples.detach().cpu().double()
    if found.ndim == 4:
        found = adaptive_avg_pool2d(found + found.flip(-1), _SIDE)
    found = found.flatten(1)
    return found - found.mean(0)


def _share_of_labels(calls: StepCalls, labels: torch.Tensor) -> float | None:
    """The weight of the original labels in the loss, if other labels of the batch count, too; else None."""
    own = others = 0.0
    if labels.ndim > 1:
        return _share_of_each(calls, labels)
    for shares in calls.soft:
        if shares.shape[:-1] == labels.shape:
            return _share_of_soft_labels(shares, labels)
    for call in calls.losses:
        target = call.target.cpu()
        if target.shape == labels.shape and not target.is_floating_point():
            if not call.gradients or not torch.equal(target.sort().values, labels.sort().values):
                return None
            if torch.equal(target, labels):
                own += sum(call.gradients)
            else:
                others += sum(call.gradients)
        elif call.name == "cross_entropy" and target.is_floating_point() and target.shape[:-1] == labels.shape:
            return _share_of_soft_labels(target, labels)
    return own / (own + others) if own >= 0 and others > 0 else None


def _share_of_each(calls: StepCalls, labels: torch.Tensor) -> float | None:
    """The same for multi-label targets (N, classes): blended values lie between 0 and 1."""
    for call in calls.losses:
        target = call.target.cpu().double()
        if target.shape == labels.shape:
            between = (target > _EVEN) & (target < 1 - _EVEN)
            own = torch.where(labels > 0, target, 1 - target)[between]
            return float(own.mean()) if len(own) >= _FEWEST_MIXED and float(own.std()) <= _EVEN else None
    return None


def _above_smoothing(shares: torch.Tensor) -> torch.Tensor:
    """(N, K) soft labels without the part that label smoothing adds to all classes."""
    return shares - shares.amin(1, keepdim=True)


def _share_of_soft_labels(target: torch.Tensor, labels: torch.Tensor) -> float | None:
    """The same for soft labels (N, K) with one weight for all samples: those of a teacher differ between samples."""
    above = _above_smoothing(target).double()
    shares = above / above.sum(1, keepdim=True).clamp_min(1e-12)
    own = shares.gather(1, labels[:, None].clamp(0, target.shape[1] - 1))[:, 0]
    named = shares.argmax(1)
    if float(shares.amax(1).min()) > 1 - _EVEN and torch.equal(named.sort().values, labels.sort().values):
        return None if torch.equal(named, labels) else 0.0  # the labels of the partners alone
    # Both samples have different classes; where the original one never counts, these are other soft labels.
    own = own[(own > 1e-6) & (own < 1 - 1e-6)]
    return float(own.mean()) if len(own) >= _FEWEST_MIXED and float(own.std()) <= _EVEN else None
