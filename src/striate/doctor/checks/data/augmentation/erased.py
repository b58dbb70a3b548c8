"""Augmentation that erases nearly all of a sample, compared with the stored one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.checks.model.variants import inputs_and_outputs
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import padding_value
from striate.doctor.evidence.read_batches import DRAWN
from striate.doctor.evidence.skill import skill
from striate.doctor.setup.batch import leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import percent

_ERASED, _LEFT = 0.7, 0.5
"""The share of a drawn sample that is one value; the share of the other values of the stored sample that is left."""
_FEWEST_TOKENS = 200
_BY_STEP, _LEARNED, _DRAWS = 0.9, 0.15, 4
"""The share of a network's input that is one value; the skill of a network that learns nothing; draws of one batch."""


def erased(evidence: Evidence) -> Finding | None:
    """Images that are mostly one value in each draw, but far less so as stored. None if another part of the sample is
    intact: the masked part may be what is predicted."""
    train = evidence.setup.train
    data: Any = getattr(train, "dataset", None)
    if not isinstance(train, DataLoader) or not hasattr(data, "__dict__"):
        return None
    try:
        if not evidence.inputs_vary:
            return None
    except NoEvidence:
        return None
    draws = [[part for _, part in leaves(data[number]) if part.ndim == 3] for number in range(min(DRAWN, len(data)))]
    shapes = {part.shape for parts in draws for part in parts}
    arrays = [value[:DRAWN] for value in vars(data).values() if _is_array(value, len(data), shapes)]
    held = [part.detach().cpu() if isinstance(part, torch.Tensor) else torch.tensor(part) for part in arrays]
    if len(held) != 1 or len(shapes) != 1:
        return None
    drawn = torch.stack([part for parts in draws for part in parts])
    shares = _share_of_mode(drawn)
    before = float(_share_of_mode(held[0]).median())
    now, least = float(shares.median()), float(shares.quantile(0.1))
    if least < _ERASED or 1 - now > _LEFT * (1 - before):
        return None
    return _finding(
        "loader",
        f"{percent(now, 0)} of the values of a training image are the same number, and {percent(before, 0)} of those "
        "that the data set stores",
        f"less than {percent(_ERASED, 0)} of an image erased, or more than {percent(_LEFT, 0)} of its content left",
    )


def erased_by_step(evidence: Evidence) -> Finding | None:
    """Inputs that the step turns nearly all into one value, at other positions in each draw. None if the trial learned,
    or if the outputs do not predict the targets: the masked part may be what is predicted."""
    batch, first = evidence.train.raw[0], evidence.first.shown
    plain = main_tensor(parts(batch)[0])
    if plain is None or first is None or plain.ndim < 3 or not plain.is_floating_point() or first.shape != plain.shape:
        return None
    before, now = (_share_of_mode(part.detach().cpu()) for part in (plain, first))
    whole, masked = float(before.median()), float(now.median())
    if float(now.quantile(0.1)) < _BY_STEP or 1 - masked > _LEFT * (1 - whole):
        return None
    try:
        draws = [main_tensor(inputs_and_outputs(evidence, batch, seed=number)[0]) for number in range(_DRAWS)]
        learned = skill(evidence.after) if predicts_targets(evidence) else None
    except NoEvidence:
        return None
    shown = [part.cpu().flatten(1) for part in draws if part is not None and part.shape == plain.shape]
    if learned is None or learned >= _LEARNED or len(shown) < _DRAWS:
        return None
    left = torch.stack([part != part.mode(1, keepdim=True).values for part in shown])
    if float(left.all(0).sum()) >= _LEFT * float(left.any(0).sum()):
        return None  # the same positions each time: no augmentation
    return _finding(
        "step",
        f"{percent(masked, 0)} of a sample's values are the same number in the network's input, and "
        f"{percent(whole, 0)} in what the loader yields; each draw leaves other positions, and the trial's network "
        "learns nothing",
        f"less than {percent(_BY_STEP, 0)} of a sample erased, more than {percent(_LEFT, 0)} of its content left, or a "
        "network that learns",
    )


def tokens_erased(evidence: Evidence) -> Finding | None:
    """Sequences of tokens that are mostly one token, at other positions in each draw, unlike those of validation."""
    try:
        if not evidence.inputs_vary or evidence.setup.val is None:
            return None
        drawn, plain = _tokens(evidence.train.raw), _tokens(evidence.val.raw)
    except NoEvidence:
        return None
    if min(len(drawn), len(plain)) < _FEWEST_TOKENS:
        return None
    most = drawn.mode().values
    now, before = (float((tokens == most).double().mean()) for tokens in (drawn, plain))
    if now < _ERASED or 1 - now > _LEFT * (1 - before):
        return None
    return augmentation_finding(
        "loader",
        f"{percent(now, 0)} of the tokens of training sequences are {int(most)}, at other positions in each draw, and "
        f"{percent(before, 0)} of those of validation",
        threshold=f"less than {percent(_ERASED, 0)} of the tokens replaced by one, or more than {percent(_LEFT, 0)} of "
        "the others left",
        why="The few tokens that are left hardly show what the sequence says.",
        remedy="drop a tenth of the tokens, and check the comparison: `drop = torch.rand(len(x)) < share`",
    )


def _tokens(batches: Sequence[Any]) -> torch.Tensor:
    """All tokens of the inputs of batches, without padding; none if inputs are not tokens."""
    found = list[torch.Tensor]()
    for batch in batches:
        tokens = main_tensor(parts(batch)[0])
        if tokens is None or tokens.ndim != 2 or tokens.dtype not in (torch.int32, torch.int64):
            return torch.zeros(0)
        filler = padding_value(tokens)
        found.append(tokens.flatten() if filler is None else tokens[tokens != filler])
    return torch.cat(found) if found else torch.zeros(0)


def _finding(place: str, measured: str, threshold: str) -> Finding:
    return augmentation_finding(
        place,
        measured,
        threshold=threshold,
        why="What is left hardly shows what the sample is: a person could not tell either.",
        remedy="erase less: a tenth to a third of the area",
    )


def _is_array(value: object, length: int, shapes: set[torch.Size]) -> bool:
    fits = isinstance(value, torch.Tensor | np.ndarray) and len(value.shape) in (3, 4) and len(value) == length
    return fits and any(int(np.prod(value.shape[1:])) == shape.numel() for shape in shapes)  # type: ignore[attr-defined]


def _share_of_mode(images: torch.Tensor) -> torch.Tensor:
    """(N,) the share of each image's values that equal its most frequent value."""
    flat = images.flatten(1)
    return (flat == flat.mode(1, keepdim=True).values).double().mean(1)
