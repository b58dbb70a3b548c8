"""Runs a cross-validation: repeated trainings on other samples, each measured on samples that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from striate.account.summarize import count_macs, count_parameters
from striate.data.folds import parse_folds
from striate.errors import NonFiniteLoss
from striate.runs.directory import RunDirectory
from striate.runs.environment import describe_environment, read_environment
from striate.runs.events import append_event, note_files, noted_files
from striate.runs.files import write_json, write_text
from striate.studies.cross_validation.cv_report import write_cv_report
from striate.studies.cross_validation.cv_summary import compare_folds, summarize_folds
from striate.studies.cross_validation.fold import FoldResult, fold_progress, train_fold
from striate.studies.cross_validation.fold_files import (
    load_folds,
    save_fold,
    write_assignment,
    write_curves,
    write_folds,
    write_predictions,
)
from striate.studies.cross_validation.plan_cross_validation import CrossValidation
from striate.tasks.registry import metric_named, metric_text
from striate.training.config import Config
from striate.training.config_file import config_to_dict, config_to_yaml
from striate.training.early_stop import chooses_by_validation
from striate.training.events import Event
from striate.training.interruption import Interrupted, Interruption, watch_signals
from striate.training.prepare import Prepared
from striate.wording import several


def write_cv_beginning(run: RunDirectory, study: CrossValidation) -> None:
    """The files that are known before the first fold, config.yaml first, so that a study that was killed here can be
    resumed; what follows from configuration and data is written anew. Raises RunError."""
    if not run.config.exists():
        write_text(run.config, config_to_yaml(study.config))
    if not run.events.exists():
        for note in study.notes:
            append_event(run, "note", text=note)
        for finding in study.findings:
            append_event(run, "finding", **finding.to_json())
    if run.config.name not in noted_files(run):
        note_files(run, [run.config])
    write_text(run.classes, "".join(f"{name}\n" for name in study.pool.data.classes))
    write_assignment(run, study.pool, study.dealt)
    if not read_environment(run.environment):
        write_json(run.environment, describe_environment())


def run_folds(
    run: RunDirectory,
    study: CrossValidation,
    announce: Callable[[str], None] = lambda _: None,
    console: Console | None = None,
) -> list[FoldResult]:
    """Train every fold without a file, one after another, and keep cv.csv up to date.

    `announce` gets a line for each finished fold; `console`, if it is a terminal, shows the epochs of the current one.
    A signal ends the study within a step. A resumed study repeats the fold in progress; a trained fold without
    baselines only gets these. Raises Interrupted, NonFiniteLoss, RunError.
    """
    places = [(repeat, fold) for repeat in range(study.repeats) for fold in range(study.folds)]
    results = {(result.repeat - 1, result.fold - 1): result for result in load_folds(run)}
    if results:
        announce(f"{len(results)} of {several(len(places), 'fold')} are already finished")
    write_folds(run, _in_order(results))
    with watch_signals() as interruption:
        for place in places:
            if place not in results or lacks_baselines(results[place], study.config):
                results[place] = _run_fold(run, study, *place, results.get(place), console, interruption)
                write_folds(run, _in_order(results))
                announce(_line(results[place], study))
    return _in_order(results)


def study_is_complete(config: Config, results: Sequence[FoldResult]) -> bool:
    """Whether the study that `config` describes has all folds, with baselines where these are requested."""
    assert config.cv is not None
    folds, repeats = parse_folds(config.cv)
    return len(results) == folds * repeats and not any(lacks_baselines(result, config) for result in results)


def lacks_baselines(result: FoldResult, config: Config) -> bool:
    """Whether a trained fold still lacks the requested baselines."""
    return config.baseline and not result.baselines


def _in_order(results: Mapping[tuple[int, int], FoldResult]) -> list[FoldResult]:
    return [results[place] for place in sorted(results)]


def finish_cross_validation(run: RunDirectory, study: CrossValidation, results: list[FoldResult]) -> dict[str, Any]:
    """Write the tables, plots, report.html and metrics.json, in this order; with the last one the study is complete.

    Returns the content of metrics.json. Raises RunError.
    """
    write_curves(run, results)
    write_predictions(run, study.pool, study.first.task, results)
    metrics = _metrics(study, results)
    write_cv_report(run, study, results, metrics)
    write_json(run.metrics_json, metrics)
    append_event(run, "finished", cv=metrics["cv"])
    return metrics


def _run_fold(
    run: RunDirectory,
    study: CrossValidation,
    repeat: int,
    fold: int,
    trained: FoldResult | None,
    console: Console | None,
    interruption: Interruption,
) -> FoldResult:
    """One fold, with its file written; for a fold that is already `trained`, only the baselines."""
    prepared = study.prepare(repeat, fold)
    result = trained
    if result is None:
        result = _train_fold(run, prepared, repeat + 1, fold + 1, console, interruption)
        save_fold(run, result)  # before the baselines, so that an interruption loses only these
    if study.config.baseline:
        _stop_if_interrupted(run, study.config, interruption)
        result = replace(result, baselines=_fit_baselines(prepared))
        save_fold(run, result)
    append_event(run, "fold", **result.row())
    return result


def _train_fold(
    run: RunDirectory, prepared: Prepared, repeat: int, fold: int, console: Console | None, interruption: Interruption
) -> FoldResult:
    where = f"repeat {repeat}, fold {fold}"
    try:
        with fold_progress(console, where, prepared.task.metrics) as show:

            def read(event: Event) -> None:
                show(event)
                _stop_if_interrupted(run, prepared.config, interruption)

            return train_fold(prepared, repeat=repeat, fold=fold, read=read)
    except NonFiniteLoss as error:
        error.where = f"{where}: {error.where}"
        append_event(run, "non-finite", **error.to_json())
        raise


def _fit_baselines(prepared: Prepared) -> dict[str, dict[str, Any]]:
    # scikit-learn's estimators take a second to load, and only this needs them.
    from striate.evaluation.baselines import fit_baselines

    fitted = fit_baselines(prepared.data, prepared.task, seed=prepared.config.seed)
    return {baseline.name: baseline.metrics | {"seconds": round(baseline.seconds, 3)} for baseline in fitted}


def _stop_if_interrupted(run: RunDirectory, config: Config, interruption: Interruption) -> None:
    if interruption.signal_name:
        append_event(run, "interrupted", signal=interruption.signal_name)
        raise Interrupted(run.path, config, interruption.signal_name)


def _line(result: FoldResult, study: CrossValidation) -> str:
    """One finished fold: `repeat 1/5 fold 2/5  accuracy 96.67 %  of 30  (105 + 15 samples, 4.1 s)`."""
    key = study.first.task.headline
    shown = f"{metric_named(key).name} {metric_text(key, result.metrics[key])}"
    place = f"repeat {result.repeat}/{study.repeats} fold {result.fold}/{study.folds}"
    return f"{place}  {shown}  of {len(result.ids):,} held out, {result.n_train:,} trained on, {result.seconds:.1f} s"


def _metrics(study: CrossValidation, results: list[FoldResult]) -> dict[str, Any]:
    module, task, samples = study.first.state.module, study.first.task, study.pool.samples
    chosen = chooses_by_validation(study.config)
    metrics = {
        "task": task.name,
        "model": study.config.model.name,
        "data": study.pool.data.name,
        "params": count_parameters(module),
        "macs": count_macs(module, study.pool.data.input_shape),
        "cv": summarize_folds(results, samples.targets, task, chosen=chosen),
        # Keys of a single training, so that every metrics.json has the same.
        **dict.fromkeys(("train", "val", "test", "epochs", "images_per_second")),
        "train_seconds": round(sum(result.seconds for result in results), 3),
        "device": study.config.execution.device,
        "plan": config_to_dict(study.config)["execution"],
    }
    if study.config.baseline:
        metrics["baselines"] = [compare_folds(results, name, task, chosen=chosen) for name in results[0].baselines]
    return metrics
