"""OpenVINO's own format: a graph (.xml) beside its weights (.bin)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from striate.data.dataset import Dataset
from striate.exporting.export_format import ExportFormat, Runner
from striate.exporting.onnx_format import OnnxFormat
from striate.exporting.quantize import quantize_onnx
from striate.exporting.runtimes import openvino_runner
from striate.exporting.traceable import Traceable
from striate.inference.openvino_network import load_openvino
from striate.training.trained import Trained


class OpenvinoFormat(ExportFormat):
    """Converted from ONNX."""

    name: ClassVar[str] = "openvino"
    what: ClassVar[str] = "OpenVINO's graph, with its weights in a file beside it"
    suffix: ClassVar[str] = ".xml"
    second_suffix: ClassVar[str] = ".bin"
    extra: ClassVar[str] = "openvino"
    needs: ClassVar[tuple[str, ...]] = ("openvino", "onnx", "onnxscript")

    def write(self, network: Traceable, facts: Mapping[str, Any], place: Path) -> None:
        """The graph at `place`, its weights beside it; the facts as its runtime information, in JSON."""
        between = place.parent.parent / "fp32.onnx"
        OnnxFormat().write(network, facts, between)
        _convert(between, json.dumps(facts), place)

    quantizes: ClassVar[bool] = True

    def write_int8(self, source: Path, place: Path, trained: Trained, data: Dataset) -> None:
        """Quantized as ONNX, then converted."""
        between = place.parent.parent / "int8.onnx"
        quantize_onnx(source.parent.parent / "fp32.onnx", between, trained, data)
        facts = load_openvino().Core().read_model(source).get_rt_info("striate").value
        _convert(between, facts, place)

    def facts(self, place: Path) -> dict[str, Any]:
        """Its runtime information."""
        # Its other readers would be tried on a damaged file, and log what each of them met.
        reader = load_openvino().frontend.FrontEndManager().load_by_framework("ir")
        model = reader.convert(reader.load(place))
        return dict(json.loads(model.get_rt_info("striate").value)) if model.has_rt_info("striate") else {}

    def runners(self, place: Path) -> dict[str, Runner]:
        """OpenVINO."""
        return {"openvino": openvino_runner(place)}


def _convert(between: Path, facts: str, place: Path) -> None:
    """Convert an ONNX file to OpenVINO's format."""
    library = load_openvino()
    model = library.convert_model(between)
    model.set_rt_info(facts, "striate")
    library.save_model(model, place, compress_to_fp16=False)
