"""`striate export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def export(
    run: Path,
    /,
    *,
    format: Literal["onnx", "openvino", "torch", "hub"] | None = None,
    int8: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a trained network as a file that other programs run, and show that it predicts the same.

    The file includes the preprocessing: it takes the pixels of pictures of any size, in batches of any size. striate
    runs it on samples of the run's data, at five sizes and in batches of 1, 3 and 8. If a prediction differs by more
    than rounding, nothing is written, and the exit code is 1.

    Parameters
    ----------
    run
        A run directory, or its best checkpoint; its data must still exist.
    format
        Default: by the suffix of --out (.xml: openvino, .pt2: torch), otherwise onnx.
        onnx: one file for onnxruntime, OpenVINO and others; needs pip install 'striate[onnx]'.
        openvino: a graph (.xml) with its weights beside it (.bin); needs pip install 'striate[openvino]'.
        torch: a program of torch.export (.pt2), which torch runs without striate.
        hub: a folder with model.safetensors, config.json, a model card, and a loader that needs torch alone.
    int8
        Quantize to 8-bit integers, calibrated on training samples. Validation accuracy and speed are compared with
        fp32 and bf16. If there is no gain, nothing is written, and the exit code is 1.
    out
        The file or folder to write; folders above it that are missing are made. Default: in the folder exports of the
        run.
    json
        Print one JSON document on stdout: path, format, bytes, parity, speed.
    """
    from striate.api import try_export
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        exported = try_export(run, format, int8=int8, out=out, announce=print_note)
    if json:
        print_json(exported.to_json())
    else:
        for line in exported.lines():
            print_text(line)
    return 0 if exported.path is not None else 1
