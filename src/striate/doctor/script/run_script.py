"""Runs a user's script, diagnoses what it trains at its first step, and lets it go on where nothing is found."""

from __future__ import annotations

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
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from striate.doctor.causes import sort_out
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import EndScript, OwnRun, Watcher
from striate.doctor.script.examined_step import Caught, ScriptDiagnosis, examine_step, running_names
from striate.doctor.script.going_on import end_script, going_on, logs_elsewhere
from striate.doctor.script.training_loop import called_from, find_loop, user_frames
from striate.doctor.setup.loaded_weights import watched_loads
from striate.doctor.setup.preserved_state import outside_autocast
from striate.doctor.setup.reached_objects import written_by_user
from striate.errors import ModelError, StriateError, UsageError, one_line
from striate.models.preserved_state import same_random_state
from striate.observe.module_calls import forward_hooks_everywhere
from striate.wording import several

_PATIENCE = 64
"""Backward passes without any step of an optimizer: then that is what is diagnosed."""
_LEAST = 0.5  # seconds
_GOES_ON, _PLAYS_ON, _AT_MOST = 0.25, 0.5, 1.1
"""Of the budget: so long a script goes on after its diagnosis, one that plays an environment, and so long both take."""


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
        raise UsageError("script", str(path), "a Python file", "striate doctor train.py -- --epochs 1")
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
    except EndScript:
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
            found = examine_step(catch, frames, None)
    except Exception:  # what failed once may fail anywhere
        return None
    finally:
        sys.modules["__main__"] = main
    errors = [one.code for one in found.diagnosis.findings if one.severity == "error"]
    return found if errors and errors[0] != "optim.no-step" else None  # that only repeats what was raised


def _nothing_caught(path: Path, catch: _Catch, raised: BaseException | None) -> UsageError:
    seen = f"{several(catch.backwards, 'backward pass', 'backward passes')} and no optimizer step"
    if catch.loops and raised is None:
        number = len(catch.loops)
        got, wanted = f"{path} trains in {several(number, 'loop')}", f"at least {several(catch.training, 'loop')}"
        return UsageError("--training", got, wanted, f"striate doctor {path} --training {number}")
    for loader in [found for found in gc.get_objects() if type(found) is DataLoader]:
        with suppress(TypeError, NotImplementedError):
            if not len(loader):
                got = f"no batch of {several(len(cast(Any, loader.dataset)), 'sample')}: batches of {loader.batch_size}"
                got += (
                    ", and drop_last drops the only one" if loader.drop_last and len(cast(Any, loader.dataset)) else ""
                )
                remedy = "`drop_last=False`, or a `batch_size` below the number of samples"
                return UsageError("training loader", got, "at least one batch", remedy)
    ended = raised is None or (isinstance(raised, SystemExit) and raised.code in (None, 0))
    if ended:
        remedy = f"give it arguments with which it trains, after --: striate doctor {path} -- --epochs 1"
        return UsageError("script", f"{path} ends after {seen}", "a script that trains", remedy)
    if isinstance(raised, SystemExit):
        remedy = f"give it its arguments after --: striate doctor {path} -- ARGS"
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
class _Catch(Caught):
    """Watches a script from outside."""

    loops: list[object] = field(default_factory=list)
    """Loops in which optimizer steps were made, until number `training` is reached."""
    backwards: int = 0
    """How many backward passes were run."""
    depth: int = 0
    """How many modules are running."""
    found: ScriptDiagnosis | None = None
    failed: StriateError | None = None
    over: bool = False
    """Whether enough was seen."""
    stop: Any = None
    """What ends each further step."""
    own_run: Watcher | None = None
    """Watches the script while it goes on, until `after` is closed."""
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
                self.found = examine_step(self, frames, optimizer)
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
            named = {id(value): name for name, value in running_names(frames).items() if isinstance(value, nn.Module)}
            self.own_run = self.after.enter_context(going_on(seconds, networks, named))
            self.own_run.run.loaded = bool(self.loads)
            self.own_run.run.planned = 0.0 if self.found is None else self.found.passes
            self.own_run.stepping(optimizer)
            return
        # A script that catches everything goes on: no step of its own is made any more.
        self.stop = register_optimizer_step_pre_hook(end_script)
        raise EndScript

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
