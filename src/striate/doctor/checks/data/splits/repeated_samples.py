"""Samples that come again: `data.duplicates` in training, and `data.leak` into validation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.inputs.input_values import bare_samples, blank_samples
from striate.doctor.checks.data.looking import picture_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.held_samples import held_in_common
from striate.doctor.evidence.nearness import (
    MOST,
    columns_dealt,
    comparable,
    copies_in,
    neighbors,
    same_in,
)
from striate.doctor.evidence.reading import draws_again, shared_positions
from striate.doctor.evidence.samples import Samples, gathered
from striate.doctor.setup.batch import leaves, main_tensor, parts
from striate.records import Finding, Remedy, Severity
from striate.wording import several

DUPLICATES_SHARE, DUPLICATES_GRAVE, DUPLICATES_FEWEST = 0.2, 0.5, 10
_MOST, _ALL, _MOST_OF_THEM = 2000, 0.95, 0.5
_SECONDS = 0.3
_EVEN, _EVEN_IN_PART = 0.05, 0.2
_TIMES = 20
"""Copies of each sample that make an epoch longer."""
_SCALED = 0.995
"""Correlation of inputs and what the network is given, above which they were only scaled."""


def _find_duplicates(evidence: Evidence) -> Iterable[Finding]:
    call = getattr(evidence.setup.train, "drawn_once", "")
    if call:
        yield _same_batch(call, evidence.train.largest)
        return
    samples = evidence.samples
    x = samples.sole_inputs[~blank_samples(samples)]
    if _share(x) < DUPLICATES_SHARE:
        return
    x = x[~bare_samples(x)]
    where = "training loader"
    if draws_again(evidence.setup.train):
        x, where = _of_data_set(evidence), "training data set"
    share = _share(x)
    if len(x) < DUPLICATES_FEWEST or share < _least(x):
        return
    first = copies_in(x)
    counts = torch.bincount(first)
    if _bootstrapped(counts[counts > 0]):
        return
    severity: Severity = "error" if share >= DUPLICATES_GRAVE else "warning"
    if _of_whole_numbers(x) and float((counts[counts > 0] > 1).double().mean()) < _ALL:
        severity = "note"
    if where == "training loader" and (_balanced(evidence, first) or (_even(counts) and _varied_in_step(evidence))):
        severity = "note"
    most = int(counts.argmax())
    rows = (first == most).nonzero().flatten()
    shown = torch.cat([rows[:3], first.unique()[:2]])
    drawn = picture_of("The same image again and again", list(x[shown]), ["the same"] * len(rows[:3]) + ["other"] * 2)
    if drawn is not None:
        evidence.pictures["data.duplicates"] = drawn
    distinct = len(first.unique())
    yield DUPLICATES.finding(
        severity=severity,
        where=where,
        measured=f"{len(x) - distinct:,} of {several(len(x), 'sample')} are copies of others: {distinct:,} "
        f"different ones, the most frequent {int(counts.max()):,} times",
        why="The network sees less data than it seems and memorizes the copies; copies on both sides of a split "
        "make validation look too good.",
        remedy=Remedy(
            "Check how the list of samples is made (a folder listed twice, an index that `__getitem__` ignores, "
            "`x.repeat`), and keep each sample once: `x, first = np.unique(x, axis=0, return_index=True); y = "
            "y[first]`, before the split.",
            command=("data", "check", "DATA"),
        ),
    )


def _balanced(evidence: Evidence, first: torch.Tensor) -> bool:
    """Whether copies only make all classes as common as the commonest, which has next to none: rare classes are
    repeated on purpose."""
    with suppress(NoEvidence):
        labels = evidence.samples.labels
        if len(labels) == len(first):
            counts = torch.bincount(labels)
            different = torch.stack([torch.tensor(len(first[labels == k].unique())) for k in range(len(counts))])
            apart = _EVEN if evidence.train.whole else _EVEN_IN_PART
            even = int(counts.max()) - int(counts.min()) <= apart * int(counts.max())
            return even and float((different / counts.clamp(min=1)).max()) >= 1 - _EVEN
    return False


def _even(counts: torch.Tensor) -> bool:
    """Whether each sample comes as often as the others, some times: that makes an epoch longer, and nothing else."""
    known = counts[counts > 0]
    return int(known.min()) == int(known.max()) <= _TIMES


def _varied_in_step(evidence: Evidence) -> bool:
    """Whether the step changes inputs by more than their scale before the network gets them: copies then differ."""
    first, inputs = evidence.first, main_tensor(parts(evidence.train.raw[0])[0])
    given = first.shown
    if given is None or inputs is None or given.shape != inputs.shape or len(given) < 2:
        return False
    pairs = torch.stack([tensor.detach().cpu().double().flatten() for tensor in (given, inputs)])
    return float(torch.corrcoef(pairs)[0, 1]) < _SCALED


def _bootstrapped(counts: torch.Tensor) -> bool:
    """Whether samples occur as often as where as many as there are were drawn with replacement, as for bagging (Breiman
    1996): of n, n/e not at all, as many once, half of that twice."""
    drawn, distinct, once = int(counts.sum()), len(counts), int((counts == 1).sum())
    room = 4 * (0.1 / drawn) ** 0.5  # four standard deviations of such a share, about
    return bool(abs(distinct / drawn - (1 - 1 / math.e)) < room and abs(once / drawn - 1 / math.e) < 2 * room)


def _same_batch(call: str, batch: int) -> Finding:
    return DUPLICATES.finding(
        severity="error",
        where="the training loop",
        measured=f"`{call}` gives other samples each time, but is only called before the loop: all steps get the "
        f"same {several(batch, 'sample')}",
        limit="one batch for all steps",
        why="The network memorizes one batch and never sees the other data.",
        remedy=f"call `{call}` in each pass of the loop, before the network",
    )


def _share(x: torch.Tensor) -> float:
    """The share of samples that are copies of others."""
    return 1 - len(copies_in(x).unique()) / len(x) if len(x) else 0.0


def _least(x: torch.Tensor) -> float:
    """From which share on copies are no chance."""
    if not len(x) or is_grid(x) or x[0].numel() > 64:
        return DUPLICATES_SHARE
    return max(DUPLICATES_SHARE, min(3 * _share(columns_dealt(x)), 1.0))


def _of_data_set(evidence: Evidence) -> torch.Tensor:
    """Inputs as the data set holds them, one by one. Raises NoEvidence where it cannot be asked for them."""
    data: Any = getattr(evidence.setup.train, "dataset", None)
    until = perf_counter() + _SECONDS
    found: list[torch.Tensor] = []
    try:
        for number in range(min(len(data), _MOST)):
            tensor = main_tensor(parts(data[number])[0])
            if tensor is None or perf_counter() > until:
                break
            found.append(tensor.detach().cpu())
    except Exception:  # a data set that is asked in another way than by positions
        raise NoEvidence("the sampler repeats samples on purpose, and the data set cannot be read by index") from None
    if not found or len({(tensor.shape, tensor.dtype) for tensor in found}) != 1:
        raise NoEvidence(
            "the sampler repeats samples on purpose, and the samples of the data set differ in shape or type"
        )
    return torch.stack(found)


DUPLICATES = Check(
    codes=("data.duplicates",),
    question="Does training get different samples?",
    threshold=f"a warning if {DUPLICATES_SHARE:.0%} of the samples are copies (for tables, three times as many as "
    f"by chance), an error from {DUPLICATES_GRAVE:.0%}; a note for token sequences if less than {_ALL:.0%} have "
    "copies, and if copies balance the classes or the step varies them",
    run=_find_duplicates,
    explains="data.imbalance data.label-noise data.missing-class data.too-few fit.overfit",
)


LEAK_SHARE, LEAK_GRAVE, LEAK_FEWEST = 0.02, 0.05, 3
_GRAVE_NEAR = 0.2
TABLE = 0.1
_OFTENER = 10
"""Times as many of validation as within training: where pairs come again by chance, there are as many, about."""
_COLUMNS = 3
_CERTAIN = 4.0
_LARGER = 3
"""Numbers of a whole image, for each that the network is given: not of one whose parts are samples."""
_ALL_BUT_EQUAL, _MOST_OF_THEM = 0.05, 0.6
"""Of the distance to the tenth neighbor; of validation. Of pictures that differ in one quantity alone it is a third."""
_FROM = f"a warning from {LEAK_SHARE:.0%} of validation and {LEAK_FEWEST} samples, an error from {LEAK_GRAVE:.0%}"
_EQUAL = (
    f"{_FROM}; for tables, whose rows may be equal by chance, {TABLE:.0%} and three times chance; a note for token "
    "sequences, and drawings in one color, that training repeats half as often"
)
_PAIRS_EQUAL = (
    f"{TABLE:.0%} of the validation pairs, such as users and items, and at most a tenth as many repeated in "
    f"training; an error from {LEAK_GRAVE:.0%}"
)
_NEARLY_EQUAL = (
    f"{LEAK_GRAVE:.0%} of validation, three times as many as within training, by more than {_CERTAIN:g} standard "
    f"errors; an error from {_GRAVE_NEAR:.0%}"
)


def _find_leak(evidence: Evidence) -> Iterable[Finding]:
    shared = shared_positions(evidence.setup.train, evidence.setup.val)
    if shared is not None and shared[0] >= max(LEAK_FEWEST, LEAK_SHARE * shared[1]):
        count, total = shared
        how = "the same positions of the same data set as training samples, or the same objects in a list"
        yield _told(count, total, how, LEAK_GRAVE, _FROM)
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
    if count >= max(LEAK_FEWEST, _least_share(x, known) * len(x)):
        pair = (where >= 0).nonzero()[:3].flatten()
        _draw(evidence, x[pair], known[where[pair]])
        how = f"identical to a training sample{_first(useful, where)}"
        found = _told(count, len(x), how, LEAK_GRAVE, _EQUAL)
        yield replace(found, severity="note") if _alike_by_chance(known, count / len(x)) else found
        return
    yield from list(_held(evidence, x)) or _near(evidence, x, known, useful)


def _held(evidence: Evidence, x: torch.Tensor) -> Iterator[Finding]:
    """Images that the data sets of training and validation both hold."""
    if x.ndim != 4:  # of a series that both parts hold each may be given another stretch
        return
    held = held_in_common(evidence.setup.train, evidence.setup.val, _LARGER * x[0].numel())
    if held is not None and held[0] >= max(LEAK_FEWEST, LEAK_SHARE * held[1]):
        yield _told(*held, "made from the same stored image as a training sample", LEAK_GRAVE, _FROM)


def _equal_in_all(evidence: Evidence) -> Iterator[Finding]:
    """Samples of several inputs, an image among them, of which everything is equal to that of a training sample."""
    images = is_grid(evidence.samples.inputs)
    known, x = (_side_by_side(part.raw) if images else None for part in (evidence.train, evidence.val))
    if known is None or x is None or known.shape[1:] != x.shape[1:]:
        raise NoEvidence("the network gets several inputs, which cannot be judged one by one")
    count = int((same_in(x, known) >= 0).sum())
    if count >= max(LEAK_FEWEST, LEAK_SHARE * len(x)):
        yield _told(count, len(x), "identical to a training sample in all inputs", LEAK_GRAVE, _FROM)


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
            if whole and len(users) >= _MOST_OF_THEM * len(kept):
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
    if count < LEAK_FEWEST or count < TABLE * read * len(x) or _share(known) * _OFTENER > count / len(x):
        return
    how = "pairs of numbers, such as a user and an item, that also occur in training, which repeats almost none"
    yield _told(count, len(x), how, LEAK_GRAVE, _PAIRS_EQUAL)


def _alike_by_chance(known: torch.Tensor, share: float) -> bool:
    """Whether samples are sequences of whole numbers, as of words, or drawings in one color, that training repeats at
    least half as often: short sentences are said twice, and signs are written twice."""
    known = known[~bare_samples(known)]
    first = copies_in(known)
    repeated = float((torch.bincount(first)[first] > 1).double().mean())
    return (_of_whole_numbers(known) or _in_one_color(known)) and repeated > share / 2


def _in_one_color(x: torch.Tensor) -> bool:
    """Whether each channel of each image (N, C, H, W) has two values at most."""
    if x.ndim != 4:
        return False
    flat = x.flatten(2)
    return bool(((flat == flat.amin(2, keepdim=True)) | (flat == flat.amax(2, keepdim=True))).all())


def _of_whole_numbers(x: torch.Tensor) -> bool:
    """Whether samples are sequences of whole numbers, as of words."""
    whole = not x.is_floating_point() or bool((x == x.round()).all())
    return whole and x.ndim == 2 and not is_grid(x)


def _least_share(x: torch.Tensor, known: torch.Tensor) -> float:
    """From which share of equal samples on it is no chance."""
    if is_grid(x) or x[0].numel() > 64:
        return LEAK_SHARE
    chance = float((same_in(columns_dealt(x), known) >= 0).double().mean())
    return max(TABLE, 3 * chance)


def _near(evidence: Evidence, x: torch.Tensor, known: torch.Tensor, useful: torch.Tensor) -> Iterable[Finding]:
    x, known = x[:MOST], known[:MOST]
    if x.shape[1:] != known.shape[1:] or len(known) < 30 or len(x) < 20:
        return
    if not bool(torch.isfinite(x).all() and torch.isfinite(known).all()):
        return
    base = comparable(known, known)
    across, within = neighbors(comparable(x, known), base), neighbors(base, base, same=True)
    count, share, usual = int(across.near.sum()), float(across.near.double().mean()), float(within.near.double().mean())
    copies = across.ratio < _ALL_BUT_EQUAL
    if is_grid(x) and float(copies.double().mean()) >= _MOST_OF_THEM:
        first = int(copies.nonzero()[0])
        _draw(evidence, x[first : first + 1], known[across.nearest[first : first + 1]])
        yield _told(
            int(copies.sum()),
            len(x),
            f"a training sample except for brightness and contrast: their distance is less than {_ALL_BUT_EQUAL:g} "
            f"times that to the tenth nearest (the first: validation sample {int(useful[first])} and training "
            f"sample {int(across.nearest[first])})",
            _GRAVE_NEAR,
            f"{_MOST_OF_THEM:.0%} of validation is equal to training samples except for brightness and contrast",
        )
        return
    error = (max(usual * (1 - usual), 1e-4) * (1 / len(x) + 1 / len(known))) ** 0.5
    if count < max(LEAK_FEWEST, LEAK_GRAVE * len(x)) or share < 3 * usual + 0.03 or share - usual < _CERTAIN * error:
        return
    near = across.near.nonzero().flatten()
    if _of_whole_numbers(x):
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
