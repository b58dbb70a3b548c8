"""Runners of exported files by their runtimes on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from striate.exporting.export_format import Runner
from striate.inference.openvino_network import openvino_core


def onnxruntime_runner(place: Path) -> Runner:
    """onnxruntime on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(place), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, {name: batch})
        return outputs

    return run


def openvino_runner(place: Path) -> Runner:
    """OpenVINO on the CPU in fp32; by default it would use bf16 where the processor has it."""
    compiled = openvino_core().compile_model(
        str(place),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()},
    )

    def run(batch: np.ndarray) -> list[np.ndarray]:
        found = compiled(batch)
        return [np.array(found[output]) for output in compiled.outputs]

    return run
