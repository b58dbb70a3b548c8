"""The list of export formats."""

from __future__ import annotations

from pathlib import Path

from striate.errors import UsageError, pasted
from striate.exporting.export_format import ExportFormat
from striate.exporting.hub_format import HubFormat
from striate.exporting.onnx_format import OnnxFormat
from striate.exporting.openvino_format import OpenvinoFormat
from striate.exporting.torch_format import TorchFormat

FORMATS: tuple[type[ExportFormat], ...] = (OnnxFormat, OpenvinoFormat, TorchFormat, HubFormat)


def format_named(name: str | None, out: Path | None = None) -> ExportFormat:
    """The format of this name; without a name, by the suffix of `out`, else the first. Raises UsageError, also for a
    suffix that no format has."""
    for kind in FORMATS:
        if kind.name == name or (name is None and out is not None and out.suffix == kind.suffix != ""):
            return kind()
    if name is None and out is not None and out.suffix and not out.is_dir():
        known = ", ".join(f"{kind.suffix} ({kind.name})" for kind in FORMATS if kind.suffix)
        remedy = f"--out {pasted(out.with_suffix(FORMATS[0].suffix))}"
        raise UsageError("--out", str(out), f"a name that ends in {known}", remedy)
    if name is None:
        return FORMATS[0]()
    known = ", ".join(kind.name for kind in FORMATS)
    raise UsageError("--format", repr(name), known, f"--format {FORMATS[0].name}")
