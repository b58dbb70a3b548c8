"""Build new networks, load trained ones, and summarize a network, alone or compared with another one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.comparison import LedgerComparison, compare_ledgers
from striate.account.field.effective import EffectiveField
from striate.account.ledger import Ledger, Shape
from striate.account.several_inputs import Inputs
from striate.account.summarize import observe, summarize_and_measure
from striate.api.keywords import known_keywords
from striate.errors import ConfigError, ModelError, NoInputShape, RunError, StriateError, UsageError, pasted
from striate.evaluation.assessment import read_temperature
from striate.evaluation.evaluate import evaluate_trained
from striate.exporting.exported_file import is_exported, load_exported, require_layers
from striate.models.build import Model, build_model, module_of_run
from striate.models.from_file import names_file
from striate.models.from_run import names_run
from striate.models.preserved_state import copied, same_random_state, usual_torch
from striate.models.trained_modules import note_trained
from striate.models.trusted_code import is_named, take_as
from striate.runs.checkpoint import load_checkpoint, without_checkpoint
from striate.runs.directory import RunDirectory, RunPath, open_run, path_of_run
from striate.runs.files import write_text
from striate.runs.lock import owner
from striate.runs.plain_files import is_there, typed
from striate.tasks.config import ByClass
from striate.tasks.registry import saved_predictions
from striate.tasks.task import Task
from striate.training.code_fields import how_to_resume, refuse_changed_network
from striate.training.config_file import config_from_yaml, read_yaml
from striate.training.execution import measured_at_once, named_device
from striate.training.measured import WITHOUT_LABELS
from striate.training.prepare import read_data
from striate.training.rewards.player import learned_from_rewards, player_refused
from striate.training.trained import Trained, trained_from_dict


@known_keywords
@usual_torch()
def load(
    path: RunPath,
    *,
    module: nn.Module | Callable[..., nn.Module] | None = None,
    task: str | type | Task | None = None,
    loss: str | Callable[[Any, Any], torch.Tensor] | None = None,
    device: str | torch.device = "cpu",
    calibrated: bool = False,
    cost: ByClass = None,
    threshold: ByClass = None,
    reject: float | None = None,
) -> Trained:
    """Load the trained network of a run directory (its best epoch), of one checkpoint file, or of a file or folder that
    `striate export` wrote. An exported file predicts with its runtime; the folder of a hub has the network itself.

    Nothing of the file is executed, except the program that a .pt2 is. A run of `file.py:function` runs that function
    again, if you have named it yourself before and the file is the same. A run of a network made in Python needs one of
    the same form as `module`, except in the process that trained it; a `task` or `loss` that was given in Python is
    needed likewise (predicting needs no loss).
    `calibrated`: logits are divided by the temperature that was fitted on validation (evaluation.json). That changes
    probabilities, but without costs or thresholds no predicted class. `cost={"ill": 10}`: the predicted class is the
    one with the largest cost × probability. `threshold={"ill": 0.2}`: `ill` where its probability is at least that,
    else the most probable other class; None takes the threshold with the best F1 on the run's validation split. Both
    may be text, `"ill=10,doubtful=3"`, and replace the rule that the run was trained with.
    `reject`: a promised error rate; samples for which no single class can be predicted at this rate get none (`label`
    None, with a `reason`). The sets of classes behind this are calibrated on the run's validation split, and contain
    the true class of samples like those with a probability of 1 − `reject` or more.
    No random state is changed. Raises RunError, also where there is no temperature; ConfigError for a `device` that is
    not on this machine; ModelError for code that you have not named, or that has changed; UsageError for an unknown
    class, and for a rate that validation has too few samples for.
    """
    path, place = path_of_run(path), named_device(device, "device", 'device="cpu"')
    if is_exported(path):
        if module is not None and not isinstance(module, nn.Module):
            raise UsageError("module", "a class or function", "an nn.Module", "module=MyNetwork()")
        with same_random_state():
            loaded = load_exported(path, place, module)
        loaded = with_temperature_of(open_run(path), loaded) if calibrated else loaded
        return with_rejection_of(path, with_rule_of(path, loaded, cost, threshold), reject)
    file = typed(path) if is_there(path) and not path.is_dir() else open_run(path).best
    if not is_there(file):
        raise without_checkpoint(open_run(path), file)
    with same_random_state():  # a network is initialized before it gets the weights of the file
        saved = load_checkpoint(file, place)
        if learned_from_rewards(saved):
            raise player_refused(path)
        if isinstance(state := saved.get("task"), dict):  # else it is refused below
            take_as(str(state.get("name")), task, "task")
            take_as(str(state.get("own_loss")), loss, "loss")
        network = saved.get("network")
        name = network.get("name") if isinstance(network, dict) else None
        made = module_of_run(name, module)
        if made is None and name is None:
            made = _trained_here(file)
        if made is None and isinstance(name, str) and names_file(name) and is_named(name):
            refuse_changed_network(path, name)
        trained = replace(trained_from_dict(saved, str(file), place, made), run=path)
        note_trained(trained.module, path)
    trained = with_temperature_of(open_run(path), trained) if calibrated else trained
    return with_rejection_of(path, with_rule_of(path, trained, cost, threshold), reject)


_MODULES = 8
_modules: dict[Path, nn.Module] = {}
"""The networks of this process's latest runs that cannot be built from a name, by folder."""


def remember_module(run: Path, module: nn.Module) -> None:
    """Remember the network of a run that cannot be built from a name, for `load` in this process."""
    _modules.pop(run.resolve(), None)
    _modules[run.resolve()] = module
    while len(_modules) > _MODULES:
        del _modules[next(iter(_modules))]


def _trained_here(file: Path) -> nn.Module | None:
    """A copy of the network of the checkpoint `file`, if this process trained it and it can be copied; else None."""
    with suppress(StriateError):
        found = _modules.get(open_run(file).path.resolve())
        return None if found is None else copied(found)
    return None


def with_rejection_of(path: Path, trained: Trained, rate: float | None) -> Trained:
    """The network of the run or checkpoint at `path`, rejecting samples by the error `rate`; unchanged for None. Raises
    UsageError."""
    if rate is None:
        return trained
    if not 0 < rate < 1:
        raise UsageError("reject", f"{rate:g}", "an error rate between 0 and 1", "--reject 0.05")
    return replace(trained, task=trained.task.rejecting(rate, partial(_validation, path, trained)))


def with_rule_of(path: Path, trained: Trained, cost: ByClass, threshold: ByClass) -> Trained:
    """The network of the run or checkpoint at `path`, choosing classes by costs and thresholds; unchanged without any.
    Raises UsageError."""
    if cost is None and threshold is None:
        return trained
    return replace(trained, task=trained.task.deciding(cost, threshold, partial(_validation, path, trained)))


def _validation(path: Path, trained: Trained) -> tuple[NDArray[Any], NDArray[Any]]:
    """The predictions for the validation split without calibration, and its targets: those that the run saved, unless
    they are of another checkpoint or with other test-time augmentation."""
    run = open_run(path)
    config = config_from_yaml(run.config)
    if not path.is_file() and trained.views == (config.evaluation.views or "none"):
        saved = saved_predictions(run, "val")
        if saved is not None:
            return saved.predictions, saved.targets
    raw = trained
    with suppress(UsageError):  # of a task without a temperature
        raw = replace(trained, task=trained.task.calibrated(1.0))
    found = evaluate_trained(raw, read_data(config, run=run)[1], "val", batch=measured_at_once(config))
    return found.decoded, found.targets


def with_temperature_of(run: RunDirectory, trained: Trained) -> Trained:
    """The network of `run` with calibrated probabilities. Raises UsageError for a task without probabilities, RunError
    for a run without a temperature."""
    task = trained.task.calibrated(1.0)
    temperature = read_temperature(run)
    if temperature is None and (remedy := how_to_finish(run)) is not None:
        got = "no temperature: the run is not finished, and the temperature is fitted at its end"
        raise RunError(str(run.path), got, "a finished run", f"{remedy}; or leave out --calibrated")
    if temperature is None:
        there = is_there(run.evaluation)
        written = "" if there else f"striate eval {pasted(run.path)} writes the file, which is missing; or "
        raise RunError(
            str(run.evaluation),
            "no temperature",
            "a classification with right and wrong predictions in validation, and its evaluation.json",
            f"{written}leave out --calibrated",
        )
    return replace(trained, task=task.calibrated(temperature.value))


def note_without_labels(path: Path) -> str:
    """A note on the predictions of the run or checkpoint at `path` if it was trained without labels; else empty."""
    with suppress(RunError, ConfigError):  # a file without its run has no configuration
        file = open_run(path).config
        # To check all fields takes as long as to predict some pictures.
        auxiliary = read_yaml(file).get("auxiliary")
        config = None if isinstance(auxiliary, dict) and auxiliary.get("task", 1) else config_from_yaml(file)
        if config is not None and not config.auxiliary.task:
            begin = f"striate train {pasted(config.data.source)} --weights {pasted(path)}"
            return f"{WITHOUT_LABELS}; to train a network from these weights with labels: {begin}"
    return ""


def how_to_finish(run: RunDirectory) -> str | None:
    """A command or advice that finishes the run; None where it is finished."""
    if is_there(run.metrics_json):
        return None
    if (process := owner(run.path)) is not None:
        return f"wait until {process} has trained it"
    return how_to_resume(run.path, config_from_yaml(run.config))


@known_keywords
def build(
    model: Model,
    input_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    *,
    dense: bool | None = None,
) -> nn.Module:
    """Build the network that `model` names or makes, for inputs of `input_shape` without batch (C, *spatial) or (F,).

    By default a zoo network has its published input shape and classes. `dense`: one output a pixel, as masks need;
    None: as the network was designed. Weights are drawn from torch's random state; those of a run are its own, together
    with the head of its task. Raises ModelError.
    """
    trained = _with_head(model, classes)
    network: nn.Module = (
        build_model(model, input_shape, classes, dense=dense) if trained is None else trained.module.train()
    )
    if trained is not None and input_shape is not None:
        observe(network, input_shape)  # refuses a shape that it does not take
    return network


@dataclass(frozen=True)
class Summary:
    """The summary of a network."""

    ledger: Ledger
    """The ledger."""
    field: EffectiveField | None = None
    """The measured effective receptive field; None unless it was requested."""
    comparison: LedgerComparison | None = None
    """The comparison with a second network; None unless it was requested."""

    def to_json(self) -> dict[str, Any]:
        """The ledger's object; with a comparison also `against`, `ratios` and `layers`."""
        return (self.comparison or self.ledger).to_json()


@known_keywords
def summarize(
    model: Model, input_shape: Inputs | None = None, *, outputs: int | None = None, effective: bool = False
) -> Ledger:
    """The cost and the receptive fields of a network, layer by layer, for one input, in eval mode.

    `model`: a zoo name, a layer string, `path/to/file.py:function` (which RUNS that code), a run (with the head of its
    task), a module, which is not changed, or a class or function that makes one. `input_shape`: (C, *spatial), or (F,)
    of a table, without the batch; None takes the published one, or the run's. For a network of several inputs, it is a
    tuple or mapping of shapes, or of example tensors with the batch, whose data types are then used; receptive fields
    are in the first input. `outputs`: the number of outputs that the network gets; None takes the published number, or
    the run's. `effective`: measure the effective receptive field as well, by gradients of the real network.

    The forward pass runs with shapes only, without memory for numbers; if the network reads values, it runs on real
    zeros. Hooks registered on the network run too, as they may change what it computes; a hook that stores tensors then
    stores tensors without values.

    Receptive fields are theoretical: everything that a number can depend on, also through normalization and attention,
    and not clipped at the border. Raises ModelError where there is no such network or it does not take the input;
    NoInputShape where `input_shape` is None and the network has no shape of its own.
    """
    return _account(model, input_shape, outputs, effective=effective)[0]


def summary(
    model: Model,
    input_shape: Shape | None = None,
    *,
    outputs: int | None = None,
    against: Model | None = None,
    effective: bool = False,
) -> Summary:
    """Summarize `model`, and compare it with `against`.

    Without a shape each network gets its published one; a second network that has none gets that of the first.
    `effective`: also measure effective receptive fields, by some passes with real weights. Raises StriateError.
    """
    ledger, field = _account(model, input_shape, outputs, effective=effective)
    if against is None:
        return Summary(ledger, field)
    try:
        other, _ = _account(against, input_shape, outputs, effective=effective)
    except NoInputShape:
        other, _ = _account(against, ledger.input, outputs, effective=effective)
    return Summary(ledger, field, compare_ledgers(ledger, other))


def _account(
    model: Model, shape: Inputs | None, outputs: int | None, *, effective: bool
) -> tuple[Ledger, EffectiveField | None]:
    """The ledger of a network, and its effective receptive field if requested."""
    require_layers(model)
    trained = _with_head(model, outputs)
    if trained is None:
        return summarize_and_measure(model, shape, outputs=outputs, effective=effective)
    shape = trained.preparation.input_shape if shape is None else shape
    ledger, field = summarize_and_measure(trained.module, shape, effective=effective)
    return replace(ledger, model=str(model)), field


def _with_head(model: Model, outputs: int | None) -> Trained | None:
    """The trained network of a run whose task has attached a head to it; None for every other model.

    Raises ModelError where a number of outputs is requested, which the head decides."""
    if not isinstance(model, str | Path) or not names_run(str(model)):
        return None
    try:
        trained = load(model)
    except StriateError:  # an incomplete run means the network that its configuration names
        return None
    own = trained.task.built_outputs is None  # outputs are images, whose number says nothing
    if not own and trained.task.bare(trained.module) is trained.module:
        return None
    if outputs is not None:
        got = f"{outputs} outputs for a run of the task {trained.task.name}, which decides them"
        raise ModelError(str(model), got, "no number of outputs", "leave out the number of outputs")
    return trained


def write_summary(summary: Summary, *, html: Path | None = None, svg: Path | None = None) -> None:
    """Write the page and the diagram. Raises RunError where a file cannot be written."""
    # Templates and drawing load only where they are needed.
    if html is not None:
        from striate.report.summary import summary_page

        write_text(html, summary_page(summary.ledger, summary.field, summary.comparison))
    if svg is not None:
        from striate.visualize.network_diagram import network_diagram

        write_text(svg, network_diagram(summary.ledger, summary.field))
