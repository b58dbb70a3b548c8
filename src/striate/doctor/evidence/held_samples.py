"""The stored samples of data sets, before augmentation: which training and validation share, and their labels."""

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
"""Most samples; fewest numbers of an image; most items of a list of tensors that each have an entry for every sample;
most equal entries: more come from samples that are parts of one image."""
_ARRAYS = (torch.Tensor, np.ndarray)
_LISTED = (list, tuple, *_ARRAYS)


def shared_samples(train: Any, val: Any, most: int) -> tuple[int, int] | None:
    """The number of validation samples whose stored data equal those of a training sample, and the number of validation
    samples that could be compared; None where there are none. Stored data are an image of at most `most` numbers, or
    the path of a file, with everything stored next to it. For two data sets of one class, only attributes that both
    have are compared: pairs, for example, may be stored for validation, but drawn at random for training."""
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
    """The lists and arrays of a data set that have an entry for each sample."""
    return list(_named_columns(data).values())


def _named_columns(data: Any) -> dict[str, Any]:
    """The columns by attribute name, or by the name of a short list and the position in it."""
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
    """Whether a sample contains an image of more than two values, or a file: two samples do not share these by chance,
    as drawings in two colors may."""
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
    """The values of a dictionary as a list; any other value unchanged."""
    return list(value.values()) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    return value.detach().cpu().double().numpy() if isinstance(value, torch.Tensor) else value


FEWEST_LABELED, FEWEST_IN_CLASS = 60, 10


def labeled_samples(loader: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The stored images or signals of a data set (N, C, …) and their class numbers (N,), by which it may choose pairs
    or triplets; None where they are not clear."""
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
