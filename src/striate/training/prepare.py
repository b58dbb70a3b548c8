"""Parse and plan: from a configuration to everything that a training needs, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.account.signal.findings import signal_findings
from striate.account.signal.trace import SAMPLES, SignalRow, measure_signal
from striate.data.dataset import Dataset, Split
from striate.data.loader import to_device
from striate.data.normalize import Normalization, Normalize, measure_normalization
from striate.data.read import load_dataset
from striate.errors import ChangedDataError
from striate.machine.allocator import allocator_policy, usual_policy
from striate.machine.memory import in_halves
from striate.records import Finding
from striate.tasks.registry import annotation_for, make_task
from striate.tasks.task import Task
from striate.training.answer_views import decide_views
from striate.training.auxiliary import make_heads
from striate.training.average import make_average
from striate.training.budget.forecast import Forecast
from striate.training.budget.pace import Pace
from striate.training.budget.speed import Work
from striate.training.budget.steps import decide_budget
from striate.training.chosen_network import build_network, choose_network, has_own_weights
from striate.training.config import Config
from striate.training.deadline import InTime
from striate.training.deterministic import NOTE, refuse_nondeterministic, without_measuring
from striate.training.early_stop import refuse_impossible_target
from striate.training.execution import (
    decide_execution,
    execution_settings,
    place,
    training_part,
    without_plan,
)
from striate.training.hidden_units import refuse_invisible_units
from striate.training.initial_weights import Beginning, find_beginning, whiten_first_layer
from striate.training.objective import Objective
from striate.training.optimizers import make_optimizer, with_own_optimizer
from striate.training.own_names import with_code
from striate.training.plan.decide import apply_plan, expected_length
from striate.training.plan.plan_table import PlanRecord
from striate.training.plan.trial import Workload
from striate.training.processes.decide import refuse_undivided
from striate.training.progressive_resizing import decide_sizes
from striate.training.recipes.decide import decide
from striate.training.recipes.facts import gather_facts
from striate.training.recipes.speedrun import before_data, before_network, with_enough_validation
from striate.training.refusals import (
    number_format_explained,
    refuse_untrainable,
    refuse_unused_packs,
    refuse_wrong_loss,
)
from striate.training.request import decided_fields
from striate.training.state import TrainingState
from striate.training.trained import Trained, trained_to_dict


@dataclass(frozen=True)
class Prepared:
    """A training about to start: the decided configuration, data on the host and on the device, task, network.

    `network_name` builds the network again (None for an `nn.Module` given in Python); `notes` say what was decided,
    `findings` what was noticed, `signal` how strong activations and gradients are in each layer before the first step
    (empty where a run goes on); `plan` how it was found out how to compute, `pace` how long it takes, `forecast` what
    it will come to, where these were measured; `in_time` keeps it within the minutes that were asked for.
    """

    config: Config
    data: Dataset
    splits: dict[str, Split]
    task: Task
    state: TrainingState
    normalization: Normalization
    network_name: str | None
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    signal: tuple[SignalRow, ...] = ()
    plan: PlanRecord | None = None
    pace: Pace | None = None
    forecast: Forecast | None = None
    in_time: InTime | None = None

    @property
    def normalize(self) -> Normalize:
        """From a raw batch on the device to the network's input."""
        return self.normalization.on(self.device, len(self.data.input_shape) + 1)

    @property
    def objective(self) -> Objective:
        """What is minimized."""
        return Objective(self.task, self.config, self.state.heads)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.config.execution.device or "cpu")

    def trained(self) -> Trained:
        """The network as it is now, ready to answer."""
        data, views = self.data, self.config.evaluation.views or "none"
        return Trained(
            self.state.answering, self.task, data.preparation, self.normalization, data.classes, self.device, views
        )

    def checkpoint(self) -> dict[str, Any]:
        """The state with what it takes to answer and to go on."""
        return self.state.to_dict() | trained_to_dict(self.trained(), self.network_name)


def read_data(config: Config, announce: Callable[[str], None] | None = None) -> tuple[Config, Dataset]:
    """The data set of a configuration, and the configuration with what was decided about it.

    Raises DataError, also when the configuration names a fingerprint and the data have another; ConfigError.
    """
    refuse_unused_packs(config)
    asked, config = config, before_data(config)
    annotation = annotation_for(config.task)
    data = load_dataset(config.data, annotation=annotation, announce=announce)
    if (enough := with_enough_validation(config, asked, data)) != config:
        config = enough
        data = load_dataset(config.data, annotation=annotation, announce=announce)
    expected = config.data.fingerprint
    if expected not in (None, data.fingerprint):
        raise ChangedDataError(
            config.data.source,
            f"data with the fingerprint {data.fingerprint[:12]}",
            f"the data of the configuration, {str(expected)[:12]}: files were added, removed or changed since",
            "put the files back, or train anew with --data.fingerprint null; striate eval RUN DATA measures on them"
            " as on other data",
        )
    decided = replace(config.data, source=data.source, store=data.store, fingerprint=data.fingerprint)
    return replace(config, data=data.medium.decided(decided, data.input_shape)), data


def prepare(
    config: Config,
    module: nn.Module | None = None,
    *,
    begun: Path | None = None,
    seconds_spent: Callable[[], float] = lambda: 0.0,
    announce: Callable[[str], None] = lambda _: None,
    forecast: bool = False,
) -> Prepared:
    """Read the data, decide what is open, build the network. Writes nothing and prints nothing.

    Initialization follows from `config.seed`; the caller's random state is left alone. `begun` is the checkpoint that
    the run goes on from, if any: a file of weights that it began with is then not needed any more.
    `seconds_spent` since the user's request counts against `budget.minutes`. `forecast`: whether to find out what a
    long run will come to. Raises StriateError.
    """
    with_data, data = read_data(config, announce)
    return prepare_data(
        with_data, data, module, asked=config, begun=begun, seconds_spent=seconds_spent, forecast=forecast
    )


def prepare_data(
    config: Config,
    data: Dataset,
    module: nn.Module | None = None,
    *,
    asked: Config | None = None,
    begun: Path | None = None,
    seconds_spent: Callable[[], float] = lambda: 0.0,
    plan_seconds: float | None = None,
    forecast: bool = False,
) -> Prepared:
    """`prepare` for data that have been read already; `asked` is the configuration before they were, where another.
    `plan_seconds`: how long the execution plan may be measured, whatever the run takes; None lets the run decide.
    `forecast`: whether to find out what a long run will come to."""
    asked = asked or config
    config = with_code(without_measuring(before_network(config, data)))
    task = make_task(data, config.task)
    open_execution, most_threads = config.execution, torch.get_num_threads()
    beginning = find_beginning(decide_execution(config, data), data, task, module, begun)
    config, notes = choose_network(beginning.config, data, module)
    with execution_settings(config):
        with allocator_policy(config.execution.allocator or usual_policy()):
            prepared = _decide_all(config, asked, data, task, beginning, module, measured=begun is None)
        work = _workload(prepared, most_threads, seconds_spent)
        planned = apply_plan(work, open_execution, plan_seconds)
    refuse_undivided(planned.config)
    notes = [*data.notes, *notes, *prepared.notes, *planned.notes, *([NOTE] if config.execution.deterministic else [])]
    config = replace(planned.config, batch=prepared.config.batch)
    prepared = replace(prepared, config=config, plan=planned.record)
    with execution_settings(prepared.config):
        timed = Work(prepared.state, task, prepared.splits, prepared.config, prepared.normalize)
        alone = config.execution.processes is None  # how fast they are together shows only later
        budget = decide_budget(timed, seconds_spent, forecast=forecast and alone)
    config = replace(budget.config, decided=decided_fields(asked, budget.config))
    return replace(
        prepared,
        config=config,
        notes=(*notes, *budget.notes),
        pace=budget.pace,
        forecast=budget.forecast,
        in_time=budget.in_time,
    )


def _decide_all(
    config: Config,
    asked: Config,
    data: Dataset,
    task: Task,
    beginning: Beginning,
    module: nn.Module | None,
    *,
    measured: bool,
) -> Prepared:
    """Everything but the number of steps; the signal only where it is to be `measured`."""
    name, device = config.model.name, torch.device(config.execution.device or "cpu")
    splits = {k: to_device(s, device) for k, s in data.splits.items()}
    normalization = beginning.normalization or measure_normalization(data.splits["train"])
    network = build_network(name if module is None else module, data, task, beginning)
    notes = beginning.apply(network, data, task, normalization)
    has_weights = has_own_weights(config, module)
    normalize = normalization.on(device, len(data.input_shape) + 1)
    notes += whiten_first_layer(network, config, splits["train"], normalize, has_weights=has_weights)
    config = with_own_optimizer(config, network)
    decision = decide(config, data, gather_facts(data, network, has_weights=has_weights, keeps=task.survives_moves))
    refuse_impossible_target(decision.config.budget.target, task)
    config, size_notes = decide_sizes(decision.config, asked, data, network)
    config, view_notes = decide_views(config, asked, data, task)
    refuse_untrainable(config, asked, data, task, network, has_weights=has_weights)
    network = place(network, config, device)
    refuse_nondeterministic(network, config, task, splits["train"], normalize)
    refuse_wrong_loss(network, task, splits["train"], normalize)
    samples = training_part(config, SAMPLES)
    measure = partial(measure_signal, network, task, splits["train"], normalize)
    with number_format_explained(network):
        signal = in_halves(samples, measure) if measured else ()
    # What a gradient needs of the first weights says nothing about other rules.
    judged = () if config.optim.name == "own-rule" else signal_findings(signal)
    return Prepared(
        config,
        data,
        splits,
        task,
        _begin(network, config, task, splits["train"], normalization),
        normalization,
        None if module is not None else name,
        (*notes, *decision.notes, *size_notes, *view_notes),
        (*data.findings, *beginning.findings, *decision.findings, *judged),
        signal,
    )


def _workload(prepared: Prepared, threads: int, seconds_spent: Callable[[], float]) -> Workload:
    """The training as it would be computed without a plan; of several processes, the part of one."""
    config, train = prepared.config, prepared.splits["train"]
    assert config.batch is not None, "recipes decide it"
    steps, seconds = expected_length(config, train, seconds_spent)
    part = -(-config.batch // (config.execution.processes or 1))
    plain = replace(config, batch=part, execution=without_plan(config.execution))
    return Workload(prepared.state, prepared.task, train, plain, prepared.normalize, steps, seconds, threads)


def _begin(network: nn.Module, config: Config, task: Task, train: Split, normalization: Normalization) -> TrainingState:
    """The state before the first step."""
    sample = normalization.on(train.inputs.device, train.inputs.ndim)(train.inputs[:2])
    refuse_invisible_units(network, config.regularize.sparsity, sample)
    heads = make_heads(network, config.auxiliary, task.needs, task.outputs, sample)
    optimizer = make_optimizer(network, config, heads.parameters() if heads is not None else ())
    return TrainingState(network, optimizer, make_average(network, config.optim.ema), heads)
