"""The diagnosis of the training at a caught optimizer step: by trial steps, or by its code alone."""

from __future__ import annotations

import ast
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from time import perf_counter
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.checks.model.graph_detached import GRAPH_DETACHED
from striate.doctor.diagnose import diagnose_setup, examine_code, examine_rewards
from striate.doctor.diagnosis import Diagnosis
from striate.doctor.evidence.rates import passes_of
from striate.doctor.evidence.read_batches import read_batches
from striate.doctor.script.functional_weights import replacing_weights, weights_replaced
from striate.doctor.script.library_loop import NoStep, find_library_loop
from striate.doctor.script.loop_syntax import syntax_of
from striate.doctor.script.network_calls import weights_alone
from striate.doctor.script.training_loop import TrainingLoop, find_loop, loop_around, passes_over
from striate.doctor.script.validation_data import find_validation
from striate.doctor.setup.batch import is_binary, main_tensor, parts
from striate.doctor.setup.loaded_weights import LoadedWeights
from striate.doctor.setup.reached_objects import (
    parameters_held,
    reached_objects,
    reached_optimizers,
    reached_values,
    written_by_user,
)
from striate.doctor.setup.reward_code import is_environment, learns_values
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.errors import UsageError
from striate.tasks.every import TASKS
from striate.tasks.registry import task_class
from striate.wording import ordinal, show_shape

_MOST_FILES = 100


@dataclass
class ScriptDiagnosis:
    """The diagnosis of a script."""

    subject: str
    """What the script trains, in words."""
    diagnosis: Diagnosis
    elsewhere: tuple[str, ...] = ()
    """File and line of other loops that train, which were not examined."""
    passes: float = 0.0
    """How many batches its loops take in all; 0 where unknown."""
    examined: frozenset[int] = frozenset()
    """Ids of the network's parameters, where `model.graph-detached` was checked."""
    trainings: int = 1
    """How many of its trainings were examined, one after another."""

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as a JSON object, with the subject and the trainings that were not examined."""
        return {"subject": self.subject, "elsewhere": list(self.elsewhere)} | self.diagnosis.to_json()


@dataclass
class Caught:
    """What was recorded of a script until one of its optimizer steps."""

    seconds: float
    """Time limit of the diagnosis."""
    training: int = 1
    """Number of the training loop to diagnose, from 1."""
    modules: dict[int, tuple[nn.Module, dict[str, torch.Tensor]]] = field(default_factory=dict)
    """By id, the outermost modules that ran, each with its buffers before its first call."""
    loads: dict[int, LoadedWeights] = field(default_factory=dict)
    """By id of a network, weights that were loaded into it with `strict=False`."""
    trained: WeakValueDictionary[int, torch.Tensor] = field(default_factory=WeakValueDictionary)
    """By id, the parameters that the optimizers of earlier trainings stepped with."""
    plays: bool = False
    """Whether the script plays an environment, or learns values of later states."""


def examine_step(caught: Caught, frames: list[Any], optimizer: Optimizer | None) -> ScriptDiagnosis:
    """The diagnosis of the training in whose step `frames`, the innermost first, are running.

    Raises UsageError where no frame is the user's, or no network is found.
    """
    by_rewards = _diagnose_rewards(caught, frames)
    if by_rewards is not None:
        caught.plays = True
        return by_rewards
    try:
        loop, val = find_library_loop() or (find_loop(frames), None)
    except NoStep as reason:
        return _by_code(caught, frames, optimizer, str(reason))
    if loop is None:
        return _by_code(caught, frames, optimizer)
    if optimizer is None:
        optimizer = next((v for v in loop.names.values() if isinstance(v, Optimizer)), None)
    model = loop.model or _of_weights(loop.names) or model_of(caught, loop.names, optimizer)
    parameters = list(model.parameters())
    if parameters and all(parameter.is_meta for parameter in parameters):
        why = (
            "the network is on the device `meta`, without values, and no variable holds the one that is "
            "trained in its place"
        )
        return _by_code(caught, frames, optimizer, why)
    by_hand = optimizer is None
    if optimizer is None:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for module, buffers in caught.modules.values():
        for name, buffer in module.named_buffers():
            if name in buffers:
                buffer.data.copy_(buffers[name])
    unoptimized = _without_optimizer(caught, loop.names, model)
    weights = replacing_weights(model, optimizer, loop.names)
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        parameter.grad = None
    for parameter in model.parameters():
        parameter.grad = None
    loss = loop.names.get(loop.loss)
    first = read_batches(cast(Any, loop.batches), perf_counter(), "train").raw[0]
    inputs, targets = (main_tensor(part) for part in parts(first))
    val = find_validation(loop, frames, inputs, targets) if val is None else val
    setup = make_setup(
        model,
        _each_a_batch(loop.batches),
        val,
        loss=loss,
        optimizer=optimizer,
        step=loop.step,
        task=_task(first),
        source=_source(loop, frames, tuple(caught.loads.values()), unoptimized),
    )
    with weights_replaced(model, weights):
        diagnosis = diagnose_setup(replace(setup, rivals=_rivals(loop, setup.source)), caught.seconds)
    group = optimizer.param_groups[0]
    others = tuple(setup.source.other_trainings()) if setup.source is not None else ()
    shape = "" if inputs is None else f", batches of {len(inputs)} × {show_shape(tuple(inputs.shape[1:]))}"
    nth = "some of its steps" if by_hand else "its first optimizer step"
    nth = nth if caught.training == 1 else f"the first step of its {ordinal(caught.training)} loop"
    held = "no optimizer" if by_hand else f"{type(optimizer).__name__} at lr {group['lr']:g}"
    subject = (
        f"{type(model).__name__} in the loop at {loop.where}{shape}, {held}"
        f"{', validation data found' if val is not None else ', no validation data found'}; run as it is until {nth}"
    )
    examined = frozenset(map(id, parameters if GRAPH_DETACHED.codes[0] in diagnosis.looked_at else ()))
    return ScriptDiagnosis(subject, diagnosis, others, passes_of(setup), examined)


def _each_a_batch(batches: Any) -> Any:
    """The batches of a loop over parts, `for x in data.split(100)`, so that they are not taken for inputs and
    targets; others as they are."""
    parted = isinstance(batches, tuple) and all(isinstance(part, torch.Tensor) for part in batches)
    return deque(batches) if parted else batches


def _diagnose_rewards(caught: Caught, frames: list[Any]) -> ScriptDiagnosis | None:
    """The diagnosis, by code and replay buffer, of a script that plays an environment, or learns values of later
    states; a copy of its step would act in the script's own environment. None for other scripts."""
    names, place = running_names(frames), loop_around(frames)
    if place is None:
        return None
    plays = any(is_environment(value) for value in reached_values(names))
    unoptimized = _without_optimizer(caught, names) if plays else ()
    source = ScriptSource(_trees(frames), names, place, None, _running(frames, place), without_optimizer=unoptimized)
    if not plays and not learns_values(source):
        return None
    where = f"{Path(place[0]).name}, line {place[1]}"
    does = "plays an environment" if plays else "learns values of later states"
    subject = f"the loop at {where}, which {does}; run as it is until its first optimizer step"
    return ScriptDiagnosis(subject, examine_rewards(source))


def _by_code(
    caught: Caught,
    frames: list[Any],
    optimizer: Optimizer | None,
    why: str = "the source of the loop's batches is not found; a loop such as `for x, y in loader:` is examined by "
    "running steps",
) -> ScriptDiagnosis:
    """The diagnosis by code, of a loop whose batches are not found. Raises UsageError where no code is the user's."""
    if not frames:
        raise UsageError(
            "script",
            "the training loop is not in the script's own code",
            "a loop such as `for x, y in loader:`",
            "striate.diagnose(model, loader, val_loader, loss=loss, optimizer=optimizer, step=step) in Python",
        )
    names = running_names(frames)
    place = loop_around(frames) or (frames[0].f_code.co_filename, frames[0].f_lineno, frames[0].f_lineno)
    model: nn.Module = nn.Identity()
    with suppress(UsageError):  # there may be no module
        model = model_of(caught, names, optimizer)
    source = ScriptSource(
        *(_trees(frames), names, place, None), loads=tuple(caught.loads.values()), calling=_calling(frames)
    )
    where = f"{Path(place[0]).name}, line {place[1]}"
    subject = f"the training at {where}, of which only the code was read; run as it is until its first step"
    return ScriptDiagnosis(subject, examine_code(source, model, why), tuple(source.other_trainings()))


def running_names(frames: list[Any]) -> dict[str, Any]:
    """The global and local variables of the running functions; those of inner functions take precedence."""
    names: dict[str, Any] = {}
    for frame in reversed(frames):
        names |= frame.f_globals | frame.f_locals
    return names


def _outermost_names(frames: list[Any]) -> dict[str, Any]:
    """The local variables of the running functions; those of outer functions take precedence."""
    names: dict[str, Any] = {}
    for frame in frames:
        names |= frame.f_locals
    return names


def _rivals(loop: TrainingLoop, source: ScriptSource | None) -> bool:
    """Whether the loop has several backward passes, and optimizers of different parameters, or by mistake of exactly
    the same."""
    held = [parameters_held(found) for found in reached_optimizers(loop.names)]
    apart = any(not one & other or one == other for one, other in combinations(held, 2))
    return source is not None and apart and sum(s.often == "batch" for s in source.calls("backward")) > 1


def _without_optimizer(caught: Caught, names: dict[str, Any], *examined: nn.Module) -> tuple[nn.Module, ...]:
    """Networks other than those examined that have gradients, and none of whose parameters an optimizer has, or had in
    an earlier training: its last gradients may still be there."""
    taken = parameters_held(*reached_optimizers(names)) | {id(p) for model in examined for p in model.parameters()}
    taken |= set(caught.trained)
    return tuple(
        module
        for module, _ in caught.modules.values()
        if any(p.grad is not None for p in module.parameters()) and taken.isdisjoint(map(id, module.parameters()))
    )


def _source(
    loop: TrainingLoop,
    frames: list[Any],
    loads: tuple[LoadedWeights, ...],
    without_optimizer: tuple[nn.Module, ...] = (),
) -> ScriptSource | None:
    """The user's files, and the variables of the running functions; None where no frame is the user's."""
    if not frames:
        return None
    names = running_names(frames)
    file, first, last = loop.place or (frames[0].f_code.co_filename, frames[0].f_lineno, frames[0].f_lineno)
    place, library = (file, first, last), loop.library
    epochs = passes_over(loop, frames) if library is None else library.epochs
    return ScriptSource(
        *(_trees(frames), names, place, epochs, _running(frames, place)),
        *(loads, _calling(frames), library, without_optimizer, loop.steps),
        outermost=_outermost_names(frames),
    )


def _calling(frames: list[Any]) -> frozenset[tuple[str, int]]:
    """File and line that each running function is at."""
    return frozenset((frame.f_code.co_filename, frame.f_lineno) for frame in frames)


def _running(frames: list[Any], place: tuple[str, int, int]) -> frozenset[tuple[str, int]]:
    """File and first line of the functions that were running inside the loop."""
    file, first, last = place
    running = set[tuple[str, int]]()
    for frame in frames:
        if frame.f_code.co_filename == file and first <= frame.f_lineno <= last:
            break
        running.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))
    return frozenset(running)


def _trees(frames: list[Any]) -> dict[str, ast.Module]:
    """The syntax trees of the user's files."""
    files = {frame.f_code.co_filename for frame in frames}
    modules = list(sys.modules.items())
    files |= {
        str(module.__file__) for name, module in modules if getattr(module, "__file__", None) and written_by_user(name)
    }
    trees = dict[str, ast.Module]()
    for file in sorted(file for file in files if file.endswith(".py"))[:_MOST_FILES]:
        with suppress(OSError, SyntaxError, ValueError):
            trees[file] = syntax_of(file)
    return trees


class Weights(nn.Module):
    """The weight tensors of a script without modules, as the parameters of a module."""

    def __init__(self, found: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._parameters.update(found)  # type: ignore[arg-type]


def _of_weights(names: dict[str, Any]) -> nn.Module | None:
    """The weights of a script without modules, as a module; None where there are none."""
    found = weights_alone(names)
    return Weights(found) if found else None


def model_of(caught: Caught, names: dict[str, Any], optimizer: Optimizer | None) -> nn.Module:
    """The network: of the outermost modules that ran, the one with most of the optimizer's parameters; or a module of
    the script that contains more of them, and whose submodules are called one by one. Raises UsageError where no module
    ran."""
    held = set() if optimizer is None else parameters_held(optimizer)
    ran = [module for module, _ in caught.modules.values() if any(True for _ in module.parameters())]
    named = [value for value in reached_values(names) if isinstance(value, nn.Module)]
    within = {id(part) for value in named for part in value.modules()}
    ran = [module for module in ran if id(module) in within] or ran  # not the network of an earlier training

    moved = {id(p) for module in (*ran, *named) for p in module.parameters() if p.grad is not None}
    if moved and not moved & held:  # the optimizer has other parameters than those with gradients
        held = moved

    def share(module: nn.Module) -> int:
        own = {id(p) for p in module.parameters()}
        return len(own & held) if held else len(own)

    best = max(ran, key=share, default=None)
    whole = max(named, key=share, default=None)
    # An optimizer with parameters of another network than the one that runs is a fault, which a check should find; but
    # a network that has the one that runs in a list contains it.
    if best is None or (
        whole is not None
        and share(whole) > share(best)
        and (share(best) > 0 or any(part is best for part in reached_objects([whole])))
    ):
        best = whole
    if best is None:
        raise UsageError(
            "script", "no module ran before the first step", "a network that is an nn.Module", "class Net(nn.Module)"
        )
    return best


def _task(batch: Any) -> str:
    """The first task with such targets: regression for floats other than 0 and 1 that are no class probabilities."""
    targets = main_tensor(parts(batch)[1])
    wanted, dense = "labels", targets is not None and targets.ndim == 3 and not targets.is_floating_point()
    if targets is not None and targets.is_floating_point():
        shares = targets.ndim == 2 and bool(((targets.sum(1) - 1).abs() < 1e-3).all())
        wanted = "labels" if shares or is_binary(targets) else "numbers"
    known = {name: task_class(name).diagnosed_as for name in TASKS}
    return next(
        name
        for name, found in known.items()
        if found is not None and found.targets == wanted and dense is (found.unlabeled is not None)
    )
