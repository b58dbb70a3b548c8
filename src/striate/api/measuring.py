"""Evaluate a network, fit its baselines, and measure its robustness and invariance against changes of images."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from striate.api.announcing import Announce
from striate.api.keywords import known_keywords
from striate.api.networks import how_to_finish, load, note_without_labels, with_rule_of
from striate.api.training import Run, run_and_network
from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.environments.open_environment import is_environment
from striate.data.read import load_for_evaluation
from striate.data.sources.objects import Data, given_data
from striate.errors import ChangedDataError, ConfigError, OtherClassesError, RunError, UsageError, pasted
from striate.evaluation.assessment import (
    assess_run,
    assess_split,
    is_fully_saved,
    read_gap,
    read_temperature,
    save_assessment,
)
from striate.evaluation.evaluate import evaluate_trained, plan_evaluation
from striate.evaluation.robustness.invariance import Invariance
from striate.evaluation.robustness.measure_invariance import MOST as INVARIANCE_MOST
from striate.evaluation.robustness.measure_invariance import measure_invariance
from striate.evaluation.robustness.measure_robustness import MOST, measure_robustness
from striate.evaluation.robustness.robustness import Robustness
from striate.evaluation.written_inference import written_inference
from striate.exporting.exported_file import is_exported, require_layers
from striate.inference.plan import InferencePlan, PlanMode, require_plan_mode
from striate.machine.allocator import allocator_policy, usual_policy
from striate.models.trusted_code import is_given
from striate.runs.directory import RunDirectory, RunPath, open_run, path_of_run, read_seen
from striate.runs.events import note_files
from striate.runs.files import explained, explained_in_place, write_json, write_text
from striate.runs.plain_files import is_there, make_folder, read_text
from striate.statistics.calibration import Temperature
from striate.tasks.baseline import Baseline, DataBaselines
from striate.tasks.config import ByClass
from striate.tasks.control.baseline import random_actions
from striate.tasks.control.play import split_seed
from striate.tasks.evaluation import Evaluation
from striate.tasks.registry import make_task, saved_predictions
from striate.training.config import Config
from striate.training.config_file import config_from_yaml
from striate.training.execution import laid_out, measured_at_once, speed_settings
from striate.training.measured import measured_part
from striate.training.prepare import read_data
from striate.training.request import ConfigSource, merge_request, read_config
from striate.training.rewards.player import player_refused, plays
from striate.training.trained import Trained


@known_keywords
def evaluate(
    run_or_trained: str | Path | Run | Trained,
    data: Data = None,
    *,
    names: str | None = None,
    plan: PlanMode = "auto",
    cost: ByClass = None,
    threshold: ByClass = None,
    announce: Announce | None = None,
) -> Evaluation:
    """Evaluate a trained network on `data`, prepared as in its training; by default on the run's own test split.

    `data` as `train` takes them, arrays and datasets too; a run that was trained on such gets them passed again.
    `names`, like `data.names`, names its columns or arrays if they differ from those of the run's data.

    Of other data the given test split is used, or everything (split `all`) where there is none; samples that the run
    was trained on are a finding. A `Trained` is evaluated like its run; one without a run, and the folder of a hub,
    need `data`, all of which are other data for them. For many samples the fastest backend is chosen whose predictions
    agree with plain fp32, unless `plan` is `plain`; the result's `inference` says which. `announce` is told of a
    download before it starts.
    The run's own data are predicted as the run predicted them, bit for bit on the same machine. If they have changed
    since, they are evaluated as other data when `data` names them, and refused when it does not.
    `cost` and `threshold` say how a class is chosen, as in `load`.
    The run's `execution.micro_batch` sets the batch. A run without its evaluation.json and predictions gets them again
    when it is evaluated on its own data.
    Raises DataError, also when classes do not match; UsageError for an unknown `plan`, and for costs or thresholds of
    an unknown class.
    """
    require_plan_mode(plan)
    with given_data(data, announce) as source:
        return _evaluate(run_or_trained, source, names, plan, cost, threshold, announce)


def _evaluate(
    run: str | Path | Run | Trained,
    data: str | None,
    names: str | None,
    plan: PlanMode,
    cost: ByClass,
    threshold: ByClass,
    announce: Announce | None,
) -> Evaluation:
    require_layers(run)
    given: object = run
    if not isinstance(given, Run | Trained | str | Path):
        got = f"a {type(given).__name__}, whose preprocessing and classes are unknown"
        raise RunError("evaluate", got, "a run, or a network from striate.load", 'evaluate("runs/NAME")')
    if isinstance(run, Trained):
        ruled = cost is not None or threshold is not None
        chosen = replace(run, task=run.task.deciding(cost, threshold)) if ruled else run
        if (folder := _folder_of(run)) is not None:
            return _evaluate_of_run(folder, None, chosen, data, names, plan, announce)
        if data is None:
            got, remedy = "a network without data", 'evaluate(trained, "mnist5k")'
            raise RunError("evaluate", got, "data to measure it on", remedy)
        return _evaluate_on(chosen, *_other_data(chosen, data, names, {}, announce), plan)
    path = path_of_run(run)
    if is_exported(path) and path.exists():
        return _evaluate_exported(path, data, names, plan, cost, threshold, announce)
    opened = open_run(path)
    if plays(path):
        raise player_refused(path)
    saved = load(path)
    return _evaluate_of_run(opened, saved, with_rule_of(path, saved, cost, threshold), data, names, plan, announce)


def _folder_of(trained: Trained) -> RunDirectory | None:
    """The run that a network was loaded from; None without one, and where its folder is gone."""
    with suppress(RunError):
        return None if trained.run is None else open_run(trained.run)
    return None


def _evaluate_of_run(
    run: RunDirectory,
    saved: Trained | None,
    network: Trained,
    data: str | None,
    names: str | None,
    plan: PlanMode,
    announce: Announce | None,
) -> Evaluation:
    """Evaluate a network of a run. `saved`: the network as the run saved it; None where `network` is in memory and may
    have changed since, so that the temperature and the backend of the run are not its own, and nothing is written."""
    config = config_from_yaml(run.config)
    batch = measured_at_once(config)
    if data is None and names is not None:
        expected = "names together with other data, whose columns or arrays they name"
        raise UsageError("data.names", names, expected, "leave out --data.names")
    if data is None or (_same_source(data, config.data.source) and names in (None, config.data.names)):
        try:
            own = read_data(config, announce, run=run)[1]
        except ChangedDataError:
            if data is None:
                raise
        else:
            with speed_settings(config):  # other threads or layouts than the run's change the last bits of fp32
                if saved is None:
                    return _with_findings(_evaluate_on(network, own, own.held_out, plan, batch), run, network)
                _complete(run, config, saved, own, plan, announce)
                as_trained = replace(network, module=laid_out(network.module, config))
                temperature, recorded = read_temperature(run), written_inference(run)
                measured = _evaluate_on(as_trained, own, own.held_out, plan, batch, temperature, recorded)
            return replace(_with_findings(measured, run, network), gap=read_gap(run))
    names = names or _same_names(data, config.data.names)
    try:
        other, split = _other_data(network, data, names, read_seen(run), announce)
    except OtherClassesError as error:
        if is_given(data):
            raise
        source, run_path = pasted(data), pasted(run.path)
        error.remedy += (
            f"; to predict all samples: striate predict {run_path} {source}; to train it on these classes: "
            f"striate train {source} --weights {run_path}"
        )
        raise
    temperature = None if saved is None else read_temperature(run)
    return _with_findings(_evaluate_on(network, other, split, plan, batch, temperature), run, network)


def _evaluate_exported(
    path: Path,
    data: str | None,
    names: str | None,
    plan: PlanMode,
    cost: ByClass,
    threshold: ByClass,
    announce: Announce | None,
) -> Evaluation:
    """Evaluate the network of an exported folder, which has no data of its own."""
    if data is None:
        got, remedy = "a network without the test split of its run", f"striate eval {pasted(path)} DATA"
        raise RunError(str(path), got, "data to measure it on", remedy)
    measured = _evaluate(load(path), data, names, plan, cost, threshold, announce)
    note = f"{path} does not record its training samples: some of these samples may be among them"
    return replace(measured, notes=(*measured.notes, note))


def _with_findings(measured: Evaluation, run: RunDirectory, trained: Trained) -> Evaluation:
    """The evaluation with findings on the run's saved validation predictions, and with a note if the run is not
    finished."""
    if (remedy := how_to_finish(run)) is not None:
        note = (
            f"{run.path} is not finished: its latest saved network is used, and results of the end, such as the "
            f"temperature, are missing; to finish it: {remedy}"
        )
        measured = replace(measured, notes=(*measured.notes, note))
    if note := note_without_labels(run.path):
        measured = replace(measured, notes=(*measured.notes, note))
    with suppress(RunError):  # damaged predictions have no findings
        saved = saved_predictions(run, "val")
        if saved is not None:
            found = trained.task.validation_findings(saved.predictions, saved.targets, str(run.path))
            return replace(measured, findings=(*measured.findings, *found))
    return measured


@known_keywords
def baselines(
    data: Data = None,
    *,
    size: int | tuple[int, int] | str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    announce: Announce | None = None,
) -> tuple[Baseline, ...]:
    """Fit and measure the baselines that a network has to beat on `data`, on the splits that training would use.

    Data, size, config and `set` are as in `train`; of the fields only `data.*`, `task.name`, `task.class_weights`
    and `seed` have an effect. `announce` is told what was decided about the data and what is fitted. Raises
    StriateError.
    """
    return data_baselines(data, size=size, config=config, fields=dict(set or {}), announce=announce).baselines


def data_baselines(
    data: Data,
    *,
    size: int | tuple[int, int] | str | None,
    config: ConfigSource,
    fields: Mapping[str, Any],
    announce: Announce | None,
) -> DataBaselines:
    """`baselines` together with the notes and findings of the data."""
    from striate.evaluation.baselines import fit_baselines, refuse_network_fields

    say = announce or (lambda _: None)
    refuse_network_fields(fields)
    with given_data(data, announce) as source:
        merged = merge_request(read_config(config), data=source, size=size, fields=fields)
        if is_environment(merged.data.source):
            played = random_actions(merged.data.source, merged.task.control, split_seed(merged.seed, "test"))
            return DataBaselines(merged.data.source, (played,), (), ())
        merged, read = read_data(merged, announce)
    task = make_task(read, merged.task)
    if not task.classes and merged.task.class_weights == "balanced":
        raise ConfigError(
            "task.class_weights",
            merged.task.class_weights,
            "classes, which have weights",
            "leave out --task.class_weights",
        )
    say(f"{read.name}: " + ", ".join(f"{len(split):,} {name}" for name, split in read.splits.items()))
    for note in (*read.notes, *read.findings):
        say(str(note))
    if not task.baselines(read):
        got = f"{task.name}, a task without baselines"
        raise UsageError("baseline", got, "a task with baselines", "define baselines(self, data) in it")
    fitted = fit_baselines(read, task, seed=merged.seed, announce=say)
    return DataBaselines(merged.data.source, fitted, tuple(read.notes), tuple(read.findings))


def _same_source(data: str, source: str) -> bool:
    """Whether `data`, as a user types it, is the `source` of a run."""
    return data == source or (Path(source).is_absolute() and os.path.realpath(data) == os.path.realpath(source))


def _same_names(source: str, names: str | None) -> str | None:
    """The names of the run's columns or arrays, for other data that have columns or arrays; else None."""
    return names if source.lower().endswith((".csv", ".tsv", ".npz")) else None


def _other_data(
    trained: Trained, source: str, names: str | None, seen: Mapping[str, str], announce: Announce | None
) -> tuple[Dataset, str]:
    """Data other than the run's as one split, and that split's name."""
    task = trained.task
    data = load_for_evaluation(
        DataConfig(source=source, names=names, targets=task.data_targets),
        trained.preparation,
        trained.classes,
        task.annotation,
        targets=None if task.classes else task.target_count,
        seen=seen,
        announce=announce,
    )
    return data, next(iter(data.splits))


def _complete(
    run: RunDirectory, config: Config, trained: Trained, data: Dataset, plan: PlanMode, announce: Announce | None
) -> None:
    """Write evaluation.json and predictions of a finished run again where they are missing or damaged, if possible."""
    if not is_there(run.metrics_json) or is_fully_saved(run):
        return
    if not os.access(run.path, os.W_OK):
        return
    say = announce or (lambda _: None)
    say(f"{run.evaluation} is missing: all splits are measured to write it")
    part, splits, batch = measured_part(data, config), tuple(data.splits), measured_at_once(config)
    with allocator_policy(usual_policy()):
        predictor = plan_evaluation(trained, part, splits, batch=batch, mode=plan)
        measured = {name: evaluate_trained(trained, part, name, batch=batch, predictor=predictor) for name in splits}
    save_assessment(run, assess_run(trained.task, data, measured), data, measured, say)
    note_files(run, [file for file in (run.evaluation, *run.predictions.glob("*.npz")) if is_there(file)])


def _evaluate_on(
    trained: Trained,
    data: Dataset,
    split: str,
    plan: PlanMode,
    batch: int | None = None,
    temperature: Temperature | None = None,
    recorded: InferencePlan | None = None,
) -> Evaluation:
    with allocator_policy(usual_policy()):
        predictor = plan_evaluation(trained, data, (split,), batch=batch, mode=plan, recorded=recorded)
        evaluation = evaluate_trained(trained, data, split, batch=batch, predictor=predictor)
    figures = assess_split(trained.task, evaluation, data, temperature)
    return replace(
        evaluation,
        notes=data.notes,
        findings=data.findings,
        figures=figures,
        temperature=temperature,
        inputs=data.inputs_in_words,
    )


_DPI = 110


@explained_in_place()
def write_evaluation(run: RunPath, evaluation: Evaluation) -> tuple[Path, ...]:
    """Write an evaluation on other data into the folder `evaluations` of the run, as JSON and as text; the paths. No
    file with other content is overwritten. Raises RunError."""
    opened, document = open_run(path_of_run(run)), evaluation.to_json()
    place = _free(opened, f"{evaluation.data}-{evaluation.split}", document)
    write_json(place, document)
    write_text(place.with_suffix(".txt"), f"{evaluation}\n")
    return place, place.with_suffix(".txt")


def _free(run: RunDirectory, name: str, document: Mapping[str, Any]) -> Path:
    """A file of this name in the folder `evaluations`, which is new or has the same content; with a number where the
    name is taken."""
    stem = re.sub(r"[^\w.-]+", "-", name)[:80].strip(".-") or "data"
    with explained(run.evaluations):
        make_folder(run.evaluations)
    for number in count(1):
        place = run.evaluations / f"{stem}{'' if number == 1 else f'-{number}'}.json"
        try:
            if json.loads(read_text(place)) == json.loads(json.dumps(document)):
                return place
        except FileNotFoundError:
            return place
        except (OSError, ValueError):  # also a link, or anything else that is not a plain file
            continue
    raise AssertionError


def robustness(
    run: str | Path | Run | Trained,
    data: Data = None,
    *,
    split: str = "test",
    samples: int = MOST,
    seed: int = 0,
    plan: PlanMode = "auto",
    announce: Announce | None = None,
) -> Robustness:
    """Measure the headline metric of a run's network (accuracy, mean IoU, …) under shift, rotation, scale, occlusion,
    deformation, viewpoint, clutter, illumination, noise, blur and JPEG, each at several strengths, with intervals.
    Where targets move with their image, only changes are made after which the targets are known.

    Samples: of the test split, or `val`; of other `data`, as `evaluate` takes them; at most `samples` images, evenly
    spaced. Images are changed as bytes, by a function of (seed, kind, sample id). `plan` as in `evaluate`. Nothing is
    written.
    Raises UsageError; DataError for data that are not images, or have changed; RunError where there is no run.
    """
    if split not in ("test", "val"):
        raise UsageError("split", repr(split), "test or val", 'split="test"')
    if samples < 1:
        raise UsageError("samples", str(samples), "1 or more", "samples=1000")
    opened, trained = run_and_network(run)
    config = config_from_yaml(opened.config)
    with given_data(data, announce) as source, allocator_policy(usual_policy()):
        if source is None or _same_source(source, config.data.source):
            measured = read_data(config, announce, run=opened)[1]
            if split == "test":
                measured.require_test("robustness")
        else:
            names = _same_names(source, config.data.names)
            measured, split = _other_data(trained, source, names, read_seen(opened), announce)
        return measure_robustness(
            trained, measured, split, samples=samples, seed=seed, plan=plan, progress=announce or (lambda _: None)
        )


@explained_in_place()
def write_robustness(run: RunPath, found: Robustness, *, other: bool = False) -> tuple[Path, Path]:
    """Write `robustness.json` and `plots/robustness.png` into the run, or, of `other` data, both into its folder
    `evaluations`; their paths. Raises RunError."""
    from striate.visualize.canvas import of_split, save_figure
    from striate.visualize.metric_curves import robustness_figure

    opened = open_run(path_of_run(run))
    document, picture = opened.robustness, opened.plots / "robustness.png"
    if other:
        document = _free(opened, f"{found.data}-{found.split}-robustness", found.to_json())
        picture = document.with_suffix(".png")
    figure = robustness_figure(
        found.to_json(),
        title=of_split(found.data, found.split, found.n),
        name="right" if found.is_accuracy else found.metric.name,
        share=found.metric.is_share,
    )
    save_figure(figure, picture, _DPI)
    write_json(document, found.to_json())
    return document, picture


def invariance(
    run: str | Path | Run | Trained,
    *,
    split: str = "test",
    samples: int = INVARIANCE_MOST,
    seed: int = 0,
    announce: Announce | None = None,
) -> Invariance:
    """Measure how far the features of a run's layers move when an image is shifted, scaled or rotated, relative to the
    distance between two images, and how the probability of the true class changes, with intervals over images.

    Samples: at most `samples` images of the test split, or `val`, evenly spaced. Nothing is written. Raises UsageError;
    DataError for data that are not images, or have changed; RunError where there is no run.
    """
    if split not in ("test", "val"):
        raise UsageError("split", repr(split), "test or val", 'split="test"')
    if samples < 2:
        raise UsageError("samples", str(samples), "2 or more", "samples=200")
    opened, trained = run_and_network(run)
    config = config_from_yaml(opened.config)
    with allocator_policy(usual_policy()):
        measured = read_data(config, announce, run=opened)[1]
        if split == "test":
            measured.require_test("invariance")
        say = announce or (lambda _: None)
        return measure_invariance(trained, measured, split, samples=samples, seed=seed, progress=say)


@explained_in_place()
def write_invariance(run: RunPath, found: Invariance) -> tuple[Path, Path]:
    """Write `invariance.json` and `plots/invariance.png` into the run; their paths. Raises RunError."""
    from striate.visualize.canvas import of_split, save_figure
    from striate.visualize.metric_curves import invariance_figure

    opened = open_run(path_of_run(run))
    picture = opened.plots / "invariance.png"
    figure = invariance_figure(found.to_json(), title=of_split(found.data, found.split, found.n))
    save_figure(figure, picture, _DPI)
    write_json(opened.invariance, found.to_json())
    return opened.invariance, picture
