"""Which positions of which data set a loader draws from."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset, SubsetRandomSampler


def shared_positions(train: Any, val: Any) -> tuple[int, int] | None:
    """How many positions of validation are also drawn for training, and how many validation has; None where that cannot
    be told, or the two draw from different data sets."""
    one, other = _positions(train), _positions(val)
    if one is None or other is None or one[0] is not other[0]:
        return None
    return len(other[1] & one[1]), len(other[1])


def _positions(loader: Any) -> tuple[Any, set[int]] | None:
    """The data set at the bottom, and the positions that may be drawn from it."""
    if not isinstance(loader, DataLoader):
        return None
    data, sampler = loader.dataset, loader.sampler
    try:
        if isinstance(sampler, SubsetRandomSampler):
            chosen = [int(number) for number in sampler.indices]
        elif isinstance(sampler, SequentialSampler | RandomSampler):
            chosen = list(range(len(data)))  # type: ignore[arg-type]
        else:
            return None
        while isinstance(data, Subset):
            chosen, data = [int(data.indices[number]) for number in chosen], data.dataset
    except Exception:  # a data set of the user's without a length, or of other positions than numbers
        return None
    return data, set(chosen)


def draws_again(loader: Any) -> bool:
    """Whether a sampler may draw a sample several times in an epoch, or its order is the user's own matter."""
    if not isinstance(loader, DataLoader):
        return False
    if loader.batch_sampler is not None and type(loader.batch_sampler).__module__ != "torch.utils.data.sampler":
        return True
    sampler = loader.sampler
    if getattr(sampler, "replacement", False):
        return True
    return type(sampler).__module__ not in ("torch.utils.data.sampler", "torch.utils.data.dataloader")
