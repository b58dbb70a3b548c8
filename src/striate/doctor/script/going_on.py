"""Lets a script continue for a few seconds after its first step, silenced; what it writes is kept apart."""

from __future__ import annotations

import io
import logging
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from time import perf_counter
from typing import Any

from torch import nn
from torch.utils.data import dataloader

from striate.doctor.diagnose import threads_to_spare
from striate.doctor.evidence.own_run import EndScript, Watcher, number_of_weights
from striate.doctor.script.written_apart import written_apart
from striate.doctor.setup.unwritten_logs import logs_unwritten
from striate.models.preserved_state import nothing_compiled
from striate.observe.module_calls import forward_hooks_everywhere
from striate.observe.torch_calls import torch_functions

_GRACE = 0.5  # seconds after which an alarm ends code that calls no network and makes no step
_LOGS = ("comet_ml", "neptune", "aim", "clearml")
"""Libraries that send metrics to a service, in their own threads and processes."""


def logs_elsewhere() -> bool:
    """Whether the script has imported a library that sends metrics to a service."""
    return any(name in sys.modules for name in _LOGS)


@contextmanager
def going_on(seconds: float, networks: Iterable[nn.Module], names: dict[int, str]) -> Iterator[Watcher]:
    """While the body runs, the script continues for at most `seconds`, silenced and watched. `EndScript` ends it.
    `networks`: the known networks; `names`: their names by id."""
    watcher = Watcher(perf_counter() + seconds, names)
    for network in networks:
        if next(network.parameters(), None) is not None:
            with suppress(Exception):  # weights that have no numbers
                watcher.of(network).before = number_of_weights(network)
                watcher.of(network).first = [parameter.detach().clone() for parameter in network.parameters()]
    with ExitStack() as stack:
        heard = _Heard(watcher)
        stack.enter_context(redirect_stdout(heard))
        stack.enter_context(redirect_stderr(heard))
        stack.enter_context(_logs_heard(heard))
        stack.enter_context(logs_unwritten())
        stack.enter_context(forward_hooks_everywhere(watcher.enter, watcher.leave))
        stack.enter_context(_short_passes(watcher))
        stack.enter_context(nothing_compiled())
        stack.enter_context(threads_to_spare())
        stack.enter_context(torch_functions(watcher.call))
        stack.enter_context(written_apart())
        stack.enter_context(_alarm(seconds + _GRACE))
        try:
            yield watcher
        finally:
            watcher.run.seconds = perf_counter() - watcher.until + seconds
            for called in watcher.run.networks.values():
                with suppress(Exception):
                    called.after = number_of_weights(called.network)


class _Heard(io.StringIO):
    """Passes what the script prints to the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher

    def write(self, text: str) -> int:
        self._watcher.note_printed(text)
        return len(text)


@contextmanager
def _logs_heard(heard: _Heard) -> Iterator[None]:
    """While the body runs, log records go to `heard` only, not to files."""
    original = logging.Logger.handle

    def handle(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: ARG001
        heard.write(record.getMessage() + "\n")

    logging.Logger.handle = handle  # type: ignore
    try:
        yield
    finally:
        logging.Logger.handle = original  # type: ignore[method-assign]


@contextmanager
def _short_passes(watcher: Watcher) -> Iterator[None]:
    """While the body runs, each pass over a DataLoader ends early where it takes too long."""
    kind: Any = dataloader._BaseDataLoaderIter
    original = kind.__next__

    def following(iterator: Any) -> Any:
        watcher.end_if_late()
        if perf_counter() > watcher.pass_of(iterator).until:
            watcher.pass_ends(iterator, whole=False)
            raise StopIteration
        try:
            batch = original(iterator)
        except StopIteration:
            watcher.pass_ends(iterator, whole=True)
            raise
        watcher.draws(iterator, batch)
        return batch

    kind.__next__ = following
    try:
        yield
    finally:
        kind.__next__ = original


def end_script(*_: object) -> None:
    """Raise EndScript; a handler of signals and a hook of optimizer steps."""
    raise EndScript


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """While the body runs, a signal ends code that calls no network and makes no step, where the system supports it."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, end_script)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
