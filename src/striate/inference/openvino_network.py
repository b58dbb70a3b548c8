"""A network computed by OpenVINO, if that is installed: often the fastest on a CPU, above all in bf16."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from striate.inference.torch_network import Network
from striate.machine.precision import Precision
from striate.models.preserved_state import copied, on_trial
from striate.wording import several

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_LOADING = threading.Lock()


def openvino_installed() -> bool:
    """Whether OpenVINO is installed; it is not imported."""
    return find_spec("openvino") is not None


def openvino_version() -> str:
    """The version of OpenVINO; "" where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("openvino")
    except PackageNotFoundError:
        return ""


def prepare_openvino(precision: Precision, module: nn.Module, sample: torch.Tensor) -> Network:
    """The network for batches like `sample` (B, *input_shape), of any number of samples.

    A batch is split into as many parts as OpenVINO computes at once, each on its own cores, so that no part waits for
    another. Takes seconds. Raises whatever prevents OpenVINO from reading the network.
    """
    ov = load_openvino()
    shape = tuple(sample.shape[1:])
    with on_trial(module):
        copy = copied(module).eval().requires_grad_(False)
    with on_trial(copy), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # OpenVINO uses a deprecated API of torch
        model = ov.convert_model(copy, example_input=sample[:2].clone())
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"{several(len(model.inputs), 'input')} and {several(len(model.outputs), 'output')}")
    model.reshape([-1, *shape])
    compiled = openvino_core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # a pinned thread waits for its core even while others are free
        },
    )
    return _in_parts(ov, compiled)


def _in_parts(ov: Any, compiled: Any) -> Network:
    streams = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    queue = ov.AsyncInferQueue(compiled, streams)
    found: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, number: found.__setitem__(number, request.get_output_tensor(0).data.copy()))

    def predict(x: torch.Tensor) -> torch.Tensor:
        parts = [np.ascontiguousarray(part.numpy()) for part in x.chunk(min(streams, len(x)))]
        found.clear()
        for number, part in enumerate(parts):
            queue.start_async({0: part}, number, share_inputs=True)
        queue.wait_all()
        return torch.from_numpy(np.concatenate([found[number] for number in range(len(parts))])).float()

    return predict


@cache
def openvino_core() -> Any:
    """OpenVINO's core, which reads and compiles networks."""
    return load_openvino().Core()


def load_openvino() -> Any:
    """The package, without its telemetry: it would report its use over the network."""
    with _LOADING:
        if "openvino" in sys.modules:
            return sys.modules["openvino"]
        with _nothing_reported():
            return import_module("openvino")


@contextmanager
def _nothing_reported() -> Iterator[None]:
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail, which openvino allows for
    try:
        yield
    finally:
        del sys.modules[name]
