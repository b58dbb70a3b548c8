"""Compute predictions on Ray: by a process on each core of a cluster, or of this machine."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from striate.api.predicted_lines import Predicting, line_of
from striate.api.predicting import FilePredictions
from striate.errors import RunError, UsageError, missing_extra, reason_of
from striate.inference.plan import InferencePlan
from striate.machine.load import own_cores

_AT_ONCE = 64
"""Files that a process is given at once."""
_MOST_BLOCKS = 10_000
_STORE_BYTES = 256 * 2**20
"""Memory for lines that are not fetched yet, in a cluster that is started here."""


_WAIT = 5.0
"""Seconds for a cluster to be reached."""
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Ray sends no usage statistics, and its notes for developers are not shown."""


class _Process:
    """One of the processes that predict. It needs the files and the run at the same paths as the calling process."""

    def __init__(self, request: Predicting, folder: str, plan: InferencePlan) -> None:
        os.chdir(folder)
        torch.set_num_threads(1)
        trained = request.load()
        none = torch.empty(0, *trained.preparation.input_shape)
        predictor = trained.planned(lambda _: none, 0, recorded=plan, own=True)
        self.predictions = FilePredictions(trained, (), 0, predictor, {}, request.tile, request.every)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """A JSON list for each file, so that Ray keeps the lines of one file together."""
        found: dict[str, list[Any]] = {file: [] for file in batch["item"]}
        for predicted in replace(self.predictions, files=tuple(found)):
            found[predicted.path].append(line_of(predicted, ()))
        return {"lines": [json.dumps(lines) for lines in found.values()]}


def lines_on_ray(request: Predicting, predictions: FilePredictions, address: str) -> Iterator[list[dict[str, Any]]]:
    """The lines of each file, in any order, computed in the cluster at `address`; `auto`: in the cluster that runs
    here, or in a new one of this machine's cores, which ends with the iteration.

    Raises UsageError where Ray is not installed or there is no cluster at the address, RunError where a process of the
    cluster cannot predict."""
    with _cluster(address) as ray:
        strategy = ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, int(ray.cluster_resources().get("CPU", 1))))
        blocks = min(_MOST_BLOCKS, -(-len(predictions.files) // _AT_ONCE))
        files = ray.data.from_items(list(predictions.files), override_num_blocks=blocks)
        given = {"request": request, "folder": str(Path.cwd()), "plan": predictions.plan}
        found = files.map_batches(
            _Process, batch_size=_AT_ONCE, compute=strategy, num_cpus=1, fn_constructor_kwargs=given
        )
        try:
            for row in found.iter_rows():
                yield json.loads(row["lines"])
        except ray.exceptions.RayError as error:
            raise RunError(
                "--ray",
                f"a process that cannot predict: {reason_of(error)}",
                "the run, the files and striate at the same places on all machines of the cluster",
                "leave out --ray to see the reason on this machine",
            ) from error


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The module ray, connected to a cluster; a cluster that was started here ends with the context."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        ray: Any = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise missing_extra("--ray", "ray", "ray", UsageError) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != "auto":
        _reach(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address != "auto":
            raise _unreached(address, error) from error
        cores = len(own_cores())
        ray.init(num_cpus=cores, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise UsageError where nothing listens at the address: Ray itself would try for two minutes, and end the
    process."""
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        socket.create_connection((place.hostname or "", place.port or 0), _WAIT).close()
    except (OSError, ValueError) as error:
        raise _unreached(address, error) from error


def _unreached(address: str, error: Exception) -> UsageError:
    got, remedy = f"{address}: {reason_of(error)}", "give the address as ray start has printed it, or --ray auto"
    return UsageError("--ray", got, "the address of a cluster: HOST:PORT", remedy)
