"""Plans a cross-validation, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.data.folds import parse_folds
from striate.errors import ConfigError, RunError
from striate.models.from_run import names_run
from striate.models.preserved_state import copied
from striate.models.trained_modules import runs_of_module
from striate.records import Finding
from striate.runs.directory import open_run, read_seen
from striate.runs.files import user_path
from striate.studies.cross_validation.fold import training_seed
from striate.studies.cross_validation.fold_data import (
    Pool,
    deal_repeats,
    fold_dataset,
    pool_samples,
    refuse_unusable_folds,
)
from striate.training.config import Config
from striate.training.prepare import Prepared, prepare_data, read_data
from striate.training.request import decided_fields
from striate.wording import several


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A cross-validation about to start."""

    config: Config
    """The decided configuration, with what all folds share."""
    pool: Pool
    """The samples that folds hold out in turn."""
    dealt: NDArray[np.int64]
    """(repeats, N): the fold, from 0, that holds out each sample of `pool`."""
    first: Prepared
    """The first fold, prepared; its network stands for that of all folds."""
    module: nn.Module | None
    """The network that each fold copies. None: each fold builds it by its name."""
    notes: tuple[str, ...]
    """What was decided, a sentence each."""
    findings: tuple[Finding, ...]
    """What was noticed about data and weights."""

    @property
    def folds(self) -> int:
        """Folds per repeat."""
        return int(self.dealt.max()) + 1

    @property
    def repeats(self) -> int:
        """How often all samples are dealt."""
        return len(self.dealt)

    @property
    def network(self) -> str:
        """A short name of the network, for a folder."""
        name = self.first.network_name
        return "module" if name is None else name if len(name) <= 24 else "custom"

    def prepare(self, repeat: int, fold: int) -> Prepared:
        """One fold ready to train; both count from 0."""
        return _prepare_fold(self.config, self.pool, self.dealt, repeat, fold, self.module)


def plan_cross_validation(
    config: Config, module: nn.Module | None = None, *, announce: Callable[[str], None] = lambda _: None
) -> CrossValidation:
    """Read the data, deal the folds, and decide on the first fold what all of them use. Writes and trains nothing.

    The recipe and the execution plan are decided once, on the training part of the first fold. `budget.minutes` are
    those of the whole study, shared equally. Raises StriateError.
    """
    assert config.cv is not None
    started = monotonic()
    folds, repeats = parse_folds(config.cv)
    _refuse_test_fraction(config)
    _refuse_target(config)
    _refuse_train_samples(config)
    requested = replace(config, cv=f"{folds}x{repeats}")
    with_data, data = read_data(requested, announce)
    pool = pool_samples(data)
    seen = _refuse_seen(config, pool, module)
    dealt = deal_repeats(pool, folds, repeats, config.data.split_seed)
    refuse_unusable_folds(pool, dealt, config.data.split_seed, with_data.data.validation_share)
    minutes = config.budget.minutes
    share = None if minutes is None else minutes / (folds * repeats)
    shared = replace(with_data, budget=replace(with_data.budget, minutes=share, steps=_requested_steps(config)))
    first = _prepare_fold(shared, pool, dealt, 0, 0, module, lambda: (monotonic() - started) / (folds * repeats))
    decided = _shared_config(requested, with_data, first.config)
    notes = (*_describe(pool, folds, repeats), *seen, *first.notes)
    return CrossValidation(decided, pool, dealt, first, module, notes, first.findings)


def _prepare_fold(
    config: Config,
    pool: Pool,
    dealt: NDArray[np.int64],
    repeat: int,
    fold: int,
    module: nn.Module | None,
    seconds_spent: Callable[[], float] = lambda: 0.0,
) -> Prepared:
    settings = config.data
    data = fold_dataset(
        pool,
        dealt[repeat] == fold,
        repeat=repeat,
        fold=fold,
        split_seed=settings.split_seed,
        val=settings.validation_share,
    )
    own = replace(config, seed=training_seed(config.seed, repeat, fold), cv=None, baseline=False)
    return prepare_data(own, data, None if module is None else copied(module), seconds_spent=seconds_spent)


def _requested_steps(config: Config) -> int | None:
    """The requested steps, or those that an earlier start computed from minutes. None where they follow from epochs:
    the training parts of folds differ by a sample or two."""
    return None if config.budget.epochs is not None and config.budget.minutes is None else config.budget.steps


def _shared_config(requested: Config, with_data: Config, first: Config) -> Config:
    """The configuration of the study: what the first fold decided, without what belongs to that fold alone."""
    fixed = requested.budget.minutes is not None or _requested_steps(requested) is not None
    budget = replace(first.budget, minutes=requested.budget.minutes, steps=first.budget.steps if fixed else None)
    config = replace(
        first, data=with_data.data, seed=requested.seed, cv=requested.cv, baseline=requested.baseline, budget=budget
    )
    return replace(config, decided=decided_fields(requested, config))


def _refuse_test_fraction(config: Config) -> None:
    requested, default = config.data.test_fraction, Config().data.test_fraction
    if requested != default:
        raise ConfigError(
            "data.test_fraction",
            f"{requested:g} with --cv {config.cv}",
            "no test split: each fold is held out in turn",
            f"leave out --data.test_fraction (on top of a --config: --data.test_fraction {default:g}); the number of "
            "folds says how many samples are held out",
        )


def _refuse_target(config: Config) -> None:
    target = config.budget.target
    if target is not None:
        raise ConfigError(
            "budget.target",
            f"{target:g} with --cv {config.cv}: folds that end at a target cannot be averaged",
            "trainings of full length",
            "leave out --target (on top of a --config: --budget.target null)",
        )


def _refuse_train_samples(config: Config) -> None:
    requested = config.evaluation.train_samples
    if requested is not None and "evaluation.train_samples" not in config.decided:
        raise ConfigError(
            "evaluation.train_samples",
            f"{requested} with --cv {config.cv}",
            "no such samples: folds are measured on held-out samples, not on training samples",
            "leave out --evaluation.train_samples (on top of a --config: --evaluation.train_samples null)",
        )


def _refuse_seen(config: Config, pool: Pool, module: nn.Module | None) -> tuple[str, ...]:
    """Refuse a network that was trained on samples which it would be measured on; notes where that is unknown."""
    notes: list[str] = []
    behind = [("model.name", config.model.name), ("model.weights", config.model.pretrained)]
    behind += [] if module is None else [("model", str(run)) for run in runs_of_module(module)]
    for field, text in behind:
        if text is None or (field == "model.name" and not names_run(text)):
            continue
        try:
            seen = read_seen(open_run(user_path(text)))
        except RunError:
            seen = {}
        count = sum(content in seen for content in pool.contents)
        if count:
            got = f"{text}, which was" if field != "model" else f"a module with weights of {text},"
            raise ConfigError(
                field,
                f"{got} trained on {count:,} of the {several(len(pool), 'sample')} that the folds hold out",
                "a network that was trained on none of them",
                "name the network without its weights, such as --model mnist-cnn"
                if field != "model"
                else "give a class or function that builds the network; each fold calls it",
            )
        if not seen:
            notes.append(
                f"The training data of {text} are unknown: if they include these samples, the metrics are too good."
            )
    return tuple(notes)


def _describe(pool: Pool, folds: int, repeats: int) -> tuple[str, ...]:
    """What is held out, and what is not used."""
    times = "once" if repeats == 1 else f"{repeats} times, in new folds each time"
    alike = len(pool) - len(set(pool.units))
    together = f"; {alike:,} of them stay in a fold with their duplicates or group" if alike else ""
    held = (
        f"Cross-validation: each of {several(len(pool), 'sample')} is held out {times}, in "
        f"{several(folds, 'fold')}{together}."
    )
    notes = [held]
    if "val" in pool.data.given:
        count = len(pool.data.splits["val"])
        notes.append(
            f"The {several(count, 'sample')} of the given validation split are dealt into folds like the others; "
            "each fold takes its own validation split from the samples that it does not hold out."
        )
    if pool.left_out:
        notes.append(
            f"The {several(pool.left_out, 'sample')} of the given test split are used neither for training nor for "
            "measuring."
        )
    return tuple(notes)
