"""The doctor for a training or a run, and the short check before the first step of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from striate.api.announcing import Announce
from striate.api.keywords import known_keywords
from striate.data.environments.open_environment import is_environment
from striate.data.sources.objects import Data, given_data
from striate.doctor.causes import sort_out
from striate.doctor.diagnosis import Diagnosis
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.trial import run_trial
from striate.doctor.in_options import in_options
from striate.doctor.prepared_setup import examine_prepared, setup_of
from striate.doctor.reward_run import examine_environment, examine_reward_run
from striate.doctor.run_curves import TOO_SHORT, curve_findings, read_curves
from striate.doctor.setup.preserved_state import state_preserved
from striate.errors import ConfigError, RunError, UsageError
from striate.models.build import Model, module_of_run, named_model
from striate.models.preserved_state import usual_torch
from striate.records import Finding
from striate.runs.directory import RunDirectory, RunPath, open_run, path_of_run, read_metrics
from striate.runs.files import write_text
from striate.training.config import Config
from striate.training.config_file import config_from_yaml
from striate.training.execution import execution_settings, memory_explained, uncompiled
from striate.training.prepare import Prepared, prepare
from striate.training.request import ConfigSource, merge_request, read_config, requested_fields
from striate.training.rewards.decide import prepare_rewards
from striate.wording import several, show_shape

BUDGET = 30.0


@dataclass(frozen=True)
class TrainingDiagnosis:
    """A diagnosis, and the training or run that it is of."""

    subject: str
    """The training in words: model, data, shape of the inputs, batch, optimizer."""
    model: str
    """The model by name."""
    data: str
    """The data by name."""
    diagnosis: Diagnosis
    """The findings."""
    run: Path | None = None
    """The folder of the run; None of a training that has not begun."""

    def to_json(self) -> dict[str, Any]:
        """The document of `striate doctor --json`."""
        facts = {"subject": self.subject, "model": self.model, "data": self.data}
        return facts | {"run": None if self.run is None else str(self.run)} | self.diagnosis.to_json()


@known_keywords
@usual_torch()
def diagnose_training(
    data: Data = None,
    model: Model = "auto",
    *,
    size: int | tuple[int, int] | str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
    seconds: float = BUDGET,
    announce: Announce = lambda _: None,
) -> TrainingDiagnosis:
    """Find what would go wrong in the training that `train` would make: it is tried on copies for about `seconds`,
    after the data are read. `check_data` checks all files of the data. Arguments are as in `train`. Nothing is written.

    Raises StriateError.
    """
    _refuse_seconds(seconds)
    name, module = named_model(model)
    fields = requested_fields({"model.name": name}, set or {})
    fields.setdefault("execution.plan", "plain")  # results are the same, and nothing is to be measured first
    with given_data(data, announce) as source:
        merged = merge_request(read_config(config), data=source, size=size, fields=fields)
        if is_environment(merged.data.source):
            plan = Config().execution.plan  # trainings on environments have no plan to measure
            merged = replace(merged, execution=replace(merged.execution, plan=plan))
            return _diagnose_rewards(prepare_rewards(merged, module).config)
        prepared = _prepare(merged, module, announce)
        return _diagnose(prepared, seconds)


@usual_torch()
def diagnose_run(
    path: RunPath,
    *,
    module: nn.Module | Callable[..., nn.Module] | None = None,
    seconds: float = BUDGET,
    announce: Announce = lambda _: None,
) -> TrainingDiagnosis:
    """Find what went wrong in a run, by its curves and events, and by the start of its training as in
    `diagnose_training`; of a network that learned by a local learning rule, by curves and events alone.

    `module` for a run of a network made in Python. Nothing is written. Raises StriateError.
    """
    _refuse_seconds(seconds)
    run = open_run(path_of_run(path))
    config = config_from_yaml(run.config)
    if is_environment(config.data.source):
        return _diagnose_rewards(config, run)
    if config.cv is not None:
        got, remedy = "a cross-validation, which saves no network", f"striate doctor {config.data.source}"
        raise ConfigError(str(run.config), got, "the run of one training", remedy)
    prepared = _prepare(config, module_of_run(config.model.name, module), announce, run=run)
    return _diagnose(prepared, seconds, run)


def write_diagnosis(found: TrainingDiagnosis, path: str | Path) -> None:
    """Write the diagnosis as one HTML page with its pictures. Raises RunError where the file cannot be written."""
    from striate.report.doctor_page import doctor_page  # templates and drawing load only where they are needed

    write_text(Path(path), doctor_page(found.diagnosis, found.subject))


def _refuse_seconds(seconds: float) -> None:
    if not 0 < seconds <= 3600:
        raise UsageError("seconds", f"{seconds:g}", "more than 0, and at most 3600", "--seconds 30")


def _prepare(
    config: Config, module: nn.Module | None, announce: Announce, *, run: RunDirectory | None = None
) -> Prepared:
    """`run`: the run of the configuration, if any. It may be a training by a local learning rule, whose curves can be
    diagnosed."""
    with memory_explained(config):
        prepared = prepare(config, module, run=run, announce=announce)
    if prepared.config.optim.name == "local-rule" and run is None:
        raise ConfigError(
            "optim.name",
            "local-rule",
            "a training by gradients, which local learning rules do not use",
            "--optim.name adamw",
        )
    return prepared


def _diagnose(prepared: Prepared, seconds: float, run: RunDirectory | None = None) -> TrainingDiagnosis:
    known = list(prepared.findings)
    trained = ""
    if run is not None:
        curves = read_curves(run, prepared.task.guessed_classes)
        # A short run is not a fault of its setup.
        of_curves = curve_findings(curves)
        codes = {finding.code for finding in (*known, *of_curves)}
        found = [replace(f, severity="note") if f.code == TOO_SHORT else f for f in of_curves]
        found += [finding for finding in _of_predictions(run) if finding.code not in codes]
        known += [in_options(finding, prepared.config) for finding in found]
        trained = f"{run.path}, {several(curves.epochs, 'epoch')} trained: "
    if prepared.config.optim.name == "local-rule":
        diagnosis = Diagnosis(
            (), skipped={"gradients": "the network learns by a local learning rule, without gradients"}
        )
    else:
        diagnosis = examine_prepared(prepared, Clock(seconds))
    codes = {finding.code for finding in known}
    tried = [in_options(other, prepared.config) for other in _all(diagnosis) if other.code not in codes]
    findings, follows = sort_out([*known, *tried])
    model, data = prepared.config.model.name, prepared.data.name
    shape = show_shape(tuple(prepared.data.input_shape))
    subject = f"{trained}{model} on {data}: inputs {shape}, batch {prepared.config.batch:,}"
    subject += f", {prepared.config.optim.name} at {prepared.config.optim.lr:.3g}"
    sorted_out = replace(diagnosis, findings=findings, follows=follows)
    return TrainingDiagnosis(subject, model, data, sorted_out, None if run is None else run.path)


def _diagnose_rewards(config: Config, run: RunDirectory | None = None) -> TrainingDiagnosis:
    """The diagnosis of a training on an environment, which has no samples to try it on."""
    diagnosis = examine_environment(config) if run is None else examine_reward_run(run, config)
    findings = tuple(in_options(finding, config) for finding in diagnosis.findings)
    where = "" if run is None else f"{run.path}: "
    subject = f"{where}{config.task.control.algorithm} on {config.data.source}: {config.model.name}"
    found = replace(diagnosis, findings=findings)
    return TrainingDiagnosis(
        subject, config.model.name, str(config.data.source), found, None if run is None else run.path
    )


def _of_predictions(run: RunDirectory) -> list[Finding]:
    """The findings on predictions that a finished run recorded; none of an unfinished one."""
    try:
        return [Finding(**record) for record in read_metrics(run).get("findings", ())]
    except (RunError, TypeError):
        return []


def _all(diagnosis: Diagnosis) -> list[Finding]:
    return [*diagnosis.findings, *(other for others in diagnosis.follows.values() for other in others)]


SHARE = 0.02
"""Share of the time of the run's steps that the check may take; half of it for a budget in minutes."""
MOST = 10.0
LEAST = 0.3
"""Seconds: a shorter check finds nothing certain."""


def pre_checked(prepared: Prepared) -> Prepared:
    """The training with the errors of a quick examination as findings. The run stays the same, bit for bit."""
    config = prepared.config
    steps = config.budget.steps or 0
    began = perf_counter()
    setup = setup_of(prepared)
    try:
        with execution_settings(config), uncompiled(config), state_preserved(setup):
            trial = run_trial(setup, list(islice(setup.train, 2)), 3, began + MOST, close=False)
            if not trial.rows:
                return prepared  # training itself raises the full error
            pace = min(row.seconds for row in trial.rows)
            share = SHARE if config.budget.minutes is None else SHARE / 2
            budget = min(MOST, share * steps * pace) - (perf_counter() - began)
            if budget < LEAST:
                return prepared
        diagnosis = examine_prepared(prepared, Clock(budget), quick=True)
    except Exception:  # a network that cannot be copied, no memory for copies: training itself raises the error
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # training needs what the copies had
        return prepared
    known = {finding.code for finding in prepared.findings}
    errors = [f for f in diagnosis.findings if f.severity == "error" and f.code not in known]
    return replace(prepared, findings=(*prepared.findings, *(in_options(error, config) for error in errors)))
