"""Folds of cross-validation: every sample is held out once, and samples of a unit are held out together."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.errors import ConfigError
from striate.wording import several

if TYPE_CHECKING:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

_MOST = 1000
_REMEDY = "--cv 5x5: five folds, repeated five times; --cv 10x1: ten folds once"
_BALANCED = 5_000
"""With at most so many units, folds are balanced sample by sample, which takes time in proportion; with more units,
sizes differ little in any case."""


def parse_folds(text: str) -> tuple[int, int]:
    """Folds and repeats of `FOLDSxREPEATS`; `5` is `5x1`. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?:[xX×]\s*(\d{1,9}))?\s*", text)
    if match is None:
        raise ConfigError("cv", repr(text), "FOLDSxREPEATS, such as 5x5", _REMEDY)
    folds, repeats = int(match[1]), int(match[2] or 1)
    if folds < 2:
        raise ConfigError(
            "cv",
            f"{text.strip()}: {folds} {'fold' if folds == 1 else 'folds'}",
            "at least 2: one to hold out, one to train on",
            _REMEDY,
        )
    if repeats < 1:
        raise ConfigError("cv", f"{text.strip()}: {several(repeats, 'repeat')}", "at least 1", f"--cv {folds}x1")
    if folds > _MOST or repeats > _MOST:
        raise ConfigError("cv", text.strip(), f"at most {_MOST:,} folds and {_MOST:,} repeats", _REMEDY)
    return folds, repeats


def deal_folds(
    units: Sequence[Hashable], strata: ArrayLike, folds: int, seed: int, *, names: Sequence[str] = ()
) -> NDArray[np.int64]:
    """(N,) the fold, 0 to `folds` − 1, in which each sample is held out.

    Samples with equal `units` share a fold. Each fold has about its share of every stratum: `strata` are (N,) integers,
    and `names` their names where they are classes. The same arguments give the same folds. Raises ConfigError where
    there are fewer units than folds, or a class has fewer, or all its units are in one fold: that fold would be
    predicted by a network that was not trained on the class.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    values = np.asarray(strata)
    places: dict[Hashable, int] = {}
    unit = np.array([places.setdefault(key, len(places)) for key in units], dtype=np.int64)
    # Strata that are not classes are distributed as evenly as possible; they need no error.
    refused = values if names else np.zeros_like(values)
    _refuse_too_few(unit, refused, folds, names)
    if len(places) == len(unit):
        dealt = _deal(StratifiedKFold(folds, shuffle=True, random_state=seed), values, None)
    elif len(places) <= _BALANCED:
        dealt = _deal(StratifiedGroupKFold(folds, shuffle=True, random_state=seed), values, unit)
    else:
        first = np.unique(unit, return_index=True)[1]  # a unit with several strata has that of its first sample
        dealt = _deal(StratifiedKFold(folds, shuffle=True, random_state=seed), values[first], None)[unit]
    # With very different groups, a fold would be empty.
    if not names and values.any() and len(np.unique(dealt)) < folds:
        return deal_folds(units, refused, folds, seed)
    _refuse_lone(dealt, refused, folds, names)
    return dealt


def strata_of(targets: ArrayLike, annotation: str, folds: int, units: Sequence[Hashable] = ()) -> NDArray[np.int64]:
    """(N,) strata, of which folds get equal shares: classes; for numbers, ten parts of the samples, ordered by the mean
    of their standardized numbers; for masks a single one.

    There are fewer than ten parts where one would have less than two samples, or less than one unit for each fold.
    `units`: keys of samples that stay together; without any, each sample is a unit.
    """
    return annotation_kind(annotation).strata(np.asarray(targets), folds, units)


def _deal(
    dealer: StratifiedKFold | StratifiedGroupKFold, strata: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    dealt = np.full(len(strata), -1, np.int64)
    for fold, (_, held) in enumerate(dealer.split(np.zeros(len(strata)), strata, groups)):
        dealt[held] = fold
    return dealt


def _refuse_too_few(unit: NDArray[np.int64], strata: NDArray[np.int64], folds: int, names: Sequence[str]) -> None:
    counts = {int(value): len(np.unique(unit[strata == value])) for value in np.unique(strata)}
    value, fewest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if fewest < folds:
        raise _too_few(value, fewest, folds, names)


def _refuse_lone(dealt: NDArray[np.int64], strata: NDArray[np.int64], folds: int, names: Sequence[str]) -> None:
    """Raise ConfigError if a class is in one fold only: groups may be too different to give each fold its share."""
    for value in np.unique(strata):
        if len(np.unique(dealt[strata == value])) < 2:
            raise _too_few(int(value), 1, folds, names)
    reached = len(np.unique(dealt))
    if reached < folds:
        raise _too_few(None, reached, folds, names)


def _too_few(stratum: int | None, units: int, folds: int, names: Sequence[str]) -> ConfigError:
    of = f" of the class {names[stratum]}" if names and stratum is not None else ""
    more = f"more distinct samples or groups{of}"
    return ConfigError(
        "cv",
        f"{several(folds, 'fold')} for {units} distinct samples or groups{of}",
        "at least one for each fold: identical samples and samples of one group count as one",
        f"--cv {units}x1, or {more}" if units > 1 else f"leave out --cv, or add {more}",
    )
