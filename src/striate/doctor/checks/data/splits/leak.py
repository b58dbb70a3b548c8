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
from striate.doctor.checks.data.common import picture_of
from striate.doctor.checks.data.inputs.constant_images import blank_samples
from striate.doctor.checks.data.inputs.near_blank import near_blank_samples
from striate.doctor.checks.data.splits.duplicates import MOST_OF_THEM, NEARLY_EQUAL, of_whole_numbers, share_of_copies
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.held_samples import shared_samples
from striate.doctor.evidence.nearness import MOST, columns_shuffled, comparable, copies_in, neighbors, same_in
from striate.doctor.evidence.read_batches import shared_positions
from striate.doctor.evidence.samples import Samples, gathered
from striate.doctor.setup.batch import leaves
from striate.records import Finding, Remedy
from striate.wording import percent, several

_SHARE, _GRAVE, _FEWEST = 0.02, 0.05, 3
_COPIES, _MANY_COPIES = 0.05, 0.1
"""Good data sets hold a few copies: 3 % of CIFAR-10's test images have a near copy in training (B. Barz and J. Denzler,
"Do we train on test data?", 2020)."""
_GRAVE_NEAR = 0.2
_TABLE = 0.1
_OFTENER = 10
"""How many times the share of repeated pairs within training that of validation is; by chance, both are about equal."""
_COLUMNS = 3
_CERTAIN = 4.0
_LARGER = 3
"""The most values of a stored image for each value of an input; larger images are cut into several samples."""
_FROM = f"a warning from {percent(_SHARE, 0)} of validation and {_FEWEST} samples, an error from {percent(_GRAVE, 0)}"
_EQUAL = (
    f"a note from {percent(_SHARE, 0)} of validation and {_FEWEST} samples, a warning from {percent(_COPIES, 0)}, an "
    f"error from {percent(_MANY_COPIES, 0)}; for tables, whose rows may be equal by chance, {percent(_TABLE, 0)} and "
    "three times chance; a note for token sequences, and drawings in one color, that training repeats half as often"
)
_PAIRS_EQUAL = (
    f"{percent(_TABLE, 0)} of the validation pairs, such as users and items, and at most a tenth as many repeated in "
    f"training; an error from {percent(_GRAVE, 0)}"
)
_NEARLY_EQUAL = (
    f"{percent(_GRAVE, 0)} of validation, three times as many as within training, by more than {_CERTAIN:g} standard "
    f"errors; an error from {percent(_GRAVE_NEAR, 0)}"
)


def _find_leak(evidence: Evidence) -> Iterable[Finding]:
    shared = shared_positions(evidence.setup.train, evidence.setup.val)
    if shared is not None and shared[0] >= max(_FEWEST, _SHARE * shared[1]):
        count, total = shared
        how = "the same positions of the same data set as training samples, or the same objects in a list"
        yield _finding(count, total, how, _GRAVE, _FROM)
        return
    looked_up = _looked_up(evidence) or _item_for_each_user(evidence)
    if looked_up is not None:
        read = evidence.train.count
        yield from _repeated_pairs(*looked_up, read=min(1.0, read / (evidence.train.length or read)))
        return
    train, val = evidence.samples, evidence.val_samples
    if not train.alone and train.joined is None:
        # Batches of triplets do not hold single samples, but the data sets do.
        yield from list(_stored_in_both(evidence, train.inputs)) or _equal_in_all(evidence)
        return
    x, known = val.sole_inputs, train.sole_inputs
    pairs, others = _pairs_with_targets(train), _pairs_with_targets(val)
    if pairs is not None and others is not None:
        yield from _repeated_pairs(pairs, others)
        return
    useful = torch.arange(len(x))[~(blank_samples(val) | near_blank_samples(x))]
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
        how = f"identical to a training sample{_first_pair(useful, where)}"
        found = _finding(count, len(x), how, _MANY_COPIES, _EQUAL)
        harmless = count < _COPIES * len(x) or _alike_by_chance(known, count / len(x))
        yield replace(found, severity="note") if harmless else found
        return
    yield from list(_stored_in_both(evidence, x)) or _nearly_equal(evidence, x, known, useful)


def _stored_in_both(evidence: Evidence, x: torch.Tensor) -> Iterator[Finding]:
    """A finding if the data sets of training and validation store the same images."""
    if x.ndim != 4:  # both splits may hold the same time series, and use different stretches of it
        return
    held = shared_samples(evidence.setup.train, evidence.setup.val, _LARGER * x[0].numel())
    if held is not None and held[0] >= max(_FEWEST, _SHARE * held[1]):
        yield _finding(*held, "made from the same stored image as a training sample", _GRAVE, _FROM)


def _equal_in_all(evidence: Evidence) -> Iterator[Finding]:
    """A finding if samples of several inputs, including an image, equal training samples in all inputs."""
    images = is_grid(evidence.samples.inputs)
    known, x = (_flat_samples(part.raw) if images else None for part in (evidence.train, evidence.val))
    if known is None or x is None or known.shape[1:] != x.shape[1:]:
        raise NoEvidence("the network gets several inputs, which cannot be judged one by one")
    count = int((same_in(x, known) >= 0).sum())
    if count >= max(_FEWEST, _SHARE * len(x)):
        yield _finding(count, len(x), "identical to a training sample in all inputs", _GRAVE, _FROM)


def _flat_samples(batches: Sequence[Any]) -> torch.Tensor | None:
    """All values of each sample (N, numbers); None if the shapes of samples differ."""
    found = [gathered(batches, path) for path, tensor in leaves(batches[0]) if tensor.ndim]
    if not found or any(part is None or len(part) != len(found[0]) for part in found if found[0] is not None):
        return None
    return torch.cat([part.detach().cpu().reshape(len(part), -1).float() for part in found if part is not None], 1)


def _pairs_with_targets(samples: Samples) -> torch.Tensor | None:
    """Pairs of integers, such as users and items, with their targets (N, 3), without those with the least target (such
    as negative pairs drawn at random); None for other samples."""
    x, y = samples.sole_inputs.reshape(len(samples.sole_inputs), -1), samples.y
    if x.shape[1] != 2 or y is None or y.numel() != len(x) or not bool((x == x.round()).all()):
        return None
    targets = y.reshape(len(x), 1)
    return torch.cat([x, targets], 1).double()[targets[:, 0] > targets.min()]


def _looked_up(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Indices of users and chosen items (N, 2), or of triples (N, 3), of training and of validation, if the step looks
    up everything in batches in embeddings; else None."""
    with suppress(NoEvidence):
        entries, val_columns = evidence.calls.entries, _columns(evidence.val.raw[0])
        train_columns = _columns(evidence.train.raw[0])
        if not 2 <= len(val_columns) <= len(train_columns) or not all(
            any(torch.equal(c, e) for e in entries) for c in train_columns
        ):
            return None
        known, others = (
            torch.cat([torch.stack(_columns(batch)[: len(val_columns)], 1) for batch in batches.raw])
            for batches in (evidence.train, evidence.val)
        )
        return known, others
    return None


_HELD = re.compile(r"hold|held|left_?out|val|test", re.IGNORECASE)


def _item_for_each_user(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The same for training and a variable of the script that holds one item for each user."""
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
    """The integer columns of a batch; empty if it contains anything else."""
    found = [tensor.detach().cpu() for _, tensor in leaves(batch)]
    if any(t.ndim not in (1, 2) or t.is_floating_point() or t.numel() > _COLUMNS * len(t) for t in found):
        return []
    columns = [column for tensor in found for column in (tensor[:, None] if tensor.ndim == 1 else tensor).long().T]
    return columns if len({len(column) for column in columns}) == 1 else []


def _repeated_pairs(known: torch.Tensor, x: torch.Tensor, read: float = 1.0) -> Iterator[Finding]:
    """A finding if training contains pairs of validation, although it hardly repeats any pair itself. `read`: the share
    of training that was read."""
    count = int((same_in(x, known) >= 0).sum())
    if count < _FEWEST or count < _TABLE * read * len(x) or share_of_copies(known) * _OFTENER > count / len(x):
        return
    how = "pairs of numbers, such as a user and an item, that also occur in training, which repeats almost none"
    yield _finding(count, len(x), how, _GRAVE, _PAIRS_EQUAL)


def _alike_by_chance(known: torch.Tensor, share: float) -> bool:
    """Whether samples are token sequences, or drawings in one color, that training itself repeats at least half as
    often: short sentences and simple signs occur twice by chance."""
    known = known[~near_blank_samples(known)]
    first = copies_in(known)
    repeated = float((torch.bincount(first)[first] > 1).double().mean())
    return (of_whole_numbers(known) or _in_one_color(known)) and repeated > share / 2


def _in_one_color(x: torch.Tensor) -> bool:
    """Whether each channel of each image (N, C, H, W) has at most two values."""
    if x.ndim != 4:
        return False
    flat = x.flatten(2)
    return bool(((flat == flat.amin(2, keepdim=True)) | (flat == flat.amax(2, keepdim=True))).all())


def _least_share(x: torch.Tensor, known: torch.Tensor) -> float:
    """The share from which on equal samples are not chance."""
    if is_grid(x) or x[0].numel() > 64:
        return _SHARE
    chance = float((same_in(columns_shuffled(x), known) >= 0).double().mean())
    return max(_TABLE, 3 * chance)


def _nearly_equal(evidence: Evidence, x: torch.Tensor, known: torch.Tensor, useful: torch.Tensor) -> Iterable[Finding]:
    x, known = x[:MOST], known[:MOST]
    if x.shape[1:] != known.shape[1:] or len(known) < 30 or len(x) < 20:
        return
    if not bool(torch.isfinite(x).all() and torch.isfinite(known).all()):
        return
    base = comparable(known, known)
    across, within = neighbors(comparable(x, known), base), neighbors(base, base, same=True)
    count, share, usual = int(across.near.sum()), float(across.near.double().mean()), float(within.near.double().mean())
    copies = across.ratio < NEARLY_EQUAL
    if is_grid(x) and float(copies.double().mean()) >= MOST_OF_THEM:
        first = int(copies.nonzero()[0])
        _draw(evidence, x[first : first + 1], known[across.nearest[first : first + 1]])
        yield _finding(
            int(copies.sum()),
            len(x),
            f"a training sample except for brightness and contrast: their distance is less than {NEARLY_EQUAL:g} "
            f"times that to the tenth nearest (the first: validation sample {int(useful[first])} and training "
            f"sample {int(across.nearest[first])})",
            _GRAVE_NEAR,
            f"{percent(MOST_OF_THEM, 0)} of validation is equal to training samples except for brightness and contrast",
        )
        return
    error = (max(usual * (1 - usual), 1e-4) * (1 / len(x) + 1 / len(known))) ** 0.5
    if count < max(_FEWEST, _GRAVE * len(x)) or share < 3 * usual + 0.03 or share - usual < _CERTAIN * error:
        return
    near = across.near.nonzero().flatten()
    if of_whole_numbers(x):
        further = [_continues(known[across.nearest[row]], x[row]) for row in near]
        if sum(further) > len(further) / 2:
            return
    pair = near[:3]
    _draw(evidence, x[pair], known[across.nearest[pair]])
    first = int(pair[0])
    yield _finding(
        count,
        len(x),
        "nearly identical to a training sample: their distance is less than 0.3 times that to the tenth nearest; "
        f"within training this holds for {percent(usual)} (the first: validation sample {int(useful[first])} and "
        f"training sample {int(across.nearest[first])})",
        _GRAVE_NEAR,
        _NEARLY_EQUAL,
    )


def _continues(known: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether a sequence continues the known one where that has padding: validation of the same history at a later
    time."""
    different = (known != x).nonzero().flatten()
    return len(different) > 0 and int(different[0]) > 1 and len(known[int(different[0]) :].unique()) == 1


def _first_pair(useful: torch.Tensor, where: torch.Tensor) -> str:
    first = int((where >= 0).nonzero()[0])
    return (
        f" (the first: validation sample {int(useful[first])} and training sample {int(where[first])}, in loader order)"
    )


def _draw(evidence: Evidence, val: torch.Tensor, train: torch.Tensor) -> None:
    pairs = [image for both in zip(val, train, strict=True) for image in both]
    drawn = picture_of("Validation beside training", pairs, ["validation", "training"] * len(val))
    if drawn is not None:
        evidence.pictures["data.leak"] = drawn


def _finding(count: int, total: int, how: str, grave: float, limit: str) -> Finding:
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
    run=_find_leak,
)
