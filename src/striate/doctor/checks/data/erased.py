"""Samples of which augmentation leaves next to nothing, beside what their data set holds of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.reading import DRAWN
from striate.doctor.setup.batch import leaves
from striate.records import Finding

_ERASED, _LEFT = 0.7, 0.5
"""Of a sample as it is drawn, that is one number; of the rest of it as it is held, what is left."""


def erased(evidence: Evidence) -> Finding | None:
    """Images most of which is one number in each draw, and far less as the data set holds them; none where another part
    of the sample is whole, as what is masked is to be filled in."""
    train = evidence.setup.train
    data: Any = getattr(train, "dataset", None)
    if not isinstance(train, DataLoader) or not hasattr(data, "__dict__"):
        return None
    try:
        if not evidence.drawn_anew:
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
    shares = _of_one_number(drawn)
    before = float(_of_one_number(held[0]).median())
    now, least = float(shares.median()), float(shares.quantile(0.1))
    if least < _ERASED or 1 - now > _LEFT * (1 - before):
        return None
    return Finding(
        code="data.augmentation",
        severity="error",
        where="the augmentation of training inputs",
        measured=f"{now:.0%} of a training image is one and the same number, and {before:.0%} of it as the data set "
        "holds it",
        threshold=f"less than {_ERASED:.0%}, or more than {_LEFT:.0%} of the rest",
        why="What is left of an image hardly shows what it is: a person could not tell it either.",
        remedy="erase less: a tenth to a third of the area",
    )


def _is_array(value: object, length: int, shapes: set[torch.Size]) -> bool:
    fits = isinstance(value, torch.Tensor | np.ndarray) and len(value.shape) in (3, 4) and len(value) == length
    return fits and any(int(np.prod(value.shape[1:])) == shape.numel() for shape in shapes)  # type: ignore[attr-defined]


def _of_one_number(images: torch.Tensor) -> torch.Tensor:
    """(N,) the share of each image's values that are its most frequent one."""
    flat = images.flatten(1)
    return (flat == flat.mode(1, keepdim=True).values).double().mean(1)
