"""The served runs, their queue, and their counts."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from striate.errors import DataError, ModelError, StriateError, UsageError
from striate.models.layer_strings.arguments import nearest
from striate.serving.batching import Batcher
from striate.serving.served_run import Load, ReadPicture, ServedRun, open_served, weights_stamp

_RELOAD_SECONDS = 2.0
_SMOOTHING = 0.9  # decay of the moving average of the seconds for a picture


@dataclass(frozen=True)
class Limits:
    """What a server accepts."""

    queue: int = 256
    """Pictures that may wait for a prediction; further ones are refused, and the client is told to try again."""
    largest: int = 32 << 20
    """Bytes of a request."""
    patience: float = 0.002
    """Seconds that the first picture of a batch waits for others."""


class Busy(Exception):
    """The queue is full, and has room again in about `seconds`."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"the queue is full for about {seconds} s")


class Counts:
    """The counts of `/metrics`, in the form of Prometheus."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("striate_requests", "Requests, by status.", ["status"], registry=registry)
        self.seconds = Histogram("striate_request_seconds", "Time from request to response.", registry=registry)
        self.predictions = Counter("striate_predictions", "Pictures predicted.", ["run"], registry=registry)
        self.waiting = Gauge("striate_waiting", "Pictures that wait for a prediction.", registry=registry)
        sizes = (1, 2, 4, 8, 16, 32, 64)
        self.batches = Histogram("striate_batch_size", "Pictures in a batch.", buckets=sizes, registry=registry)
        self.reloads = Counter("striate_reloads", "Times that a run was reloaded.", ["run"], registry=registry)


@dataclass(frozen=True)
class QueuedRun:
    """A run, and the inputs that wait for it."""

    run: ServedRun
    batcher: Batcher[ReadPicture, dict[str, Any]]


class Service:
    """Serves the runs at `paths`; the first is the default. Raises StriateError for a run that cannot be loaded, and
    UsageError for two of one name."""

    def __init__(
        self, paths: Sequence[Path], load: Load, limits: Limits, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.limits, self.counts, self._load, self._say = limits, Counts(), load, say
        self._waiting, self._per_picture = 0, 0.01
        self.counts.waiting.set_function(lambda: self._waiting)
        self._decoders = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "decode")
        self._compute = ThreadPoolExecutor(1, "predict")
        self._queued: dict[str, QueuedRun] = {}
        for path, name in zip(paths, _names(paths), strict=True):
            run = open_served(path, load, name)
            self._queued[run.name] = self._with_queue(run)

    def _with_queue(self, run: ServedRun) -> QueuedRun:
        compute, seen = partial(self._predict, run), self.counts.batches.observe
        return QueuedRun(run, Batcher(compute, self._compute, self._decoders, run.at_once, self.limits.patience, seen))

    @property
    def runs(self) -> tuple[ServedRun, ...]:
        """The runs as they are served now."""
        return tuple(queued.run for queued in self._queued.values())

    def find(self, name: str | None) -> QueuedRun:
        """The run of this name, or the first. Raises UsageError."""
        first = next(iter(self._queued))
        if (found := self._queued.get(first if name is None else name)) is not None:
            return found
        known = ", ".join(self._queued)
        close = quote(nearest(str(name), self._queued) or first)
        raise UsageError("run", str(name), f"one of the served runs: {known}", f"run={close}")

    @contextmanager
    def accepted(self, count: int) -> Iterator[None]:
        """Places in the queue for `count` pictures within the context. Raises Busy."""
        if self._waiting + count > self.limits.queue:
            raise Busy(max(1, math.ceil(self._waiting * self._per_picture)))
        self._waiting += count
        try:
            yield
        finally:
            self._waiting -= count

    async def predict(self, queued: QueuedRun, path: str, read: Callable[[], ReadPicture]) -> dict[str, Any]:
        """The line for an input; if it cannot be read or predicted, with the error in plain words."""
        try:
            return await queued.batcher.submit(read)
        except (DataError, ModelError) as error:
            return {"path": path, "error": getattr(error, "reason", f"{error.got}; expected: {error.expected}")}

    def _predict(self, run: ServedRun, pictures: Sequence[ReadPicture]) -> list[dict[str, Any]]:
        began = monotonic()
        lines = run.predict(pictures)
        taken = (monotonic() - began) / len(pictures)
        self._per_picture = _SMOOTHING * self._per_picture + (1 - _SMOOTHING) * taken
        self.counts.predictions.labels(run.name).inc(len(pictures))
        return lines

    async def follow(self) -> None:
        """Reload a run whenever its weights file changes; if that fails, the earlier version stays."""
        loop = asyncio.get_running_loop()
        seen = {run.name: run.stamp for run in self.runs}
        while True:
            await asyncio.sleep(_RELOAD_SECONDS)
            for run in self.runs:
                try:
                    stamp = weights_stamp(run.path)
                    if stamp == seen[run.name]:
                        continue
                    seen[run.name] = stamp
                    newer = await loop.run_in_executor(self._decoders, open_served, run.path, self._load, run.name)
                except Exception as error:  # an incomplete file may raise anything
                    why = error.got if isinstance(error, StriateError) else type(error).__name__
                    self._say(
                        f"{run.path} has changed and cannot be loaded, so the earlier version is still served: {why}"
                    )
                    continue
                earlier, self._queued[run.name] = self._queued[run.name], self._with_queue(newer)
                await earlier.batcher.end()
                self.counts.reloads.labels(run.name).inc()
                self._say(f"{run.path} has changed and was reloaded")

    async def end(self) -> None:
        """Finish accepted requests."""
        for queued in self._queued.values():
            await queued.batcher.end()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._compute.shutdown(wait=False, cancel_futures=True)


def _names(paths: Sequence[Path]) -> list[str]:
    """The names of the runs: that of the folder, also for a checkpoint in it; of another file, its name without the
    suffix, or with it if several files share that name, so that names do not depend on the order. Raises UsageError for
    two of one name."""
    names: list[str] = []
    places = [path.absolute() for path in paths]
    if len(set(places)) < len(places):
        path = next(path for path, place in zip(paths, places, strict=True) if places.count(place) > 1)
        raise UsageError("serve", f"{path} twice", "each run once", "leave out one of them")
    owners = [place.parent.parent if place.parent.name == "checkpoints" else place for place in places]
    short = [place.name if place.is_dir() else place.stem for place in owners]
    for name, owner, place in zip(short, owners, places, strict=True):
        name = owner.name if short.count(name) > 1 else name
        if name in names:
            kind = "file" if place.is_file() and owner is place else "folder"
            raise UsageError("serve", f"two runs called {name}", "runs of different names", f"rename the {kind} of one")
        names.append(name)
    return names
