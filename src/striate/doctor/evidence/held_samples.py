"""What data sets hold of each sample, in lists and arrays, before augmentation: the same in training and validation?
The labels that they hold beside images and signals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.read_batches import MOST_BYTES, positions_drawn
from striate.doctor.setup.reached_objects import attributes_of

_MOST, _FEWEST_NUMBERS, _FEW, _TIMES = 20_000, 16, 8, 20
"""Samples; numbers of an image; tensors side by side; entries of one image, of which there are more where each is given
another part of it."""
_ARRAYS = (torch.Tensor, np.ndarray)
_LISTED = (list, tuple, *_ARRAYS)


def held_in_common(train: Any, val: Any, most: int) -> tuple[int, int] | None:
    """Of how many samples of validation the data set holds just what it holds of a training sample (an image of so many
    numbers at `most`, or a file, and whatever is beside it), and of how many that is known; None where it is not. Of
    two data sets of one class what both have counts: partners may be kept for validation, and drawn for training."""
    drawn = [positions_drawn(loader) for loader in (train, val)]
    if drawn[0] is None or drawn[1] is None:
        return None
    (data, rows), (other, asked) = drawn[0], drawn[1]
    own, others = _named_columns(data), _named_columns(other)
    if type(data) is type(other):
        both = [name for name in own if name in others]
        own, others = ({name: part[name] for name in both} for part in (own, others))
    known = {key for key, times in Counter(_held(list(own.values()), rows, most)).items() if times <= _TIMES}
    keys = list(_held(list(others.values()), asked, most))
    return (sum(key in known for key in keys), len(keys)) if known and keys else None


def _held(columns: list[Any], drawn: Collection[int], most: int) -> Iterator[Hashable]:
    if not columns:
        return
    rows = sorted(drawn)[:_MOST]
    if len(rows) * sum(_bytes(column[rows[0]]) for column in columns) > MOST_BYTES:
        return
    for row in rows:
        sample = [column[row] for column in columns]
        if _is_one_of_its_kind(sample, most):
            yield _key(sample)


def columns_of(data: Any) -> list[Any]:
    """What has one entry for each sample."""
    return list(_named_columns(data).values())


def _named_columns(data: Any) -> dict[str, Any]:
    """The same, each by its attribute, or by that of the short list that has it and its place there."""
    held = dict(attributes_of(data))
    short = [(name, value) for name, value in held.items() if isinstance(value, list | tuple) and len(value) <= _FEW]
    held |= {f"{name}.{place}": part for name, value in short for place, part in enumerate(value)}
    return {
        name: value
        for name, value in held.items()
        if isinstance(value, _LISTED) and getattr(value, "shape", None) != () and len(value) == len(data)
    }


def _bytes(value: Any) -> int:
    value = _listed(value)
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return int(value.nbytes) if isinstance(value, _ARRAYS) else 0


def _is_one_of_its_kind(value: Any, most: int) -> bool:
    """Whether it has an image of more than two values, or a file: what no two samples share by chance, as drawings of
    one color on another may."""
    value = _listed(value)
    if isinstance(value, list | tuple):
        return any(_is_one_of_its_kind(part, most) for part in value)
    if isinstance(value, _ARRAYS):
        numbers = _plain(value)
        enough = _FEWEST_NUMBERS <= numbers.size <= most and numbers.dtype.kind in "iuf"
        return enough and bool(((numbers > numbers.min()) & (numbers < numbers.max())).any())
    return isinstance(value, str | Path) and Path(value).is_file()


def _key(value: Any) -> Hashable:
    value = _listed(value)
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    if isinstance(value, _ARRAYS):
        return tuple(value.shape), str(value.dtype), hash(_plain(value).tobytes())
    return value if isinstance(value, Hashable) else id(value)


def _listed(value: Any) -> Any:
    """What a record by names holds, side by side; else the value itself."""
    return list(value.values()) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    return value.detach().cpu().double().numpy() if isinstance(value, torch.Tensor) else value


FEWEST_LABELED, FEWEST_IN_CLASS = 60, 10


def labeled_samples(loader: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The images or signals of a data set (N, C, …) and the class numbers that it holds beside them (N,), by which it
    chooses what goes together, as of triplets; None where it is not clear."""
    data = getattr(loader, "dataset", None)
    held = list(vars(data).values()) if hasattr(data, "__dict__") else []
    held = [torch.as_tensor(part) if _is_numeric(part) else part for part in held]
    images = [part for part in held if isinstance(part, torch.Tensor) and is_grid(part) and len(part) >= FEWEST_LABELED]
    lists = [part for part in held if isinstance(part, list) and all(type(value) is int for value in part)]
    numbers = [part for part in held if isinstance(part, torch.Tensor) and part.ndim == 1]
    numbers += map(torch.tensor, lists)
    labels = [part for part in numbers if images and len(part) == len(images[0]) and not part.is_floating_point()]
    single = len(images) == len(labels) == 1 and 1 < len(labels[0].unique()) <= len(labels[0]) / FEWEST_IN_CLASS
    return (images[0].float(), labels[0]) if single and int(labels[0].min()) >= 0 else None


def _is_numeric(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
