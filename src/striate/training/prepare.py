"""Parse and plan: from a configuration to everything that a training needs, before anything is written."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.account.signal.findings import signal_findings
from striate.account.signal.trace import SignalRow, measure_signal, samples_of
from striate.data.dataset import Dataset, Split
from striate.data.loader import to_device
from striate.data.normalize import Normalization, Normalize, measure_normalization, scale_to_unit
from striate.data.read import load_dataset
from striate.data.sources.objects import is_given_data
from striate.errors import ChangedDataError, pasted
from striate.machine.allocator import allocator_policy, usual_policy
from striate.machine.memory import in_halves
from striate.models.learning_rule import followed_quantities
from striate.models.reconstructing import takes_unit_inputs
from striate.records import Finding
from striate.runs.directory import RunDirectory
from striate.runs.verified_files import read_verified
from striate.tasks.registry import annotation_for, make_task
from striate.tasks.task import Task
from striate.training.auxiliary import make_heads
from striate.training.average import make_average
from striate.training.budget.deadline import Deadline, deadline_for
from striate.training.budget.forecast import Forecast
from striate.training.budget.pace import Pace
from striate.training.budget.speed import Work
from striate.training.budget.steps import BudgetDecision, decide_budget
from striate.training.chosen_network import build_network, choose_network, has_pretrained_weights
from striate.training.code_fields import with_code
from striate.training.config import Config
from striate.training.deterministic import note, refuse_nondeterministic, without_measuring
from striate.training.early_stop import refuse_impossible_target
from striate.training.execution import decide_execution, execution_settings, place, training_part, without_plan
from striate.training.initial_weights import InitialWeights, find_initial_weights, whiten_first_layer
from striate.training.objective import Objective, refuse_invisible_units
from striate.training.optimizers import make_optimizer, with_user_optimizer, with_usual_values
from striate.training.plan.decide import apply_plan, expected_length
from striate.training.plan.plan_table import PlanRecord
from striate.training.plan.trial import Workload
from striate.training.processes.decide import refuse_undivided
from striate.training.progressive_resizing import decide_sizes, decide_window
from striate.training.recipes.compute_budget import bounded_wait, choose_size_for
from striate.training.recipes.decide import Decision, decide, decide_views
from striate.training.recipes.facts import gather_facts
from striate.training.recipes.speedrun import (
    before_data,
    before_network,
    for_photographs,
    with_cached_weights,
    with_enough_validation,
)
from striate.training.refusals import (
    number_format_explained,
    refuse_fusion,
    refuse_untrainable,
    refuse_unused_packs,
    refuse_wrong_loss,
    refuse_wrong_transform,
)
from striate.training.request import decided_fields
from striate.training.state import TrainingState
from striate.training.trained import Trained, trained_to_dict
from striate.wording import listed, several


@dataclass(frozen=True)
class Prepared:
    """A training about to start."""

    config: Config
    """The decided configuration."""
    data: Dataset
    """The data set on the host."""
    splits: dict[str, Split]
    """Its splits, on the device where they fit."""
    task: Task
    state: TrainingState
    normalization: Normalization
    """How inputs are standardized."""
    network_name: str | None
    """Name that builds the network again. None for an `nn.Module` given in Python."""
    notes: tuple[str, ...]
    """What was decided, a sentence each."""
    findings: tuple[Finding, ...] = ()
    """What was noticed about data, weights and signal."""
    signal: tuple[SignalRow, ...] = ()
    """Strength of activations and gradients in each layer before the first step; empty for a resumed run."""
    plan: PlanRecord | None = None
    """How the execution was chosen. None: nothing was measured."""
    pace: Pace | None = None
    """Seconds of steps and validation. None: not measured."""
    forecast: Forecast | None = None
    """What it will take and reach. None: not measured."""
    deadline: Deadline | None = None
    """Changes the number of steps so that the run ends within the requested minutes. None without minutes."""

    @property
    def normalize(self) -> Normalize:
        """From a raw batch on the device to the input of the network."""
        return self.normalization.on(self.device, len(self.data.input_shape) + 1)

    @property
    def objective(self) -> Objective:
        """What is minimized."""
        return Objective(self.task, self.config, self.state.heads, followed_quantities(self.state.module))

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return torch.device(self.config.execution.device or "cpu")

    def trained(self) -> Trained:
        """The network as it is now, ready to predict."""
        data, views = self.data, self.config.evaluation.views or "none"
        return Trained(
            self.state.eval_module, self.task, data.preparation, self.normalization, data.classes, self.device, views
        )

    def checkpoint(self) -> dict[str, Any]:
        """The state, with everything that predicting and resuming need."""
        return self.state.to_dict() | trained_to_dict(self.trained(), self.network_name)


def read_data(
    config: Config,
    announce: Callable[[str], None] | None = None,
    module: nn.Module | None = None,
    *,
    run: RunDirectory | None = None,
) -> tuple[Config, Dataset]:
    """The data set of a configuration, and the configuration with what was decided about the data. `module`: the
    network given in Python, if any; its cost decides the size of photographs. `run`: the run of the configuration, if
    any; an error names the samples that it lists and that are gone.

    Raises DataError, also where the fingerprint of the data differs from that of the configuration; ConfigError.
    """
    refuse_unused_packs(config)
    request, config = config, before_data(config)
    read = partial(
        load_dataset,
        annotation=annotation_for(config.task),
        announce=announce,
        choose_size=choose_size_for(config, module),
    )
    data = read(config.data)
    if (enough := with_enough_validation(config, request, data)) != config:
        config = enough
        data = read(config.data)
    expected = config.data.fingerprint
    if expected not in (None, data.fingerprint):
        raise _changed(config, data, run)
    fit = data.preparation.fit if "fit" in data.medium.settings else None
    decided = replace(config.data, source=data.source, store=data.store, fingerprint=data.fingerprint, fit=fit)
    return replace(config, data=data.medium.decided(decided, data.preparation)), data


def _changed(config: Config, data: Dataset, run: RunDirectory | None) -> ChangedDataError:
    source = config.data.source
    got = f"data with the fingerprint {data.fingerprint[:12]}"
    expected = f"the data of the configuration, {str(config.data.fingerprint)[:12]}"
    if run is None or is_given_data(source):
        remedy = "restore the data; or train on them as they are now, with --data.fingerprint null"
        return ChangedDataError(source, got, f"{expected}: files were added, removed or changed since", remedy)
    table = (read_verified(run.split) or b"").decode()
    before, now = [row["path"] for row in csv.DictReader(table.splitlines())], [row.path for row in data.rows]
    gone, new = [path for path in before if path not in set(now)], [path for path in now if path not in set(before)]
    changes = [f"{several(len(gone), 'sample is', 'samples are')} gone ({listed(gone, 3)})"] if gone else []
    changes += [f"{several(len(new), 'sample is', 'samples are')} new ({listed(new, 3)})"] if new and before else []
    got += f": {' and '.join(changes) or 'contents, labels or splits of samples differ'}"
    remedy = (
        f"measure on the data as they are now: striate eval {pasted(run.path)} {pasted(source)}; or train on them:"
        f" striate train --config {pasted(run.config)} --data.fingerprint null; or restore the files"
    )
    return ChangedDataError(source, got, expected, remedy)


def prepare(
    config: Config,
    module: nn.Module | None = None,
    *,
    run: RunDirectory | None = None,
    checkpoint: Path | None = None,
    seconds_spent: Callable[[], float] = lambda: 0.0,
    announce: Callable[[str], None] = lambda _: None,
    forecast: bool = False,
) -> Prepared:
    """Read the data, decide what is open, build the network. Writes nothing and prints nothing.

    The initialization follows from `config.seed`; the caller's random state stays. `run`: see `read_data`.
    `checkpoint`: the one that the run is resumed from, if any; a file of initial weights is then not needed.
    `seconds_spent` since the user's request count against `budget.minutes`. `forecast`: whether to measure what a long
    run will reach. Raises StriateError.
    """
    with_data, data = read_data(config, announce, module, run=run)
    if config.baseline:
        data.require_test("--baseline")
    return prepare_data(
        with_data, data, module, request=config, checkpoint=checkpoint, seconds_spent=seconds_spent, forecast=forecast
    )


def prepare_data(
    config: Config,
    data: Dataset,
    module: nn.Module | None = None,
    *,
    request: Config | None = None,
    checkpoint: Path | None = None,
    seconds_spent: Callable[[], float] = lambda: 0.0,
    plan_seconds: float | None = None,
    forecast: bool = False,
) -> Prepared:
    """`prepare` for data that are already read. `request`: the configuration before the data were read, if it differs.
    `plan_seconds`: how long the execution plan may be measured; None: as the length of the run allows. `forecast`:
    whether to measure what a long run will reach, and to bound a run without a budget."""
    request, most_threads = request or config, torch.get_num_threads()
    config, cache_notes = with_cached_weights(config, data, module)
    config, recipe_notes = for_photographs(config, data, module)
    config = with_code(without_measuring(before_network(config, data)))
    task, requested_execution = make_task(data, config.task), config.execution
    config = replace(config, task=task.decided(config.task))
    config = decide_execution(config, data)
    weights = find_initial_weights(config, data, task, module, checkpoint)
    config, model_notes = choose_network(weights.config, data, module)
    model_notes = [*cache_notes, *recipe_notes, *model_notes, *filter(None, [task.loss_text()])]
    pretrained = has_pretrained_weights(config, module)

    with execution_settings(config):
        with allocator_policy(config.execution.allocator or usual_policy()):
            device = torch.device(config.execution.device or "cpu")
            splits = {name: to_device(split, device) for name, split in data.splits.items()}
            network, normalization, weight_notes = _initialize(
                config, data, task, weights, module, splits["train"], pretrained=pretrained
            )
            normalize = normalization.on(device, len(data.input_shape) + 1)
            recipe = _decide_recipe(config, request, data, task, network, pretrained=pretrained, waited_for=forecast)
            network = place(network, recipe.config, device)
            signal = _check_network(
                network, recipe.config, task, splits["train"], normalize, measured=checkpoint is None
            )
            state = _first_state(network, recipe.config, task, splits["train"], normalization)
        work = _workload(Work(state, task, splits, recipe.config, normalize), most_threads, seconds_spent)
        planned = apply_plan(work, requested_execution, plan_seconds)
    refuse_undivided(planned.config)
    config = replace(planned.config, batch=recipe.config.batch)

    with execution_settings(config):
        alone = config.execution.processes is None  # the speed of several processes together is known only later
        budget = decide_budget(Work(state, task, splits, config, normalize), seconds_spent, forecast=forecast and alone)
    config = replace(budget.config, decided=decided_fields(request, budget.config))
    deterministic = [note(config.execution)] if config.execution.deterministic else []
    return Prepared(
        config,
        data,
        splits,
        task,
        state,
        normalization,
        None if module is not None else config.model.name,
        (*data.notes, *model_notes, *weight_notes, *recipe.notes, *planned.notes, *deterministic, *budget.notes),
        (*data.findings, *weights.findings, *recipe.findings, *_signal_findings(signal, config, pretrained=pretrained)),
        signal,
        planned.record,
        budget.pace,
        budget.forecast,
        _deadline(budget),
    )


def _initialize(
    config: Config,
    data: Dataset,
    task: Task,
    weights: InitialWeights,
    module: nn.Module | None,
    train: Split,
    *,
    pretrained: bool,
) -> tuple[nn.Module, Normalization, list[str]]:
    """The network with its initial weights, the normalization of its inputs, and notes about both."""
    network = build_network(config.model.name if module is None else module, data, task, weights)
    train_data = data.splits["train"]
    normalization = weights.normalization or (
        scale_to_unit(train_data)
        if takes_unit_inputs(network)
        else measure_normalization(train_data, motion=data.medium.motion)
    )
    notes = weights.apply(network, data, task, normalization)
    normalize = normalization.on(train.inputs.device, len(data.input_shape) + 1)
    notes += whiten_first_layer(network, config, train, normalize, has_weights=pretrained)
    return network, normalization, notes


def _decide_recipe(
    config: Config,
    request: Config,
    data: Dataset,
    task: Task,
    network: nn.Module,
    *,
    pretrained: bool,
    waited_for: bool,
) -> Decision:
    """Everything that follows from data and network without timing: optimizer, schedule, augmentation, sizes of images,
    test-time augmentation. `waited_for`: whether a user waits for this single training, so that the speed of the
    machine bounds its length. Raises ConfigError for what cannot be trained."""
    config = with_user_optimizer(config, network)
    windows, adapt = task.takes_windows, task.augmentation
    facts = gather_facts(
        data,
        network,
        has_weights=pretrained,
        survives_moves=task.survives_moves,
        windows=windows,
        adapt=adapt,
        passes=task.passes,
    )
    decision = decide(config, data, facts)
    refuse_impossible_target(decision.config.budget.target, task)
    config = with_usual_values(decision.config)
    config, wait_notes = bounded_wait(config, request, facts) if waited_for else (config, [])
    config, window_notes = decide_window(config, request, data, task, network)
    config, size_notes = decide_sizes(config, request, data, network)
    size_notes = [*window_notes, *size_notes]
    config, view_notes = decide_views(config, request, data, task)
    refuse_untrainable(config, request, data, task, network, has_weights=pretrained)
    rule_notes = [f"final prediction: {task.decision_text}"] if task.decision_text else []
    return Decision(config, (*decision.notes, *wait_notes, *size_notes, *view_notes, *rule_notes), decision.findings)


def _check_network(
    network: nn.Module, config: Config, task: Task, train: Split, normalize: Normalize, *, measured: bool
) -> tuple[SignalRow, ...]:
    """Refuse what only a pass through the network shows. Returns the strength of the signal in each layer, if it is to
    be `measured`."""
    refuse_nondeterministic(network, config, task, train, normalize)
    refuse_wrong_loss(network, task, train, normalize)
    refuse_wrong_transform(network, config, train)
    refuse_fusion(network, task, train)
    with number_format_explained(network):
        measure = partial(measure_signal, network, task, train, normalize)
        samples = samples_of(train.inputs.shape[1:])
        return in_halves(training_part(config, samples), measure) if measured else ()


def _signal_findings(signal: tuple[SignalRow, ...], config: Config, *, pretrained: bool) -> tuple[Finding, ...]:
    """Findings about the initial weights. None for local learning rules, which have no gradient, and for pretrained
    weights, which no initialization replaces. Muon's steps are equally long whatever the gradient."""
    if pretrained or config.optim.name == "local-rule":
        return ()
    return signal_findings(signal, steps_follow_gradients=config.optim.name != "muon")


def _first_state(
    network: nn.Module, config: Config, task: Task, train: Split, normalization: Normalization
) -> TrainingState:
    """The state before the first step."""
    sample = normalization.on(train.inputs.device, train.inputs.ndim)(train.inputs[:2])
    refuse_invisible_units(network, config.regularize, sample)
    heads = make_heads(network, config.auxiliary, task.needs, task.outputs, sample)
    optimizer = make_optimizer(network, config, heads.parameters() if heads is not None else ())
    return TrainingState(network, optimizer, make_average(network, config.optim.ema), heads)


def _workload(work: Work, threads: int, seconds_spent: Callable[[], float]) -> Workload:
    """The training as computed without a plan; with several processes, the part of one."""
    config, train = work.config, work.splits["train"]
    assert config.batch is not None, "recipes decide it"
    steps, seconds = expected_length(config, train, seconds_spent)
    part = -(-config.batch // (config.execution.processes or 1))
    plain = replace(config, batch=part, execution=without_plan(config.execution))
    return Workload(work.state, work.task, train, plain, work.normalize, steps, seconds, threads)


def _deadline(budget: BudgetDecision) -> Deadline | None:
    """The deadline of a run with minutes; None without."""
    steps = budget.config.budget.steps
    if budget.pace is None or budget.seconds is None or steps is None:
        return None
    return deadline_for(budget.pace, steps, budget.seconds)
