"""Runs a user's script, diagnoses its training at the first optimizer step, and lets it continue if nothing is
found."""

from __future__ import annotations

import functools
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
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from striate.doctor.causes import sort_out
from striate.doctor.checks.own_run import findings_of
from striate.doctor.diagnosis import Diagnosis
from striate.doctor.evidence.own_run import EndScript, OwnRun, Watcher
from striate.doctor.script.examined_step import Caught, ScriptDiagnosis, examine_step, running_names
from striate.doctor.script.going_on import end_script, going_on, logs_elsewhere
from striate.doctor.script.training_loop import called_from, find_loop, user_frames
from striate.doctor.setup.loaded_weights import watched_loads
from striate.doctor.setup.preserved_state import outside_autocast
from striate.doctor.setup.reached_objects import written_by_user
from striate.errors import ModelError, StriateError, UsageError, one_line, pasted
from striate.models.layer_strings.arguments import nearest
from striate.models.preserved_state import same_random_state
from striate.observe.module_calls import forward_hooks_everywhere
from striate.wording import several

_PATIENCE = 64
"""Backward passes without an optimizer step after which the training is diagnosed; also calls of
`torch.autograd.grad`, in a script without an optimizer."""
_LEAST = 0.5  # seconds
_GOES_ON, _PLAYS_ON, _AT_MOST = 0.25, 0.5, 1.1
"""Shares of the budget: how long a script continues after its diagnosis, how long if it plays an environment, and how
long diagnosis and continuation take together."""
_UNTIL_ANOTHER = 0.65
"""Share of the time left for which a script with further trainings continues until the next one; the rest is for
examining that."""


def diagnose_script(
    path: Path, arguments: Sequence[str] = (), *, seconds: float = 30.0, training: int = 1
) -> ScriptDiagnosis:
    """Run `path` as `python path ARGUMENTS` does until its first optimizer step, and diagnose what it trains. Where
    nothing is found, the script continues for a while under observation; then it is ended.

    `training`: the number of the training loop to diagnose, from 1, in a script with several. Earlier loops run to
    their ends, and write their files. Use a separate process, since the script is ended in the middle. Its output goes
    to standard error. Raises UsageError where the script fails before, never trains, or its training loop is not in
    the user's code.
    """
    if not path.is_file():
        raise _no_script(path)
    catch = _Catch(seconds, training)
    argv, places = sys.argv, list(sys.path)
    sys.argv, sys.path[:0] = [str(path), *arguments], [str(path.parent.resolve())]
    raised: BaseException | None = None
    written_by_user.cache_clear()  # `__main__` is the script now
    try:
        with catch.watching(), redirect_stdout(sys.stderr), catch.after:
            runpy.run_path(str(path.resolve()), run_name="__main__")
            if catch.own_run is not None:
                catch.own_run.run.ended = True
    except EndScript:
        pass
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raised = error
        if isinstance(error, Exception) and not catch.over:
            catch.found = _diagnose_failure(catch, path, error)
    finally:
        sys.argv, sys.path[:] = argv, places
        if catch.stop is not None:
            catch.stop.remove()
        written_by_user.cache_clear()
    if catch.failed is not None:
        raise catch.failed
    if catch.found is None:
        raise _nothing_caught(path, catch, raised)
    return catch.so_far(catch.found)


def _no_script(path: Path) -> UsageError:
    got = f"{path}, {'a folder' if path.is_dir() else 'which does not exist'}, seen from {Path.cwd()}"
    scripts = [one.name for one in path.parent.glob("*.py") if one.is_file()]
    close = nearest(path.name, scripts)
    remedy = f"striate doctor {pasted(path.with_name(close))}" if close else f"check the path: ls {pasted(path.parent)}"
    return UsageError("script", got, "a Python file that exists", remedy)


def _with_own_run(found: ScriptDiagnosis, run: OwnRun, *, of_rewards: bool) -> ScriptDiagnosis:
    """A diagnosis with the findings of the script's further steps."""
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


def _joined(first: ScriptDiagnosis | None, second: ScriptDiagnosis) -> ScriptDiagnosis:
    """The diagnosis of a training that trains well, with that of a later one, unless there was too little time for
    that. The verdict is the less favorable one."""
    if first is None:
        return second
    one, other = first.diagnosis, second.diagnosis
    if other.verdict == "unknown" and other.left_out:
        return replace(first, diagnosis=replace(one, seconds=one.seconds + other.seconds))
    findings, follows = sort_out((*other.findings, *one.findings))
    follows = dict(one.follows) | dict(other.follows) | dict(follows)
    worse = one if other.healthy else other
    diagnosis = replace(worse, findings=findings, follows=follows, seconds=one.seconds + other.seconds)
    return replace(
        second,
        subject=f"{first.subject}; then {second.subject}",
        diagnosis=diagnosis,
        elsewhere=tuple(place for place in first.elsewhere if place in second.elsewhere),
        trainings=first.trainings + 1,
    )


def _diagnose_failure(catch: _Catch, path: Path, error: Exception) -> ScriptDiagnosis | None:
    """The diagnosis of a training whose first step fails, by its loop and its data; None where it explains nothing."""
    own, main, last = types.ModuleType("__main__"), sys.modules["__main__"], error.__traceback__
    own.__file__, frames = str(path), list[types.FrameType]()
    sys.modules["__main__"] = own  # runpy removed the script's module
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
            found = examine_step(catch, frames, None)
    except Exception:  # the error of the script may recur anywhere
        return None
    finally:
        sys.modules["__main__"] = main
    errors = [one.code for one in found.diagnosis.findings if one.severity == "error"]
    return found if errors and errors[0] != "optim.no-step" else None  # which only repeats the error


def _nothing_caught(path: Path, catch: _Catch, raised: BaseException | None) -> UsageError:
    passes = several(catch.backwards + catch.gradients, "backward pass", "backward passes")
    seen = f"{passes} and no optimizer step"
    if catch.loops and raised is None:
        number = len(catch.loops)
        got, expected = f"{path} trains in {several(number, 'loop')}", f"at least {several(catch.training, 'loop')}"
        return UsageError("--training", got, expected, f"striate doctor {path} --training {number}")
    for loader in catch.empty if not catch.backwards else ():
        samples = len(cast(Any, loader.dataset))
        got = f"no batch of {several(samples, 'sample')}: batches of {loader.batch_size}"
        got += ", and drop_last drops the only one" if loader.drop_last and samples else ""
        remedy = "`drop_last=False`, or a `batch_size` of at most the number of samples"
        if not samples:
            remedy = "give the data set samples: it may read another folder, or a filter may drop all of them"
        return UsageError("training loader", got, "at least one batch", remedy)
    ended = raised is None or (isinstance(raised, SystemExit) and raised.code in (None, 0))
    if ended:
        remedy = f"have it call its training; or pass the arguments with which it trains: striate doctor {path} -- ARGS"
        return UsageError("script", f"{path} ends after {seen}", "a script that trains", remedy)
    if isinstance(raised, SystemExit):
        remedy = f"give it its arguments after --: striate doctor {path} -- ARGS"
        return UsageError("script", f"{path} ends with {raised.code!r}, after {seen}", "a script that trains", remedy)
    assert raised is not None
    line = "" if isinstance(raised, SyntaxError) else _line_of(path, raised)  # a SyntaxError names its line
    got = f"{path} raises {type(raised).__name__}{line}: {one_line(str(raised))[:300]}, after {seen}"
    return UsageError(
        "script", got, "a script that runs until its first step", f"python {path}, and fix what it raises"
    )


def _line_of(path: Path, raised: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if Path(frame.filename).suffix == ".py"]
    own = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()] or frames
    return f" at line {own[-1].lineno} (`{own[-1].line}`)" if own else ""


def _tries_rates() -> bool:
    """Whether a learning rate range test is running, whose steps the script undoes before it trains."""
    return any(RATE_TEST.search(frame.f_code.co_name) for frame in user_frames())


def _are_weights(inputs: Any) -> bool:
    """Whether gradients for these tensors are those of a training: for parameters, or for several tensors that have
    gradients of their own, as the weights of a script without modules."""
    given = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
    leaves = [one for one in given if isinstance(one, torch.Tensor) and one.is_leaf]
    return len(leaves) > 1 or any(isinstance(one, nn.Parameter) for one in leaves)


def _has_optimizer() -> bool:
    """Whether any optimizer exists, whose first step may be still to come."""
    return any(issubclass(type(found), Optimizer) for found in gc.get_objects())


RATE_TEST = re.compile(r"(^|_)(lr|rates?)_?(find|range|test|sweep)|find_(best_|good_)?(lr|rate|learning)|^range_test$")


@dataclass
class _Catch(Caught):
    """Watches a script by hooks and patched functions of torch."""

    loops: list[object] = field(default_factory=list)
    """Loops in which optimizer steps were made, until number `training` is reached; empty where that is the first."""
    empty: list[DataLoader[Any]] = field(default_factory=list[DataLoader[Any]])
    """Loaders without a batch that the script iterated over."""
    backwards: int = 0
    """Number of backward passes until the diagnosis."""
    gradients: int = 0
    """Number of calls of `torch.autograd.grad` for weights until the diagnosis."""
    depth: int = 0
    """Number of modules that are running."""
    found: ScriptDiagnosis | None = None
    """The diagnosis, once it is made."""
    failed: StriateError | None = None
    """The error of the diagnosis."""
    over: bool = False
    """Whether the diagnosis has begun."""
    stop: Any = None
    """The hook that ends the script at any further step."""
    own_run: Watcher | None = None
    """Watches the script while it continues."""
    known: set[tuple[tuple[str, int], ...]] = field(default_factory=set)
    """Lines of the running functions at the steps of the trainings that were examined."""
    earlier: ScriptDiagnosis | None = None
    """The diagnosis of the trainings before, while the script has come to the next one."""
    after: ExitStack = field(default_factory=ExitStack)
    """Closed when the script ends, or comes to its next training."""

    def __post_init__(self) -> None:
        self.budget = self.seconds

    def so_far(self, found: ScriptDiagnosis) -> ScriptDiagnosis:
        """The diagnosis, with what the script showed since."""
        return found if self.own_run is None else _with_own_run(found, self.own_run.run, of_rewards=self.plays)

    def watching(self) -> ExitStack:
        """A context in which the script's training is watched."""
        stack = ExitStack()
        stack.push(self._networks_watched())
        stack.callback(register_optimizer_step_pre_hook(self._stepping).remove)
        original_backward, original_grad = torch.autograd.backward, torch.autograd.grad

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

        @functools.wraps(original_grad)
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.autograd.grad is not grad:  # a trial step listens, and the script imported the function by name
                return torch.autograd.grad(outputs, inputs, *args, **kwargs)
            inputs = tuple(inputs) if isinstance(inputs, Iterator) else inputs  # `network.parameters()` is read once
            found = original_grad(outputs, inputs, *args, **kwargs)
            self.gradients += not self.over and _are_weights(inputs)
            if self.gradients == _PATIENCE and not self.over and self.training == 1 and not _has_optimizer():
                self._diagnose(None)
            return found

        iterate = DataLoader.__iter__

        def iterating(loader: DataLoader[Any]) -> Any:
            with suppress(TypeError, NotImplementedError):  # a stream has no length
                if not self.over and not len(loader):
                    self.empty.append(loader)
            return iterate(loader)

        def put_back() -> None:
            torch.autograd.backward, torch.autograd.grad = original_backward, original_grad
            DataLoader.__iter__ = iterate  # type: ignore[method-assign]

        torch.autograd.backward, torch.autograd.grad = backward, grad
        DataLoader.__iter__ = iterating  # type: ignore[method-assign]
        stack.callback(put_back)
        return stack

    def _networks_watched(self) -> ExitStack:
        """A context in which the networks that run are recorded, and the weights that are loaded into them."""
        with ExitStack() as stack:
            stack.enter_context(forward_hooks_everywhere(self._enter, self._leave))
            stack.enter_context(watched_loads(self.loads))
            self._unhook = stack.pop_all()
        return self._unhook

    def _enter(self, module: nn.Module, _: Any) -> None:
        if not self.depth and id(module) not in self.modules:
            buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
            self.modules[id(module)] = module, buffers
        self.depth += 1

    def _leave(self, _: nn.Module, __: Any, ___: Any) -> None:
        self.depth = max(0, self.depth - 1)

    def _stepping(self, optimizer: Optimizer, _: Any, __: Any) -> None:
        if self.over:
            if self.own_run is not None and self.found is not None:
                if self.found.elsewhere:
                    if self._is_at(self.found.elsewhere):
                        self._examine_next(self.found, optimizer)
                        return
                    self._goes_on_before_next(optimizer)
                self.own_run.stepping(optimizer)
            return
        if _tries_rates():
            return
        if self.training > 1:
            place = called_from(user_frames())
            if place not in self.loops:
                self.loops.append(place)
            if len(self.loops) < self.training:
                self._goes_on_before_next(optimizer)
                return
        self._diagnose(optimizer)

    def _goes_on_before_next(self, optimizer: Optimizer) -> None:
        """Called at a step of a training before the one that is to be examined."""
        self.modules.clear()  # the next modules may belong to the next training
        self.trained.update((id(p), p) for group in optimizer.param_groups for p in group["params"])

    def _is_at(self, elsewhere: Sequence[str]) -> bool:
        """Whether the step under way is of one of these trainings."""
        frames = user_frames()
        lines = tuple((frame.f_code.co_filename, frame.f_lineno) for frame in frames)
        if lines in self.known:
            return False
        self.known.add(lines)
        first, *callers = called_from(frames) or (("", 0),)
        return any(f"{Path(file).name}, line {line}" in elsewhere for file, line in (first, *callers))

    def _examine_next(self, found: ScriptDiagnosis, optimizer: Optimizer) -> None:
        """Examine the training that the script has come to, in the time that is left, where the one before trains
        well."""
        self.after.close()
        self.earlier = self.found = self.so_far(found)
        self.own_run = None
        self.seconds = _AT_MOST * self.budget - self.earlier.diagnosis.seconds
        if not _trains_well(self.earlier.diagnosis) or self.seconds < _LEAST:
            self._end_script()
        self.training += 1
        self._diagnose(optimizer)

    def _diagnose(self, optimizer: Optimizer | None) -> None:
        self.over = True
        frames = user_frames()
        self._unhook.close()
        networks = [module for module, _ in self.modules.values()]
        try:
            # The script's output in trial steps is not shown.
            with (
                Path(os.devnull).open("w") as nowhere,
                redirect_stderr(nowhere),
                _state_restored(networks, optimizer),
                outside_autocast(),
            ):
                self.found = _joined(self.earlier, examine_step(self, frames, optimizer))
        except StriateError as error:
            self.failed = error
        except Exception as error:  # a fault of the diagnosis, not of the script
            self.failed = ModelError(
                "the diagnosis",
                f"{type(error).__name__}: {one_line(str(error))[:300]}",
                "a setup that can be examined",
                "striate.diagnose(model, loader, val_loader, loss=loss, optimizer=optimizer, step=step) in Python",
            )
        if self.earlier is not None:
            self.failed = None  # that training is named as one that was not examined
        seconds = 0.0 if optimizer is None or self.found is None else self._continues_for(self.found)
        if optimizer is not None and seconds > 0:
            named = {id(value): name for name, value in running_names(frames).items() if isinstance(value, nn.Module)}
            self.own_run = self.after.enter_context(going_on(seconds, networks, named))
            self.own_run.run.loaded = bool(self.loads)
            if self.found is not None:
                self.own_run.run.planned, self.own_run.run.examined = self.found.passes, self.found.examined
            self.own_run.stepping(optimizer)
            if self.found is not None and self.found.elsewhere:
                self.after.push(self._networks_watched())
                self._goes_on_before_next(optimizer)
            return
        self._end_script()

    def _end_script(self) -> NoReturn:
        # A script that catches every exception continues; the hook ends it at its next step.
        self.stop = register_optimizer_step_pre_hook(end_script)
        raise EndScript

    def _continues_for(self, found: ScriptDiagnosis) -> float:
        """Seconds for which the script continues: 0 where something was found, other than in the evaluation before a
        further training; where it logs metrics to a service, or where hardly any time is left."""
        well = found.diagnosis.verdict != "unhealthy" or (found.elsewhere and _trains_well(found.diagnosis))
        if not well or logs_elsewhere():
            return 0.0
        left = _AT_MOST * self.budget - found.diagnosis.seconds
        seconds = (_PLAYS_ON if self.plays else _GOES_ON) * self.budget
        if found.elsewhere:
            seconds = max(seconds, _UNTIL_ANOTHER * left)
        return min(seconds, left) if left > _LEAST else 0.0


def _trains_well(diagnosis: Diagnosis) -> bool:
    """Whether no error was found, and no warning except of the evaluation, which does not explain a later training."""
    return all(
        one.severity == "note" or (one.severity == "warning" and one.code.startswith("eval."))
        for one in diagnosis.findings
    )


@contextmanager
def _state_restored(networks: Sequence[nn.Module], optimizer: Optimizer | None) -> Iterator[None]:
    """Restores the gradients of the step that is under way, the buffers, and the random state."""
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
            buffer.data.copy_(value)  # by `.data`: a graph that awaits its backward pass may use it
