"""The samples of a cross-validation, and the data set of each fold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset, Split, join_splits
from striate.data.folds import deal_folds, strata_of
from striate.data.splits import assign_splits
from striate.errors import ConfigError
from striate.studies.cross_validation.fold import dealing_seed, validation_seed


@dataclass(frozen=True, eq=False)
class Pool:
    """The samples that folds hold out in turn, in the order of their ids: all but a test split that the source itself
    gives."""

    data: Dataset
    """The data set that they are from."""
    samples: Split
    """The samples, their targets and ids."""
    contents: tuple[str, ...]
    """The digest of the content of each sample."""
    units: tuple[str, ...]
    """The unit of each sample: duplicates, and samples of one group, share a unit and stay in one fold."""

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def left_out(self) -> int:
        """Samples of the given test split, which are not used."""
        return len(self.data.splits["test"]) if "test" in self.data.given else 0


def pool_samples(data: Dataset) -> Pool:
    """The pool of a data set, ordered by ids so that it is the same whatever splits were made."""
    names = [name for name in data.splits if name != "test" or "test" not in data.given]
    parts = [data.splits[name] for name in names]
    order = torch.cat([part.ids for part in parts]).argsort()
    samples = join_splits(parts).take(order)
    contents = [content for name in names for content in data.contents[name]]
    units = [unit for name in names for unit in data.units[name]]
    places = order.tolist()
    return Pool(data, samples, tuple(contents[i] for i in places), tuple(units[i] for i in places))


def deal_repeats(pool: Pool, folds: int, repeats: int, split_seed: int) -> NDArray[np.int64]:
    """(repeats, N): the fold, from 0, that holds out each sample of the pool. Raises ConfigError."""
    strata = strata_of(pool.samples.targets.numpy(), pool.data.annotation, folds, pool.units)
    classed = pool.data.has_one_class_each and not pool.data.open_classes
    names = pool.data.classes if classed else ()
    dealt = [deal_folds(pool.units, strata, folds, dealing_seed(split_seed, r), names=names) for r in range(repeats)]
    return np.stack(dealt)


def fold_dataset(
    pool: Pool, held: NDArray[np.bool_], *, repeat: int, fold: int, split_seed: int, val: float
) -> Dataset:
    """The pool with the samples `held` out as `test`, and the share `val` of each class of the rest as `val`, split as
    usual by content and group. Raises ConfigError where too few samples are left to train or validate on."""
    data, samples = pool.data, pool.samples
    names = _split_names(pool, held, repeat=repeat, fold=fold, split_seed=split_seed, val=val)
    splits, contents, units = {}, {}, {}
    for name in ("train", "val", "test"):
        places = [i for i, given in enumerate(names) if given == name]
        rows = torch.tensor(places, dtype=torch.int64)
        splits[name] = samples.take(rows)
        contents[name] = tuple(pool.contents[i] for i in places)
        units[name] = tuple(pool.units[i] for i in places)
    notes = tuple(note for note in data.notes if not note.startswith("Splits: "))  # other splits than these
    return replace(data, splits=splits, contents=contents, units=units, notes=notes, rows=(), facts={})


def refuse_unusable_folds(pool: Pool, dealt: NDArray[np.int64], split_seed: int, val: float) -> None:
    """Raise ConfigError where a fold of `dealt` (repeats, N) leaves no samples, or not every class, to train on."""
    for repeat, homes in enumerate(dealt):
        for fold in range(int(dealt.max()) + 1):
            _split_names(pool, homes == fold, repeat=repeat, fold=fold, split_seed=split_seed, val=val)


def _split_names(
    pool: Pool, held: NDArray[np.bool_], *, repeat: int, fold: int, split_seed: int, val: float
) -> list[str]:
    """The split of each sample in one fold. Raises ConfigError."""
    classed = pool.data.has_one_class_each and not pool.data.open_classes
    classes = pool.samples.targets.tolist() if classed else [0] * len(pool)
    names = assign_splits(
        [bytes.fromhex(unit) for unit in pool.units],
        classes,
        ["test" if out else None for out in held.tolist()],
        val_fraction=val,
        test_fraction=0.0,
        seed=validation_seed(split_seed, repeat, fold),
        fewest=2 if pool.data.open_classes else 1,
    )
    _refuse_unusable(pool.data, names, classes, repeat, fold)
    return names


def _refuse_unusable(data: Dataset, names: list[str], classes: list[int], repeat: int, fold: int) -> None:
    where = f"cv, fold {fold + 1} of repeat {repeat + 1}"
    remedy = "add samples, or leave out --cv"
    for name, what in (("train", "train"), ("val", "validate")):
        if name not in names:
            raise ConfigError(
                where, f"no samples left to {what} on", "some for training and some for validation", remedy
            )
    if data.has_one_class_each and not data.open_classes:
        learned = {number for number, name in zip(classes, names, strict=True) if name == "train"}
        missing = [name for number, name in enumerate(data.classes) if number not in learned]
        if missing:
            got = f"no sample of {', '.join(missing[:5])} left to train on"
            raise ConfigError(where, got, "every class in the training part of every fold", remedy)
