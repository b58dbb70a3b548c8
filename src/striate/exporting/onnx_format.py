"""ONNX: one file that onnxruntime, OpenVINO, TensorRT, browsers and telephones run."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from striate.data.dataset import Dataset
from striate.errors import ModelError, reason_of
from striate.exporting.export_format import ExportFormat, Runner
from striate.exporting.runtimes import onnxruntime_runner, openvino_runner
from striate.exporting.traceable import Traceable
from striate.exporting.tracing import quiet_exporter, traced_program
from striate.inference.openvino_network import openvino_installed
from striate.layers.suppression import suppress_in_onnx, suppression
from striate.training.trained import Trained

_OPSET = 18  # in which torch's exporter writes


class OnnxFormat(ExportFormat):
    """Written by torch's exporter of traced programs."""

    name: ClassVar[str] = "onnx"
    what: ClassVar[str] = "one file for onnxruntime, OpenVINO and others"
    suffix: ClassVar[str] = ".onnx"
    extra: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")

    def write(self, network: Traceable, facts: Mapping[str, Any], place: Path) -> None:
        """The file contains the weights; `facts` are its metadata, as JSON unless they are text."""
        traced = traced_program(network)
        try:
            with quiet_exporter(), torch.no_grad():
                program = torch.onnx.export(
                    traced,
                    dynamo=True,
                    input_names=[network.input_name],
                    output_names=list(network.output_names),
                    dynamic_shapes=(network.dynamic_axes,),
                    opset_version=_OPSET,
                    custom_translation_table={suppression(): suppress_in_onnx},
                    verbose=False,
                )
        except torch.onnx.OnnxExporterError as error:
            raise _not_in_onnx(error, network) from None
        assert program is not None
        # The exporter records the source line of each operation, with paths of this machine.
        graph: Any = program.model.graph
        for part in [*graph.all_nodes(), *graph.inputs, *graph.outputs]:
            part.metadata_props.clear()
        program.model.producer_name, program.model.producer_version = "striate", str(facts["striate"])
        for key, value in facts.items():
            program.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
        program.save(str(place), external_data=False)

    quantizes: ClassVar[bool] = True

    def write_int8(self, source: Path, place: Path, trained: Trained, data: Dataset) -> None:
        """With the metadata of the source."""
        from striate.exporting.quantize import quantize_onnx

        quantize_onnx(source, place, trained, data)

    def facts(self, place: Path) -> dict[str, Any]:
        """Its metadata."""
        import onnx

        found: dict[str, Any] = {}
        for entry in onnx.load(place, load_external_data=False).metadata_props:
            found[entry.key] = entry.value  # text, unless it is JSON
            with contextlib.suppress(ValueError):
                found[entry.key] = json.loads(entry.value)
        return found

    def runners(self, place: Path) -> dict[str, Runner]:
        """onnxruntime, and OpenVINO where it is installed."""
        found = {"onnxruntime": onnxruntime_runner(place)}
        return found | ({"openvino": openvino_runner(place)} if openvino_installed() else {})


def _not_in_onnx(error: BaseException, network: Traceable) -> ModelError:
    """The refusal of a network with an operation that the exporter cannot write."""
    while error.__cause__ is not None:  # the first of the chain names the operation
        error = error.__cause__
    got = re.sub(r"<OpOverload\(op='(.+?)'.*?\)>", r"\1", reason_of(error)).partition(". ")[0]
    where = f"striate export of {type(network.module).__name__}"
    return ModelError(
        where, got, "operations that torch's exporter can write as ONNX", "--format torch (its file ends in .pt2)"
    )
