"""`data.leak`: are any validation samples also trained on?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.inputs.bare_samples import bare_samples
from striate.doctor.checks.data.inputs.constant_images import blank_samples
from striate.doctor.checks.data.looking import picture_of
from striate.doctor.checks.data.splits.duplicates import ALL_BUT_EQUAL, MOST_OF_THEM, of_whole_numbers, share_of_copies
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.held_samples import shared_samples
from striate.doctor.evidence.nearness import MOST, columns_shuffled, comparable, copies_in, neighbors, same_in
from striate.doctor.evidence.read_batches import shared_positions
from striate.doctor.evidence.samples import Samples, gathered
from striate.doctor.setup.batch import leaves
from striate.records import Finding, Remedy
from striate.wording import several

_SHARE, _GRAVE, _FEWEST = 0.02, 0.05, 3
_GRAVE_NEAR = 0.2
_TABLE = 0.1
_OFTENER = 10
"""Times as many of validation as within training: where pairs come again by chance, there are as many, about."""
_COLUMNS = 3
_CERTAIN = 4.0
_LARGER = 3
"""Numbers of a whole image, for each that the network is given: not of one whose parts are samples."""
_FROM = f"a warning from {_SHARE:.0%} of validation and {_FEWEST} samples, an error from {_GRAVE:.0%}"
_EQUAL = (
    f"{_FROM}; for tables, whose rows may be equal by chance, {_TABLE:.0%} and three times chance; a note for token "
    "sequences, and drawings in one color, that training repeats half as often"
)
_PAIRS_EQUAL = (
    f"{_TABLE:.0%} of the validation pairs, such as users and items, and at most a tenth as many repeated in "
    f"training; an error from {_GRAVE:.0%}"
)
_NEARLY_EQUAL = (
    f"{_GRAVE:.0%} of validation, three times as many as within training, by more than {_CERTAIN:g} standard "
    f"errors; an error from {_GRAVE_NEAR:.0%}"
)


def _find_leak(evidence: Evidence) -> Iterable[Finding]:
    shared = shared_positions(evidence.setup.train, evidence.setup.val)
    if shared is not None and shared[0] >= max(_FEWEST, _SHARE * shared[1]):
        count, total = shared
        how = "the same positions of the same data set as training samples, or the same objects in a list"
        yield _told(count, total, how, _GRAVE, _FROM)
        return
    looked_up = _looked_up(evidence) or _kept_for_each(evidence)
    if looked_up is not None:
        read = evidence.train.count
        yield from _pairs_again(*looked_up, read=min(1.0, read / (evidence.train.length or read)))
        return
    train, val = evidence.samples, evidence.val_samples
    if not train.alone and train.joined is None:
        # Of triplets the loader tells no samples, but the data sets do.
        yield from list(_held(evidence, train.inputs)) or _equal_in_all(evidence)
        return
    x, known = val.sole_inputs, train.sole_inputs
    pairs, others = _pairs_with_targets(train), _pairs_with_targets(val)
    if pairs is not None and others is not None:
        yield from _pairs_again(pairs, others)
        return
    useful = torch.arange(len(x))[~(blank_samples(val) | bare_samples(x))]
    if x[0].numel() < 3 or len(useful) < 5:
        raise NoEvidence(
            "validation samples of one or two numbers, or fewer than five samples, cannot distinguish "
            "copies from chance"
        )
    x = x[useful]
    where = same_in(x, known)
    count = int((where >= 0).sum())
    if count >= max(_FEWEST, _least_share(x, known) * len(x)):
        pair = (where >= 0).nonzero()[:3].flatten()
        _draw(evidence, x[pair], known[where[pair]])
        how = f"identical to a training sample{_first(useful, where)}"
        found = _told(count, len(x), how, _GRAVE, _EQUAL)
        yield replace(found, severity="note") if _alike_by_chance(known, count / len(x)) else found
        return
    yield from list(_held(evidence, x)) or _near(evidence, x, known, useful)


def _held(evidence: Evidence, x: torch.Tensor) -> Iterator[Finding]:
    """Images that the data sets of training and validation both hold."""
    if x.ndim != 4:  # of a series that both parts hold each may be given another stretch
        return
    held = shared_samples(evidence.setup.train, evidence.setup.val, _LARGER * x[0].numel())
    if held is not None and held[0] >= max(_FEWEST, _SHARE * held[1]):
        yield _told(*held, "made from the same stored image as a training sample", _GRAVE, _FROM)


def _equal_in_all(evidence: Evidence) -> Iterator[Finding]:
    """Samples of several inputs, an image among them, of which everything is equal to that of a training sample."""
    images = is_grid(evidence.samples.inputs)
    known, x = (_side_by_side(part.raw) if images else None for part in (evidence.train, evidence.val))
    if known is None or x is None or known.shape[1:] != x.shape[1:]:
        raise NoEvidence("the network gets several inputs, which cannot be judged one by one")
    count = int((same_in(x, known) >= 0).sum())
    if count >= max(_FEWEST, _SHARE * len(x)):
        yield _told(count, len(x), "identical to a training sample in all inputs", _GRAVE, _FROM)


def _side_by_side(batches: Sequence[Any]) -> torch.Tensor | None:
    """All numbers of each sample (N, numbers); None where samples have other shapes."""
    found = [gathered(batches, path) for path, tensor in leaves(batches[0]) if tensor.ndim]
    if not found or any(part is None or len(part) != len(found[0]) for part in found if found[0] is not None):
        return None
    return torch.cat([part.detach().cpu().reshape(len(part), -1).float() for part in found if part is not None], 1)


def _pairs_with_targets(samples: Samples) -> torch.Tensor | None:
    """Pairs of whole numbers, as of users and items, each with its target (N, 3), without those of the least target, as
    that of pairs drawn at random; None where samples are something else."""
    x, y = samples.sole_inputs.reshape(len(samples.sole_inputs), -1), samples.y
    if x.shape[1] != 2 or y is None or y.numel() != len(x) or not bool((x == x.round()).all()):
        return None
    wanted = y.reshape(len(x), 1)
    return torch.cat([x, wanted], 1).double()[wanted[:, 0] > wanted.min()]


def _looked_up(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Numbers of users and of items that they chose (N, 2), of training and of validation, or all three of triples,
    where all that batches have is looked up in tables by the step; None where they have something else."""
    with suppress(NoEvidence):
        entries, asked = evidence.calls.entries, _columns(evidence.val.raw[0])
        own = _columns(evidence.train.raw[0])
        if not 2 <= len(asked) <= len(own) or not all(any(torch.equal(c, e) for e in entries) for c in own):
            return None
        known, others = (
            torch.cat([torch.stack(_columns(batch)[: len(asked)], 1) for batch in batches.raw])
            for batches in (evidence.train, evidence.val)
        )
        return known, others
    return None


_HELD = re.compile(r"hold|held|left_?out|val|test", re.IGNORECASE)


def _kept_for_each(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The same of items of which a variable keeps one for each user, and of the users and items of training."""
    with suppress(NoEvidence):
        batches = [_columns(batch) for batch in evidence.train.raw]
        if not all(len(columns) == 2 for columns in batches):
            return None
        known = torch.cat([torch.stack(columns, 1) for columns in batches])
        users = known[:, 0].unique()
        for name, value in evidence.source.names.items():
            if not isinstance(value, torch.Tensor | np.ndarray) or value.ndim != 1 or not _HELD.search(name):
                continue
            kept = torch.as_tensor(value).cpu()
            whole = kept.dtype in (torch.int32, torch.int64) and len(kept) > int(users[-1]) and int(kept.min()) >= 0
            if whole and len(users) >= MOST_OF_THEM * len(kept):
                return known, torch.stack([torch.arange(len(kept)), kept.long()], 1)
    return None


def _columns(batch: Any) -> list[torch.Tensor]:
    """The columns of whole numbers that a batch has; nothing where it has anything else."""
    found = [tensor.detach().cpu() for _, tensor in leaves(batch)]
    if any(t.ndim not in (1, 2) or t.is_floating_point() or t.numel() > _COLUMNS * len(t) for t in found):
        return []
    columns = [column for tensor in found for column in (tensor[:, None] if tensor.ndim == 1 else tensor).long().T]
    return columns if len({len(column) for column in columns}) == 1 else []


def _pairs_again(known: torch.Tensor, x: torch.Tensor, read: float = 1.0) -> Iterator[Finding]:
    """Pairs of which training has next to none twice, though it has those of validation. `read`: the share of training
    that is known."""
    count = int((same_in(x, known) >= 0).sum())
    if count < _FEWEST or count < _TABLE * read * len(x) or share_of_copies(known) * _OFTENER > count / len(x):
        return
    how = "pairs of numbers, such as a user and an item, that also occur in training, which repeats almost none"
    yield _told(count, len(x), how, _GRAVE, _PAIRS_EQUAL)


def _alike_by_chance(known: torch.Tensor, share: float) -> bool:
    """Whether samples are sequences of whole numbers, as of words, or drawings in one color, that training repeats at
    least half as often: short sentences are said twice, and signs are written twice."""
    known = known[~bare_samples(known)]
    first = copies_in(known)
    repeated = float((torch.bincount(first)[first] > 1).double().mean())
    return (of_whole_numbers(known) or _in_one_color(known)) and repeated > share / 2


def _in_one_color(x: torch.Tensor) -> bool:
    """Whether each channel of each image (N, C, H, W) has two values at most."""
    if x.ndim != 4:
        return False
    flat = x.flatten(2)
    return bool(((flat == flat.amin(2, keepdim=True)) | (flat == flat.amax(2, keepdim=True))).all())


def _least_share(x: torch.Tensor, known: torch.Tensor) -> float:
    """From which share of equal samples on it is no chance."""
    if is_grid(x) or x[0].numel() > 64:
        return _SHARE
    chance = float((same_in(columns_shuffled(x), known) >= 0).double().mean())
    return max(_TABLE, 3 * chance)


def _near(evidence: Evidence, x: torch.Tensor, known: torch.Tensor, useful: torch.Tensor) -> Iterable[Finding]:
    x, known = x[:MOST], known[:MOST]
    if x.shape[1:] != known.shape[1:] or len(known) < 30 or len(x) < 20:
        return
    if not bool(torch.isfinite(x).all() and torch.isfinite(known).all()):
        return
    base = comparable(known, known)
    across, within = neighbors(comparable(x, known), base), neighbors(base, base, same=True)
    count, share, usual = int(across.near.sum()), float(across.near.double().mean()), float(within.near.double().mean())
    copies = across.ratio < ALL_BUT_EQUAL
    if is_grid(x) and float(copies.double().mean()) >= MOST_OF_THEM:
        first = int(copies.nonzero()[0])
        _draw(evidence, x[first : first + 1], known[across.nearest[first : first + 1]])
        yield _told(
            int(copies.sum()),
            len(x),
            f"a training sample except for brightness and contrast: their distance is less than {ALL_BUT_EQUAL:g} "
            f"times that to the tenth nearest (the first: validation sample {int(useful[first])} and training "
            f"sample {int(across.nearest[first])})",
            _GRAVE_NEAR,
            f"{MOST_OF_THEM:.0%} of validation is equal to training samples except for brightness and contrast",
        )
        return
    error = (max(usual * (1 - usual), 1e-4) * (1 / len(x) + 1 / len(known))) ** 0.5
    if count < max(_FEWEST, _GRAVE * len(x)) or share < 3 * usual + 0.03 or share - usual < _CERTAIN * error:
        return
    near = across.near.nonzero().flatten()
    if of_whole_numbers(x):
        further = [_goes_on(known[across.nearest[row]], x[row]) for row in near]
        if sum(further) > len(further) / 2:
            return
    pair = near[:3]
    _draw(evidence, x[pair], known[across.nearest[pair]])
    first = int(pair[0])
    yield _told(
        count,
        len(x),
        "nearly identical to a training sample: their distance is less than 0.3 times that to the tenth nearest; "
        f"within training this holds for {usual:.1%} (the first: validation sample {int(useful[first])} and "
        f"training sample {int(across.nearest[first])})",
        _GRAVE_NEAR,
        _NEARLY_EQUAL,
    )


def _goes_on(known: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether a sequence is the known one and more, in the place of what that is filled up with: of the same history
    it is asked what came later."""
    different = (known != x).nonzero().flatten()
    return len(different) > 0 and int(different[0]) > 1 and len(known[int(different[0]) :].unique()) == 1


def _first(useful: torch.Tensor, where: torch.Tensor) -> str:
    first = int((where >= 0).nonzero()[0])
    return (
        f" (the first: validation sample {int(useful[first])} and training sample {int(where[first])}, in loader order)"
    )


def _draw(evidence: Evidence, val: torch.Tensor, train: torch.Tensor) -> None:
    pairs = [image for both in zip(val, train, strict=True) for image in both]
    drawn = picture_of("Validation beside training", pairs, ["validation", "training"] * len(val))
    if drawn is not None:
        evidence.pictures["data.leak"] = drawn


def _told(count: int, total: int, how: str, grave: float, limit: str) -> Finding:
    return LEAK.finding(
        severity="error" if count >= grave * total else "warning",
        where="validation loader",
        measured=f"{count:,} of {several(total, 'validation sample is', 'validation samples are')} {how}",
        limit=limit,
        why="The network recognizes samples that it was trained on: the validation metrics are too good.",
        remedy=Remedy(
            "Split first, once and by position: `order = torch.randperm(len(x)); train, val = order[:n], "
            "order[n:]`. Remove copies first, and keep what belongs together (frames, patients) on one side. "
            "Copies, crops and augmentation come after the split, in training only.",
            command=("data", "check", "DATA"),
        ),
    )


LEAK = Check(
    codes=("data.leak",),
    question="Are any validation samples also trained on?",
    run=_find_leak,
)
