"""The public functions: each a short composition of rooms."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from striate.data.config import DataConfig
from striate.data.dataset import ANNOTATION_OF, Dataset
from striate.data.read import load_for_evaluation
from striate.errors import ChangedDataError, ConfigError, RunError, printable
from striate.evaluation.baseline import Baseline
from striate.evaluation.measure import evaluate_trained
from striate.evaluation.record import Evaluation
from striate.models.build import build_model
from striate.report.finish import finish_run
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory, create_run, open_run, read_metrics, read_seen, refuse_occupied
from striate.studies.cross_validation.content import final_command
from striate.studies.cross_validation.fold_files import FOLDERS, load_folds
from striate.studies.cross_validation.plan import CrossValidation, plan_cross_validation
from striate.studies.cross_validation.run import finish_cross_validation, run_folds, write_cv_beginning
from striate.studies.sweep.run import Sweep, SweepRequest, run_sweep
from striate.studies.sweep.space import refuse_fixed, space_texts
from striate.tasks.make import make_task
from striate.training.config import Config
from striate.training.config_file import config_from_yaml
from striate.training.execution import execution_settings, memory_explained
from striate.training.interruption import Interrupted, terminating_interrupts
from striate.training.lr_records import LearningRateSearch
from striate.training.prepare import Prepared, prepare, read_data
from striate.training.progress import progress_reader
from striate.training.request import ConfigSource, merge_request, read_config
from striate.training.session import restore, run_training, write_beginning
from striate.training.trained import Trained, trained_from_dict

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A finished run: its directory and the content of its metrics.json."""

    path: Path
    metrics: dict[str, Any]

    @property
    def report(self) -> Path:
        """The one-page report, which opens in any browser."""
        return self.path / "report.html"

    def load(self) -> Trained:
        """The trained network (the best epoch's), ready to answer."""
        return load(self.path)


def train(
    data: str | Path | None = None,
    model: str | nn.Module = "auto",
    *,
    weights: str | Path | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    recipe: Literal["quick", "standard", "fine-tune"] = "standard",
    batch: int | None = None,
    lr: float | None = None,
    size: int | tuple[int, int] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    baseline: bool = False,
    cv: str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
) -> Run:
    """Train a network on `data`, evaluate it, and write a run directory.

    `data`: a name, folder, archive, manifest, idx folder or `.npz`; `mnist5k` if neither it nor `config` says.
    `model`: a zoo name, layer string, `file.py:function`, a run, or an `nn.Module`. `weights`: a run, checkpoint,
    state_dict or `.safetensors` that it begins with. `epochs` or `minutes`, not both.
    `size`: pixels, or (height, width). `baseline`: also fit what the network has to beat, on the same splits.
    `cv`: folds × repeats of cross-validation (`"5x5"`) instead of one training; no network is kept then.
    `config`: a config.yaml, mapping or Config; arguments that differ from their defaults, and dotted fields in `set`
    (`{"optim.weight_decay": 0.1}`), go on top of it.
    Progress is shown on standard error when it is a terminal. Raises StriateError; Interrupted after Ctrl-C,
    with the state saved.
    """
    fields: dict[str, Any] = dict(set or {})
    given: dict[str, Any] = {"batch": batch, "optim.lr": lr}
    given |= {"seed": seed or None, "recipe": None if recipe == "standard" else recipe}
    given |= {"baseline": baseline or None, "model.name": model if isinstance(model, str) and model != "auto" else None}
    given |= {"model.weights": None if weights is None else str(weights), "cv": cv}
    fields |= {name: value for name, value in given.items() if value is not None}
    source = None if data is None else str(data)
    merged = merge_request(read_config(config), data=source, epochs=epochs, minutes=minutes, size=size, fields=fields)
    console = Console(stderr=True)
    return train_config(
        merged,
        module=model if isinstance(model, nn.Module) else None,
        out=None if out is None else Path(out),
        console=console,
        quiet=not console.is_terminal,
    )


def train_config(
    config: Config, *, module: nn.Module | None = None, out: Path | None = None, console: Console, quiet: bool = False
) -> Run:
    """`train` for a merged configuration; notes and progress go to `console` unless `quiet`."""
    started = monotonic()
    if out is not None:
        refuse_occupied(out)  # before minutes are spent on reading the data
    announce = announcer(console, quiet)
    if config.cv is not None:
        with memory_explained(config):
            study = plan_cross_validation(config, module, announce=announce)
        run = create_run(out, f"{study.pool.data.name[:24]} {study.network} cv", FOLDERS)
        return _cross_validate(run, study, console, quiet)
    with memory_explained(config):
        prepared = prepare(config, module, seconds_spent=lambda: monotonic() - started, announce=announce)
    model = "module" if prepared.network_name is None else prepared.network_name
    run = create_run(out, f"{prepared.data.name}-{model if len(model) <= 24 else 'custom'}")
    write_beginning(run, prepared)
    _announce_decisions(prepared, announce)
    return _train_to_end(run, prepared, console, quiet)


def resume(
    path: str | Path, *, module: nn.Module | None = None, console: Console | None = None, quiet: bool = False
) -> Run:
    """Go on with an interrupted run, bit for bit as if it had never stopped; start over where it had no checkpoint.

    On a finished run: verify its checkpoints and return it. `module` for a run of an `nn.Module` made in Python.
    Raises RunError when the checkpoint is damaged, DataError when the data have changed since.
    """
    console = console or Console(stderr=True)
    run, announce = open_run(Path(path)), announcer(console, quiet)
    config = config_from_yaml(run.config)
    if config.cv is not None:
        return _resume_cross_validation(run, config, module, console, quiet)
    if run.metrics_json.exists():
        for file in (run.last, run.best):
            load(file, module=module)
        announce(f"{run.path} is finished; its checkpoints were read and fit the network")
        return Run(run.path, read_metrics(run))
    begun = run.last if run.last.exists() else None
    prepared = prepare(config, module, begun=begun, announce=announce)
    if restore(run, prepared):
        done, total = prepared.state.step, prepared.config.budget.steps
        announce(f"going on with {run.path} after step {done:,} of {total:,}")
    else:
        announce(f"{run.path} has no checkpoint yet: starting over")
    write_beginning(run, prepared)
    return _train_to_end(run, prepared, console, quiet)


def _train_to_end(run: RunDirectory, prepared: Prepared, console: Console, quiet: bool) -> Run:
    with _worth_going_on(run, prepared.config), execution_settings(prepared.config):
        with progress_reader(console, quiet) as progress:
            run_training(run, prepared, [progress])
        return Run(run.path, finish_run(run, prepared, announcer(console, quiet)))


def _resume_cross_validation(
    run: RunDirectory, config: Config, module: nn.Module | None, console: Console, quiet: bool
) -> Run:
    """Go on with the next fold; on a finished study, read its folds again."""
    announce = announcer(console, quiet)
    if run.metrics_json.exists():
        count = len(load_folds(run))
        announce(f"{run.path} is finished; its {count} folds were read")
        return Run(run.path, read_metrics(run))
    with memory_explained(config):
        study = plan_cross_validation(config, module, announce=announce)
    return _cross_validate(run, study, console, quiet)


def _cross_validate(run: RunDirectory, study: CrossValidation, console: Console, quiet: bool) -> Run:
    announce = announcer(console, quiet)
    write_cv_beginning(run, study)
    for said in (*study.notes, *study.findings):
        announce(str(said))
    with _worth_going_on(run, study.config):
        results = run_folds(run, study, announce, None if quiet else console)
        return Run(run.path, finish_cross_validation(run, study, results))


@contextmanager
def _worth_going_on(run: RunDirectory, config: Config) -> Iterator[None]:
    """Every ending from outside says how to go on with what was saved."""
    try:
        with memory_explained(config), terminating_interrupts():
            yield
    except RunError as error:  # a full disk, for one: what was saved is worth going on from
        error.remedy += f"; then go on with: striate train --resume {run.path}"
        raise
    except Interrupted:
        raise
    except KeyboardInterrupt:  # while finishing: training is over and saved
        raise Interrupted(run.path, "interrupted") from None


def announcer(console: Console, quiet: bool) -> Announce:
    """A function that prints one line of news on `console`, whatever characters it holds."""

    def announce(text: str) -> None:
        if not quiet:
            console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    return announce


def _announce_decisions(prepared: Prepared, announce: Announce) -> None:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in prepared.data.splits.items())
    announce(f"{prepared.data.name}: {sizes}")
    for note in prepared.notes:
        announce(note)
    for finding in prepared.findings:
        announce(str(finding))


def load(path: str | Path, *, module: nn.Module | None = None, device: str = "cpu") -> Trained:
    """The trained network of a run directory (its best epoch) or of one checkpoint file, ready to answer.

    Nothing of the file is executed. A run of `file.py:function` runs that function again; a run of an
    `nn.Module` made in Python needs one of the same form as `module`. Raises RunError.
    """
    path = Path(path)
    file = path if path.is_file() else open_run(path).best
    if not file.exists():
        if (path / "config.yaml").exists() and config_from_yaml(path / "config.yaml").cv is not None:
            got = "a cross-validation: it keeps no network, each fold's has seen only its share of the data"
            raise RunError(str(path), got, "a run with a network", final_command(path))
        raise RunError(
            str(file), "no checkpoint yet", "a run with at least one epoch", f"striate train --resume {path}"
        )
    return trained_from_dict(load_checkpoint(file, device), str(file), torch.device(device), module)


def build(
    model: str | nn.Module,
    input_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    *,
    dense: bool | None = None,
) -> nn.Module:
    """The network that `model` names, for inputs of `input_shape` without batch (C, *spatial) or (F,).

    Without a shape or a number of classes, the published ones of a zoo name. `dense`: one output a pixel, as masks
    need; None takes what the network was made for. Weights are drawn from torch's random state. Raises ModelError.
    """
    network: nn.Module = build_model(model, input_shape, classes, dense=dense)
    return network


def evaluate(
    run: str | Path | Run | Trained, data: str | Path | None = None, *, announce: Announce | None = None
) -> Evaluation:
    """How good a trained network is on `data`, prepared as in its training; the run's own test split by default.

    Of other data the given test split is used, or everything (split `all`) where there is none; samples that the run
    was trained on are a finding. A `Trained` needs `data`. `announce` is told of a download before it starts.
    The run's own data, if they have changed since and are named, are measured as other data; unnamed, they are refused.
    Raises DataError; also when classes do not match.
    """
    if isinstance(run, Trained):
        if data is None:
            raise RunError(
                "evaluate", "a network without data", "data to measure it on", 'evaluate(trained, "mnist5k")'
            )
        return _evaluate_on(run, *_foreign_data(run, str(data), frozenset(), announce))
    path = run.path if isinstance(run, Run) else Path(run)
    opened, trained = open_run(path), load(path)
    config = config_from_yaml(opened.config)
    if data is None or _same_source(str(data), config.data.source):
        try:
            return _evaluate_on(trained, read_data(config, announce)[1], "test")
        except ChangedDataError:
            if data is None:
                raise
    return _evaluate_on(trained, *_foreign_data(trained, str(data), read_seen(opened), announce))


def baselines(
    data: str | Path | None = None,
    *,
    size: int | tuple[int, int] | str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    announce: Announce | None = None,
) -> tuple[Baseline, ...]:
    """What a network has to beat on `data`: plain methods fitted and measured on the splits that training would use.

    Data, size, config and `set` are as in `train`; of the fields only `data.*`, `task.name`, `task.class_weights`
    and `seed` have a meaning. `announce` is told what was decided about the data and what is fitted. Raises
    StriateError.
    """
    from striate.evaluation.baselines import fit_baselines, refuse_network_fields

    say = announce or (lambda _: None)
    fields = dict(set or {})
    refuse_network_fields(fields)
    source = None if data is None else str(data)
    merged, read = read_data(merge_request(read_config(config), data=source, size=size, fields=fields), announce)
    task = make_task(read, merged.task)
    if task.name == "regress" and merged.task.class_weights != "none":
        raise ConfigError(
            "task.class_weights", merged.task.class_weights, "classes to weigh", "leave out --task.class_weights"
        )
    say(f"{read.name}: " + ", ".join(f"{len(split):,} {name}" for name, split in read.splits.items()))
    for said in (*read.notes, *read.findings):
        say(str(said))
    return fit_baselines(read, task, seed=merged.seed, announce=say)


def find_learning_rate(
    data: str | Path | None = None,
    model: str | nn.Module = "auto",
    *,
    batch: int | None = None,
    size: int | tuple[int, int] | str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    seconds: float = 45.0,
    out: str | Path | None = None,
    announce: Announce | None = None,
) -> LearningRateSearch:
    """The learning rate to train with, by short trainings on copies, in about `seconds`.

    The other arguments are as in `train`. Not a bit of an `nn.Module`, nor any random state, is changed. `out`: a .png
    to draw the search into; nothing else is written. `announce` is told of each step. Raises StriateError.
    """
    from striate.training.lr_command import how_to_train, refuse_untried
    from striate.training.lr_find import copied, random_states_kept, search_learning_rate
    from striate.visualize.lr_find import refuse_picture_path, save_lr_find

    if out is not None:
        refuse_picture_path(Path(out))  # before minutes are spent
    source, fields = None if data is None else str(data), dict(set or {})
    refuse_untried(fields)
    module = copied(model) if isinstance(model, nn.Module) else None
    given = {"batch": batch, "model.name": model if isinstance(model, str) and model != "auto" else None}
    fields |= {name: value for name, value in given.items() if value is not None}
    merged = merge_request(read_config(config), data=source, size=size, fields=fields)
    say = announce or (lambda _: None)
    with memory_explained(merged), random_states_kept():
        prepared = prepare(merged, module, announce=say)
        _announce_decisions(prepared, say)
        origin: Literal["recipe", "request"] = "recipe" if "optim.lr" in prepared.config.decided else "request"
        search = search_learning_rate(prepared, seconds=seconds, origin=origin, announce=say)
    if search.suggestion is not None:
        command = how_to_train(search.suggestion, source, fields, size, config, module=module is not None)
        search = replace(search, command=command)
    if out is not None:
        save_lr_find(search, prepared.data.name, prepared.config.model.name, Path(out))
    return search


def sweep(
    data: str | Path | None = None,
    over: Mapping[str, str | Sequence[object]] | Iterable[str] = (),
    model: str = "auto",
    *,
    trials: int | None = None,
    minutes: float | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    size: int | tuple[int, int] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
) -> Sweep:
    """Search configurations, from cheap to expensive, and train the best one as an ordinary run.

    `over`: what is searched, as `{"optim.lr": "1e-4..1e-1", "batch": [16, 32]}` or texts `optim.lr=1e-4..1e-1`; by
    default learning rate and weight decay around the recipe's. `trials` (30 if neither is given) or `minutes`, not
    both; the best are repeated with `seeds` other seeds (1: not at all). The other arguments are as in `train`. News
    are shown on standard error when it is a terminal. Raises StriateError; SweepInterrupted after Ctrl-C.
    """
    given = {"batch": batch, "optim.lr": lr, "seed": seed or None, "model.name": None if model == "auto" else model}
    fields = dict(set or {}) | {name: value for name, value in given.items() if value is not None}
    texts = space_texts(over)
    refuse_fixed(texts, fields)
    source = None if data is None else str(data)
    merged = merge_request(read_config(config), data=source, epochs=epochs, size=size, fields=fields)
    console = Console(stderr=True)
    quiet = not console.is_terminal
    say, place = announcer(console, quiet), None if out is None else Path(out)
    request = SweepRequest(merged, texts, trials, minutes, seeds)
    return run_sweep(request, out=place, console=console, say=say, quiet=quiet)


def _same_source(data: str, source: str) -> bool:
    """Whether `data`, as a user types it, is what a run was trained on."""
    return data == source or os.path.realpath(data) == os.path.realpath(source)


def _foreign_data(
    trained: Trained, source: str, seen: frozenset[str], announce: Announce | None
) -> tuple[Dataset, str]:
    """Other data as one split, and that split's name."""
    task = trained.task
    data = load_for_evaluation(
        DataConfig(source=source),
        trained.preparation,
        trained.classes,
        ANNOTATION_OF[task.name],
        targets=task.outputs if task.name == "regress" else None,
        seen=seen,
        announce=announce,
    )
    return data, next(iter(data.splits))


def _evaluate_on(trained: Trained, data: Dataset, split: str) -> Evaluation:
    return replace(evaluate_trained(trained, data, split), notes=data.notes, findings=data.findings)
