"""A contender, and the process that it runs in, seen from the one that measures."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep, thread_time
from typing import Any

import psutil

WORKER = Path(__file__).with_name("worker.py")
# What a shell may have set would make contenders something else than what their users get.
NOT_INHERITED = (
    *("GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KERAS_BACKEND", "STRIATE_CACHE"),
    "PYTHONDONTWRITEBYTECODE",  # installed programs are compiled once, not at each start
)


@dataclass(frozen=True)
class Contender:
    """`function` of the workload's `file`, called with a gate and `options` in a process with `environment`.

    `ours` is what is measured; the others are peers.
    """

    name: str
    function: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    ours: bool = False


class LostContenderError(RuntimeError):
    """A contender that cannot take part: not installed, or failed; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Process:
    """A contender's process: started once, it sleeps between its turns."""

    def __init__(self, contender: Contender, file: Path, environment: Mapping[str, str]) -> None:
        self.contender = contender
        self.facts: dict[str, Any] = {}
        self.peak_bytes = 0
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        inherited = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED}
        given = inherited | contender.environment | dict(environment)
        options = json.dumps(contender.options)
        words = [sys.executable, "-W", "ignore", str(WORKER), str(file), contender.function, options]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=self._log, text=True, env=given)
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def turn(self, *, watch: bool = False, limit: float = 1800.0) -> dict[str, Any]:
        """Let it work once: `{"samples", "seconds", …}`. `watch` samples the memory of all its processes meanwhile,
        which costs a little time. Raises LostContenderError, also where no answer comes for `limit` seconds."""
        self._answer(limit)  # that it is ready
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,))
        if watch:
            watcher.start()
        try:
            self._command("run")
            answer = self._answer(limit)
        finally:
            stop.set()
            if watch:
                watcher.join()
        self.facts |= answer["facts"]
        self.peak_bytes = max(self.peak_bytes, answer["peak_bytes"])
        turn: dict[str, Any] = answer["turn"]
        return turn

    def close(self) -> None:
        """End it and what it started."""
        try:
            family = [*psutil.Process(self._process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        self._command("end")
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in family:
            if process.is_running():
                process.kill()
        psutil.wait_procs(family, 2)
        self._reader.join(2)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _command(self, word: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; the next answer says so
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()

    def _answer(self, limit: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=limit)
        except queue.Empty:
            raise LostContenderError(f"no answer for {limit:.0f} s") from None
        if not line:
            raise LostContenderError(f"it ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer or "failed" in answer:
            raise LostContenderError(answer.get("missing") or answer["failed"])
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().split("\n")
        return " ".join(" ".join(lines[-4:]).split())[-300:] or "without a word"

    def _watch(self, stop: threading.Event) -> None:
        """The most memory of the process and its children together, pages that they share counted once."""
        while not stop.is_set():
            started = thread_time()
            with suppress(psutil.Error):  # one that ends just now
                root = psutil.Process(self._process.pid)
                family = [root, *root.children(recursive=True)]
                if len(family) > 1:  # one alone says its own peak
                    self.peak_bytes = max(self.peak_bytes, sum(_proportional_bytes(p) for p in family))
            sleep(min(0.5, max(0.1, 50 * (thread_time() - started))))  # about a fiftieth of a core


def _proportional_bytes(process: psutil.Process) -> int:
    found = process.memory_full_info()
    return int(getattr(found, "pss", found.rss))
