"""The study on disk: every trial and every training, appended to a file that survives being killed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from striate.data.counter_random import hash_key
from striate.errors import RunError, UsageError, missing_extra
from striate.runs.directory import LOCK, refuse_unexpected_files
from striate.runs.files import explained
from striate.runs.plain_files import folder_of, open_for_update
from striate.studies.sweep.space import REDUCTION_FACTOR, Dimension, Range
from striate.studies.sweep.train_once import TrainingOutcome

if TYPE_CHECKING:
    import optuna

State = Literal["running", "complete", "pruned", "diverged", "refused"]
_NAME = "sweep"
_UNGUIDED = 2
"""Random trials per dimension, and two more, before the sampler learns from trials."""


@dataclass(frozen=True)
class Trial:
    """One configuration of the study."""

    number: int
    """From 0, in the order of the trials."""
    fields: dict[str, Any]
    """The searched fields and their values."""
    state: State
    """How far it is, or how it ended."""
    epochs: int = 0
    """Epochs of a whole training; 0 until they are known."""
    rungs: tuple[TrainingOutcome, ...] = ()
    """Its trainings so far, cheapest first."""
    recipe: bool = False
    """Whether its values are those of the recipe."""
    why: str = ""
    """Why it was refused; else empty."""
    drawn: dict[str, Any] = field(default_factory=dict)
    """The sampler's values of the searched fields."""

    @property
    def score(self) -> float:
        """The score at the highest rung; minus infinity without one."""
        last = self.rungs[-1].score if self.rungs else None
        return -math.inf if last is None else last


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes off the study while open; a killed process leaves no lock. Raises RunError where another
    process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    with explained(folder):
        refuse_unexpected_files(folder)
        with folder_of(folder / LOCK) as opened:
            os.close(opened.open(LOCK, os.O_RDWR | os.O_CREAT))  # refused where it is not a plain file
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                str(folder),
                "a sweep in use by another process",
                "one process",
                "wait for it, or give another --out",
            ) from None
    try:
        yield
    finally:
        lock.release()


class Journal:
    """A study of optuna in a journal file: the same trials so far give the same next trial, also after a restart."""

    def __init__(self, path: Path, space: Sequence[Dimension], seed: int) -> None:
        """Open the journal, or begin it; the caller holds the lock. Raises RunError; UsageError without optuna."""
        self.space, self.seed = space, seed
        load_optuna()
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        _drop_torn_line(path)
        with explained(path), _quiet():
            # A killed process has left it: this one holds the lock of the study.
            Path(f"{path}.lock").unlink(missing_ok=True)
            try:
                backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
                storage = optuna.storages.JournalStorage(backend)
                self._study: optuna.study.Study = optuna.create_study(
                    storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True
                )
            except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
                reason = " ".join(str(error).split())[:200]
                raise RunError(
                    str(path),
                    f"a damaged journal: {reason}",
                    "the journal of a sweep",
                    "start again with another --out",
                ) from None

    def trials(self) -> list[Trial]:
        """All trials, in order."""
        return [self._trial(frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def next_trial(self, recipe: dict[str, Any]) -> Trial:
        """The trial that a killed process has left, or a new one. The first trial has the values of `recipe` for the
        fields whose dimension contains them."""
        import optuna

        left = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        if left:
            trial = optuna.trial.Trial(self._study, left[0]._trial_id)
        else:
            fixed = self._fixed(recipe) if not self._study.get_trials(deepcopy=False) else {}
            if fixed:
                self._study.enqueue_trial(fixed, user_attrs={"recipe": len(fixed) == len(self.space)})
            with self._sampling(0, 0):
                trial = self._study.ask()
        for place, dimension in enumerate(self.space):
            with self._sampling(trial.number, place):
                _suggest(trial, dimension)
        for rung, outcome in enumerate(self.trials()[trial.number].rungs):
            self._report(trial, rung, outcome)  # in case the process was killed before it
        return next(t for t in self.trials() if t.number == trial.number)

    def begin(self, number: int, epochs: int) -> None:
        """Record how many epochs a whole training of this trial has."""
        self._live(number).set_user_attr("epochs", epochs)

    def keep(self, number: int, rung: int, outcome: TrainingOutcome) -> None:
        """Record one training of a trial, cheapest rung first."""
        trial = self._live(number)
        trial.set_user_attr(f"rung_{rung}", outcome.to_json())
        self._report(trial, rung, outcome)

    @staticmethod
    def _report(trial: optuna.trial.Trial, rung: int, outcome: TrainingOutcome) -> None:
        """Report the score to the sampler, which ranks a trial that came further higher."""
        step = REDUCTION_FACTOR**rung
        if step not in trial.storage.get_trial(trial._trial_id).intermediate_values:
            trial.report(math.nan if outcome.score is None else outcome.score, step)

    def close(self, number: int, state: State, why: str = "") -> None:
        """Record how a trial ended."""
        import optuna

        states = optuna.trial.TrialState
        trial = self._live(number)
        trial.set_user_attr("ended", state)
        if why:
            trial.set_user_attr("why", why)
        with _quiet():
            if state == "complete":
                self._study.tell(trial, self.trials()[number].score)
            else:
                self._study.tell(trial, state=states.FAIL if state == "refused" else states.PRUNED)

    def note(self, key: str, value: Any) -> None:
        """Record a plain value under `key`."""
        self._study.set_user_attr(key, value)

    def notes(self) -> dict[str, Any]:
        """All values recorded by `note`."""
        return dict(self._study.user_attrs)

    def importances(self, rung: int) -> dict[str, float]:
        """Share of the variance of the scores at one rung that each field explains, over all trials with that rung
        (fANOVA: Hutter, Hoos and Leyton-Brown 2014); {} where scores are equal, or fewer than four per field."""
        import optuna

        scored = [t for t in self.trials() if len(t.rungs) > rung and t.rungs[rung].score is not None]
        if len(scored) < 4 * len(self.space) or len({t.rungs[rung].score for t in scored}) < 2:
            return {}
        with _quiet():
            study = optuna.create_study(direction="maximize")
            for trial in scored:
                distributions = {d.field: _distribution(d) for d in self.space}
                study.add_trial(
                    optuna.trial.create_trial(
                        params=trial.drawn, distributions=distributions, value=trial.rungs[rung].score
                    )
                )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def _live(self, number: int) -> optuna.trial.Trial:
        import optuna

        frozen = self._study.get_trials(deepcopy=False)[number]
        return optuna.trial.Trial(self._study, frozen._trial_id)

    def _fixed(self, recipe: dict[str, Any]) -> dict[str, Any]:
        values = {d.field: d.drawn(recipe.get(d.field)) for d in self.space}
        return {name: value for name, value in values.items() if value is not None}

    @contextmanager
    def _sampling(self, number: int, place: int) -> Iterator[None]:
        """A sampler whose random numbers depend only on seed, trial and field, so that there is no state to restore."""
        import optuna

        self._study.sampler = optuna.samplers.TPESampler(
            seed=hash_key(self.seed, number, place, 7) % 2**32,
            n_startup_trials=_UNGUIDED * len(self.space) + 2,
            constant_liar=False,
        )
        with _quiet():
            yield

    def _trial(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        attributes = frozen.user_attrs
        rungs = [
            TrainingOutcome(**attributes[f"rung_{k}"]) for k in range(len(attributes)) if f"rung_{k}" in attributes
        ]
        fields = {d.field: d.field_value(frozen.params[d.field]) for d in self.space if d.field in frozen.params}
        state: State = attributes.get("ended", "running") if frozen.state.is_finished() else "running"
        return Trial(
            number=frozen.number,
            fields=fields,
            state=state,
            epochs=attributes.get("epochs", 0),
            rungs=tuple(rungs),
            recipe=bool(attributes.get("recipe")),
            why=attributes.get("why", ""),
            drawn=dict(frozen.params),
        )


def load_optuna() -> Any:
    """The library optuna. Raises UsageError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise missing_extra("striate sweep", "optuna", "sweep", UsageError) from None
    return optuna


def _distribution(dimension: Dimension) -> Any:
    import optuna

    if not isinstance(dimension, Range):
        return optuna.distributions.CategoricalDistribution(dimension.options)
    if dimension.integer:
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _suggest(trial: optuna.trial.Trial, dimension: Dimension) -> None:
    if not isinstance(dimension, Range):
        trial.suggest_categorical(dimension.field, dimension.options)
    elif dimension.integer:
        trial.suggest_int(dimension.field, int(dimension.low), int(dimension.high), log=dimension.log)
    else:
        trial.suggest_float(dimension.field, dimension.low, dimension.high, log=dimension.log)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence optuna's log while open, since striate prints the same."""
    import optuna

    level: int = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _drop_torn_line(path: Path) -> None:
    """Cut off an incomplete last line, which a killed process has left: the next line would be joined to it."""
    with explained(path), suppress(FileNotFoundError), open_for_update(path) as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
