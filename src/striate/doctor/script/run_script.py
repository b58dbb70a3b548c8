"""Runs a user's script, diagnoses what it trains at its first step, and lets it go on where nothing is found."""

from __future__ import annotations

import ast
import gc
import os
import re
import runpy
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from striate.doctor.causes import sort_out
from striate.doctor.checks.own_run import findings_of
from striate.doctor.diagnose import diagnose_setup, examine_code, examine_rewards
from striate.doctor.diagnosis import Diagnosis
from striate.doctor.evidence.own_run import Enough, OwnRun, Watcher
from striate.doctor.evidence.reading import read_batches
from striate.doctor.script.drawn_batches import weights_alone
from striate.doctor.script.functional_weights import holding, weights_beside
from striate.doctor.script.going_on import end_script, going_on, logs_elsewhere
from striate.doctor.script.library_loop import NoStep, find_library_loop
from striate.doctor.script.loop_syntax import syntax_of
from striate.doctor.script.training_loop import (
    TrainingLoop,
    called_from,
    find_loop,
    loop_around,
    passes_over,
    user_frames,
)
from striate.doctor.script.validation_data import find_validation
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.loaded_weights import LoadedWeights, watched_loads
from striate.doctor.setup.preserved_state import outside_autocast
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
from striate.errors import ModelError, StriateError, UsageError, one_line
from striate.models.preserved_state import same_random_state
from striate.observe.module_calls import forward_hooks_everywhere
from striate.tasks.every import TASKS
from striate.tasks.registry import task_class
from striate.wording import ordinal, several, show_shape

_PATIENCE = 64
"""Backward passes without any step of an optimizer: then that is what is diagnosed."""
_MOST_FILES = 100
_LEAST = 0.5  # seconds
_GOES_ON, _PLAYS_ON, _AT_MOST = 0.25, 0.5, 1.1
"""Of the budget: so long a script goes on after its diagnosis, one that plays an environment, and so long both take."""


@dataclass
class ScriptDiagnosis:
    """What a script trains, in words, and its diagnosis. `elsewhere`: file and line of other loops that train,
    which were not looked at."""

    subject: str
    diagnosis: Diagnosis
    elsewhere: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as a JSON object, with the subject and the trainings that were not looked at."""
        return {"subject": self.subject, "elsewhere": list(self.elsewhere)} | self.diagnosis.to_json()


def diagnose_script(
    path: Path, arguments: Sequence[str] = (), *, seconds: float = 30.0, training: int = 1
) -> ScriptDiagnosis:
    """Run `path` as `python path ARGUMENTS` does until its first optimizer step, and diagnose what it trains. Where
    nothing is found, it goes on for a while, and what it does then is looked at; then it is ended.

    Of a script that trains in several loops, one after the other, `training` numbers the one that is looked at, from 1:
    those before it are gone through as the script does, which takes their time and writes their files. Only for a
    process of its own: the script is ended in the middle. What it prints goes to standard error. Raises UsageError
    where it fails before, never trains, or its training loop is not in code of the user's.
    """
    if not path.is_file():
        raise UsageError("script", str(path), "a file of Python", "striate doctor train.py -- --epochs 1")
    catch = _Catch(seconds, training)
    argv, places = sys.argv, list(sys.path)
    sys.argv, sys.path[:0] = [str(path), *arguments], [str(path.parent.resolve())]
    raised: BaseException | None = None
    written_by_user.cache_clear()  # of `__main__`, which is the script now
    try:
        with catch.watching(), redirect_stdout(sys.stderr), catch.after:
            runpy.run_path(str(path.resolve()), run_name="__main__")
            if catch.own_run is not None:
                catch.own_run.run.ended = True
    except Enough:
        pass
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raised = error
        if isinstance(error, Exception) and not catch.over:
            catch.found = _of_failure(catch, path, error)
    finally:
        sys.argv, sys.path[:] = argv, places
        if catch.stop is not None:
            catch.stop.remove()
        written_by_user.cache_clear()
    if catch.failed is not None:
        raise catch.failed
    if catch.found is None:
        raise _nothing_caught(path, catch, raised)
    if catch.own_run is None:
        return catch.found
    return _with_own_run(catch.found, catch.own_run.run, of_rewards=catch.plays)


def _with_own_run(found: ScriptDiagnosis, run: OwnRun, *, of_rewards: bool) -> ScriptDiagnosis:
    """A diagnosis with what the script has shown that went on."""
    before = found.diagnosis
    findings, follows = sort_out((*findings_of(run, of_rewards=of_rewards), *before.findings))
    diagnosis = replace(
        before,
        findings=findings,
        follows=dict(before.follows) | follows,
        skipped=dict(before.skipped) | run.failed,
        seconds=before.seconds + run.seconds,
    )
    further = f"{several(run.steps - 1, 'step')} further{', to its end' if run.ended else ''}"
    return replace(found, subject=f"{found.subject}, and {further}", diagnosis=diagnosis)


def _of_failure(catch: _Catch, path: Path, error: Exception) -> ScriptDiagnosis | None:
    """What is found of a training whose first step fails, by its loop and its data; None where nothing explains it."""
    own, main, last = types.ModuleType("__main__"), sys.modules["__main__"], error.__traceback__
    own.__file__, frames = str(path), list[types.FrameType]()
    sys.modules["__main__"] = own  # which runpy has taken away
    written_by_user.cache_clear()
    try:
        while last is not None:
            file = last.tb_frame.f_code.co_filename
            if written_by_user(last.tb_frame.f_globals.get("__name__")) and Path(file).is_file():
                frames.insert(0, last.tb_frame)
            last = last.tb_next
        if not frames or catch.training > 1 or find_loop(frames) is None:
            return None
        own.__dict__.update(frames[-1].f_globals)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            found = _diagnosed(catch, frames, None)
    except Exception:  # what failed once may fail anywhere
        return None
    finally:
        sys.modules["__main__"] = main
    errors = [one.code for one in found.diagnosis.findings if one.severity == "error"]
    return found if errors and errors[0] != "optim.no-step" else None  # that only repeats what was raised


def _nothing_caught(path: Path, catch: _Catch, raised: BaseException | None) -> UsageError:
    seen = f"{several(catch.backwards, 'backward pass', 'backward passes')} and no step of an optimizer"
    if catch.loops and raised is None:
        number = len(catch.loops)
        got, wanted = f"{path} trains in {several(number, 'loop')}", f"at least {several(catch.training, 'loop')}"
        return UsageError("--training", got, wanted, f"striate doctor {path} --training {number}")
    for loader in [found for found in gc.get_objects() if type(found) is DataLoader]:
        with suppress(TypeError, NotImplementedError):
            if not len(loader):
                got = f"no batch of {several(len(cast(Any, loader.dataset)), 'sample')}: batches of {loader.batch_size}"
                got += (
                    ", and drop_last leaves the only one out"
                    if loader.drop_last and len(cast(Any, loader.dataset))
                    else ""
                )
                remedy = "`drop_last=False`, or a `batch_size` below the number of samples"
                return UsageError("training loader", got, "at least one batch", remedy)
    ended = raised is None or (isinstance(raised, SystemExit) and raised.code in (None, 0))
    if ended:
        remedy = f"let it train with what stands after --: striate doctor {path} -- --epochs 1"
        return UsageError("script", f"{path} ends after {seen}", "a script that trains", remedy)
    if isinstance(raised, SystemExit):
        remedy = f"what it wants, after --: striate doctor {path} -- ARGS"
        return UsageError("script", f"{path} ends with {raised.code!r}, after {seen}", "a script that trains", remedy)
    assert raised is not None
    line = "" if isinstance(raised, SyntaxError) else _line_of(path, raised)  # which names its own line
    got = f"{path} raises {type(raised).__name__}{line}: {one_line(str(raised))[:300]}, after {seen}"
    return UsageError(
        "script", got, "a script that runs until its first step", f"python {path}, and fix what it raises"
    )


def _line_of(path: Path, raised: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if Path(frame.filename).suffix == ".py"]
    own = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()] or frames
    return f" at line {own[-1].lineno} (`{own[-1].line}`)" if own else ""


def _tries_rates() -> bool:
    """Whether the script tries rates from small to large ones before it trains: such steps are undone."""
    return any(RATE_TEST.search(frame.f_code.co_name) for frame in user_frames())


RATE_TEST = re.compile(r"(^|_)(lr|rates?)_?(find|range|test|sweep)|find_(best_|good_)?(lr|rate|learning)|^range_test$")


@dataclass
class _Catch:
    """What is seen of a script from outside. `backwards`: how many backward passes. `modules`: the outermost ones that
    ran, with their buffers before. `depth`: how many modules are running. `over`: whether enough was seen.
    `stop`: what ends each further step. `loops`: those in which steps were made, until it is number `training`.
    `loads`: weights that were read into networks. `plays`: whether it plays an environment. `own_run`: who watches a
    script that goes on, until `after` is closed."""

    seconds: float
    training: int = 1
    loops: list[object] = field(default_factory=list)
    backwards: int = 0
    modules: dict[int, tuple[nn.Module, dict[str, torch.Tensor]]] = field(default_factory=dict)
    depth: int = 0
    found: ScriptDiagnosis | None = None
    failed: StriateError | None = None
    over: bool = False
    stop: Any = None
    loads: dict[int, LoadedWeights] = field(default_factory=dict)
    plays: bool = False
    own_run: Watcher | None = None
    after: ExitStack = field(default_factory=ExitStack)

    def watching(self) -> ExitStack:
        """While it is entered, the script's training is watched."""
        stack = ExitStack()
        stack.enter_context(forward_hooks_everywhere(self._enter, self._leave))
        stack.enter_context(watched_loads(self.loads))
        self._unhook = stack.pop_all()
        stack.push(self._unhook)
        stack.callback(register_optimizer_step_pre_hook(self._stepping).remove)
        original_backward = torch.autograd.backward

        def backward(*args: Any, **kwargs: Any) -> None:
            if self.own_run is not None:
                self.own_run.backward_begins()
            original_backward(*args, **kwargs)
            if self.own_run is not None:
                self.own_run.backward(args[0] if args else kwargs.get("tensors"))
            if self.over:
                return
            self.backwards += not _tries_rates()
            if self.backwards == _PATIENCE and self.training == 1:
                self._diagnose(None)

        def put_back() -> None:
            torch.autograd.backward = original_backward

        torch.autograd.backward = backward
        stack.callback(put_back)
        return stack

    def _enter(self, module: nn.Module, _: Any) -> None:
        if not self.depth and id(module) not in self.modules:
            buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
            self.modules[id(module)] = module, buffers
        self.depth += 1

    def _leave(self, _: nn.Module, __: Any, ___: Any) -> None:
        self.depth = max(0, self.depth - 1)

    def _stepping(self, optimizer: Optimizer, _: Any, __: Any) -> None:
        if self.over:
            if self.own_run is not None:
                self.own_run.stepping(optimizer)
            return
        if _tries_rates():
            return
        if self.training > 1:
            place = called_from(user_frames())
            if place not in self.loops:
                self.loops.append(place)
            if len(self.loops) < self.training:
                self.modules.clear()  # what runs from here on may be of the next training
                return
        self._diagnose(optimizer)

    def _diagnose(self, optimizer: Optimizer | None) -> None:
        self.over = True
        frames = user_frames()
        self._unhook.close()
        networks = [module for module, _ in self.modules.values()]
        try:
            # Of the many steps that are tried, the script's own lines are not shown.
            with (
                Path(os.devnull).open("w") as nowhere,
                redirect_stderr(nowhere),
                _as_it_was(networks, optimizer),
                outside_autocast(),
            ):
                self.found = _diagnosed(self, frames, optimizer)
        except StriateError as error:
            self.failed = error
        except Exception as error:  # a fault of the diagnosis is none of the script
            self.failed = ModelError(
                "the diagnosis",
                f"{type(error).__name__}: {one_line(str(error))[:300]}",
                "a setup that can be examined",
                "striate.diagnose(model, loader, val_loader, loss=loss, optimizer=optimizer, step=step) in Python",
            )
        seconds = 0.0 if optimizer is None or self.found is None else self._goes_on(self.found)
        if optimizer is not None and seconds > 0:
            named = {id(value): name for name, value in _names(frames).items() if isinstance(value, nn.Module)}
            self.own_run = self.after.enter_context(going_on(seconds, networks, named))
            self.own_run.run.loaded = bool(self.loads)
            self.own_run.stepping(optimizer)
            return
        # A script that catches everything goes on: no step of its own is made any more.
        self.stop = register_optimizer_step_pre_hook(end_script)
        raise Enough

    def _goes_on(self, found: ScriptDiagnosis) -> float:
        """For how many seconds the script goes on: 0 where something was found so far, where it sends away what it
        measures, or next to no time is left."""
        if found.diagnosis.verdict == "unhealthy" or logs_elsewhere():
            return 0.0
        seconds = (_PLAYS_ON if self.plays else _GOES_ON) * self.seconds
        left = _AT_MOST * self.seconds - found.diagnosis.seconds
        return min(seconds, left) if left > _LEAST else 0.0


@contextmanager
def _as_it_was(networks: Sequence[nn.Module], optimizer: Optimizer | None) -> Iterator[None]:
    """Puts the gradients of the step that is under way back, and what the passes before it left in buffers, and the
    random state."""
    held = [] if optimizer is None else [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [(p, p.grad) for p in (*held, *(p for module in networks for p in module.parameters()))]
    buffers = [(buffer, buffer.detach().clone()) for module in networks for buffer in module.buffers()]
    try:
        with same_random_state(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for buffer, value in buffers:
            buffer.data.copy_(value)  # without a trace: a graph that awaits backward may have it


def _diagnosed(catch: _Catch, frames: list[Any], optimizer: Optimizer | None) -> ScriptDiagnosis:
    played = _playing(catch, frames)
    if played is not None:
        catch.plays = True
        return played
    try:
        loop, val = find_library_loop() or (find_loop(frames), None)
    except NoStep as reason:
        return _by_code(catch, frames, optimizer, str(reason))
    if loop is None:
        return _by_code(catch, frames, optimizer)
    if optimizer is None:
        optimizer = next((v for v in loop.names.values() if isinstance(v, Optimizer)), None)
    model = loop.model or _of_weights(loop.names) or _model(catch, loop.names, optimizer)
    parameters = list(model.parameters())
    if parameters and all(parameter.is_meta for parameter in parameters):
        why = "the network is on the device `meta`, without numbers, and what is trained in its place is in no variable"
        return _by_code(catch, frames, optimizer, why)
    if optimizer is None:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for module, buffers in catch.modules.values():
        for name, buffer in module.named_buffers():
            if name in buffers:
                buffer.data.copy_(buffers[name])
    ungiven = _without_optimizer(catch, loop.names, model)
    weights = weights_beside(model, optimizer, loop.names)
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
        loop.batches,
        val,
        loss=loss,
        optimizer=optimizer,
        step=loop.step,
        task=_task(first),
        source=_source(loop, frames, tuple(catch.loads.values()), ungiven),
    )
    with holding(model, weights):
        diagnosis = diagnose_setup(replace(setup, rivals=_rivals(loop, setup.source)), catch.seconds)
    group = optimizer.param_groups[0]
    others = tuple(setup.source.other_trainings()) if setup.source is not None else ()
    shape = "" if inputs is None else f", batches of {len(inputs)} × {show_shape(tuple(inputs.shape[1:]))}"
    nth = "its first optimizer step" if catch.training == 1 else f"the first step of its {ordinal(catch.training)} loop"
    subject = (
        f"{type(model).__name__} in the loop at {loop.where}{shape}, {type(optimizer).__name__} at lr {group['lr']:g}"
        f"{', validation data found' if val is not None else ', no validation data found'}; run as it is until {nth}"
    )
    return ScriptDiagnosis(subject, diagnosis, others)


def _playing(catch: _Catch, frames: list[Any]) -> ScriptDiagnosis | None:
    """Of a script that plays an environment, or learns values of what follows, what its code and its replay buffer say:
    a copy of its step would play on in the environment of the script itself. None for other scripts."""
    names, place = _names(frames), loop_around(frames)
    if place is None:
        return None
    plays = any(is_environment(value) for value in reached_values(names))
    ungiven = _without_optimizer(catch, names) if plays else ()
    source = ScriptSource(_trees(frames), names, place, None, _running(frames, place), without_optimizer=ungiven)
    if not plays and not learns_values(source):
        return None
    where = f"{Path(place[0]).name}, line {place[1]}"
    does = "plays an environment" if plays else "learns values of what follows"
    subject = f"the loop at {where}, which {does}; run as it is until its first optimizer step"
    return ScriptDiagnosis(subject, examine_rewards(source))


def _by_code(
    catch: _Catch,
    frames: list[Any],
    optimizer: Optimizer | None,
    why: str = "where the loop takes its batches from is not found; a loop such as `for x, y in loader:` is examined "
    "by steps",
) -> ScriptDiagnosis:
    """Of a loop whose batches are not found, what its code says. Raises UsageError where none of it is the user's."""
    if not frames:
        raise UsageError(
            "script",
            "the loop that trains is in no code of the script's",
            "a loop such as `for x, y in loader:`",
            "striate.diagnose(model, loader, val_loader, loss=loss, optimizer=optimizer, step=step) in Python",
        )
    names = _names(frames)
    place = loop_around(frames) or (frames[0].f_code.co_filename, frames[0].f_lineno, frames[0].f_lineno)
    model: nn.Module = nn.Identity()
    with suppress(UsageError):  # of networks that are no modules only the code is there
        model = _model(catch, names, optimizer)
    source = ScriptSource(_trees(frames), names, place, None, loads=tuple(catch.loads.values()))
    where = f"{Path(place[0]).name}, line {place[1]}"
    subject = f"the training at {where}, of which only the code was read; run as it is until its first step"
    return ScriptDiagnosis(subject, examine_code(source, model, why), tuple(source.other_trainings()))


def _names(frames: list[Any]) -> dict[str, Any]:
    """The variables of the functions that are running, the innermost last."""
    names: dict[str, Any] = {}
    for frame in reversed(frames):
        names |= frame.f_globals | frame.f_locals
    return names


def _rivals(loop: TrainingLoop, source: ScriptSource | None) -> bool:
    """Whether several optimizers of different parameters step in the loop, each after a backward pass of its own; or of
    the same ones, of which one is meant for another network."""
    held = [parameters_held(found) for found in reached_optimizers(loop.names)]
    apart = any(not one & other or one == other for one, other in combinations(held, 2))
    return source is not None and apart and sum(s.often == "batch" for s in source.calls("backward")) > 1


def _without_optimizer(catch: _Catch, names: dict[str, Any], *examined: nn.Module) -> tuple[nn.Module, ...]:
    """Networks beside those that are examined that have gradients, all of whose parameters no optimizer holds."""
    taken = parameters_held(*reached_optimizers(names)) | {id(p) for model in examined for p in model.parameters()}
    return tuple(
        module
        for module, _ in catch.modules.values()
        if any(p.grad is not None for p in module.parameters()) and taken.isdisjoint(map(id, module.parameters()))
    )


def _source(
    loop: TrainingLoop,
    frames: list[Any],
    loads: tuple[LoadedWeights, ...],
    without_optimizer: tuple[nn.Module, ...] = (),
) -> ScriptSource | None:
    """The user's files, and the variables of the functions that are running; None where none of them runs."""
    if not frames:
        return None
    names = _names(frames)
    file, first, last = loop.place or (frames[0].f_code.co_filename, frames[0].f_lineno, frames[0].f_lineno)
    calling = frozenset((frame.f_code.co_filename, frame.f_lineno) for frame in frames)
    place, library = (file, first, last), loop.library
    epochs = passes_over(loop, frames) if library is None else library.epochs
    return ScriptSource(
        *(_trees(frames), names, place, epochs, _running(frames, place)),
        *(loads, calling, library, without_optimizer, loop.steps),
    )


def _running(frames: list[Any], place: tuple[str, int, int]) -> frozenset[tuple[str, int]]:
    """File and first line of the functions that the loop was in the middle of."""
    file, first, last = place
    running = set[tuple[str, int]]()
    for frame in frames:
        if frame.f_code.co_filename == file and first <= frame.f_lineno <= last:
            break
        running.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))
    return frozenset(running)


def _trees(frames: list[Any]) -> dict[str, ast.Module]:
    """The syntax of the user's files."""
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
    """Tensors that a script multiplies by itself, as parameters."""

    def __init__(self, found: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._parameters.update(found)  # type: ignore[arg-type]


def _of_weights(names: dict[str, Any]) -> nn.Module | None:
    """The weights of a script that has no module."""
    found = weights_alone(names)
    return Weights(found) if found else None


def _model(catch: _Catch, names: dict[str, Any], optimizer: Optimizer | None) -> nn.Module:
    """Of the outermost modules that ran the one with most of the optimizer's parameters; a module that holds them all,
    whose parts are called one by one, where the script has one."""
    held = set() if optimizer is None else parameters_held(optimizer)
    ran = [module for module, _ in catch.modules.values() if any(True for _ in module.parameters())]
    named = [value for value in reached_values(names) if isinstance(value, nn.Module)]
    within = {id(part) for value in named for part in value.modules()}
    ran = [module for module in ran if id(module) in within] or ran  # not that of a training before

    moved = {id(p) for module in (*ran, *named) for p in module.parameters() if p.grad is not None}
    if moved and not moved & held:  # none of what the optimizer holds has a gradient: what has one is meant
        held = moved

    def share(module: nn.Module) -> int:
        own = {id(p) for p in module.parameters()}
        return len(own & held) if held else len(own)

    best = max(ran, key=share, default=None)
    whole = max(named, key=share, default=None)
    # The optimizer may hold parameters of another network than the one that runs: that is a fault, and to be seen. It
    # is not another one that keeps what runs in a list.
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
    """The first task of such targets: numbers where they are fractions other than 0 and 1, and no shares of classes."""
    targets = main_tensor(parts(batch)[1])
    wanted, dense = "labels", targets is not None and targets.ndim == 3 and not targets.is_floating_point()
    if targets is not None and targets.is_floating_point():
        shares = targets.ndim == 2 and bool(((targets.sum(1) - 1).abs() < 1e-3).all())
        wanted = "labels" if shares or bool(((targets == 0) | (targets == 1)).all()) else "numbers"
    known = {name: task_class(name).diagnosed_as for name in TASKS}
    return next(
        name
        for name, found in known.items()
        if found is not None and found.targets == wanted and dense is (found.unlabeled is not None)
    )
