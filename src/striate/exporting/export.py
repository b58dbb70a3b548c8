"""Export the network of a run as a file, and check that the file predicts the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from striate import notebook
from striate.data.dataset import Dataset
from striate.data.media.every_medium import medium_of
from striate.errors import UsageError, pasted
from striate.exporting.export_format import ExportFormat, written_size
from striate.exporting.exported_network import ExportedNetwork
from striate.exporting.model_card import card_facts
from striate.exporting.parity import Parity, measure_parity, spread_inputs
from striate.exporting.quantize import Quantized, measure_quantized
from striate.exporting.speed import BATCH, measure_speed
from striate.exporting.staging import publish, staged
from striate.models.config import ModelConfig
from striate.models.preserved_state import same_random_state
from striate.models.weights.saved import load_run
from striate.runs.directory import RunDirectory, read_metrics
from striate.runs.files import read_optional_json
from striate.tasks.registry import task_to_state
from striate.training.config_file import config_from_yaml
from striate.training.trained import Trained
from striate.version import VERSION
from striate.wording import several


@dataclass(frozen=True)
class Exported:
    """The exported file, and the runtimes that it was compared with."""

    path: Path | None
    """The file; None where it was refused."""
    format: str
    """The format by name."""
    bytes: int
    """Size of the file."""
    parity: Parity
    """How the predictions of the file compare with those of the run."""
    speed: dict[str, Any] = field(default_factory=dict)
    """Milliseconds of one input and images a second in batches, of each runtime here and of torch in fp32."""
    refused: str = ""
    """Why nothing was written; else empty."""
    quantized: Quantized | None = None
    """What 8-bit integers change, where they were requested; else None."""

    def to_json(self) -> dict[str, Any]:
        """The document of `striate export --json`."""
        found = {
            "path": None if self.path is None else str(self.path),
            "format": self.format,
            "bytes": self.bytes,
            "parity": self.parity.to_json(),
            "speed": self.speed,
        }
        found |= {"int8": self.quantized.to_json()} if self.quantized is not None else {}
        return found | ({"refused": self.refused} if self.refused else {})

    def lines(self) -> list[str]:
        """The same for a terminal."""
        wrote = (
            f"nothing was written: {self.refused}"
            if self.path is None
            else f"{self.path}  {several(self.bytes, 'byte')}"
        )
        lines = [wrote, f"parity: {self.parity.text()}"]
        if self.quantized is not None:
            lines.append(f"int8: {self.quantized.accuracy_text()}; speedup {self.quantized.speedup:.2f}")
        if self.speed:
            alone, many = self.speed["milliseconds"], self.speed["images_per_second"]
            each = "; ".join(f"{name} {alone[name]:.3g} ms, {_rate(many[name])} a second" for name in alone)
            threads = several(self.speed["threads"], "thread")
            lines.append(f"speed, one input and batches of {BATCH}, {threads}: {each}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return notebook.page(f"Exported as {self.format}", notebook.items(self.lines()))


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def export_trained(
    trained: Trained,
    data: Dataset,
    run: RunDirectory,
    kind: ExportFormat,
    out: Path | None = None,
    *,
    int8: bool = False,
    announce: Callable[[str], None] | None = None,
    read: Callable[[int], bytes] | None = None,
) -> Exported:
    """Write the network of a run as a file of format `kind`, at `out` or in the folder `exports` of the run. The file
    is run first, and is removed if it does not predict what the run predicts. `int8`: in 8-bit integers, if these are
    faster here than anything else and predict as well. `read` returns the file of a sample by its id, where there are
    files, which are the inputs for the comparison of sounds.

    Raises UsageError where a package is missing, the file exists, or the task does not support the format.
    """
    kind.require()
    announce = announce or (lambda _: None)
    if int8 and not kind.quantizes:
        raise UsageError("--int8", f"--format {kind.name}", "a format with 8-bit integers", "--format onnx --int8")
    if int8 and not medium_of(trained.preparation.kind).given_as.startswith(("numbers", "frames")):
        got = f"a network of {data.medium.many}, whose file prepares inputs by floating-point operations"
        expected = "a network of pictures, clips or numbers, whose inputs calibrate 8-bit scales"
        raise UsageError("--int8", got, expected, "leave out --int8")
    place = checked_place(run, kind, out, "-int8" if int8 else "")
    network = ExportedNetwork(trained)
    with staged(place) as temporary, same_random_state():
        announce(f"writing {kind.what}")
        kind.write(network, facts_of(network, trained, run, data.name), temporary)
        runners = kind.runners(temporary)
        announce("comparing its predictions with those of the run")
        parity = measure_parity(trained, data, runners, read)
        if not parity.holds:
            return Exported(None, kind.name, 0, parity, refused="its predictions differ from those of the run")
        quantized = None
        if int8:
            announce("quantizing it, and measuring accuracy and speed")
            small = temporary.parent.parent / "int8" / temporary.name
            small.parent.mkdir()
            kind.write_int8(temporary, small, trained, data)
            full, runners, temporary = runners, kind.runners(small), small
            quantized = measure_quantized(trained, data, runners, full)
            if quantized.refused:
                return Exported(None, kind.name, 0, parity, refused=quantized.refused, quantized=quantized)
        announce("measuring its speed")
        speed = measure_speed(trained, spread_inputs(data, BATCH), runners)
        written = written_size(temporary.parent)
        publish(temporary, place)
    return Exported(place, kind.name, written, parity, speed, quantized=quantized)


def facts_of(network: ExportedNetwork, trained: Trained, run: RunDirectory, source: str) -> dict[str, Any]:
    """The facts in a file: whose network it is, what its outputs mean, and how inputs are prepared."""
    metrics, task, model = read_metrics(run), trained.task, config_from_yaml(run.config).model
    return {
        "striate": VERSION,
        "task": task.name,
        "classes": list(trained.classes),
        "input": network.described,
        "outputs": list(task.exports),
        "facts": task.exported_facts(),
        "preparation": json.loads(json.dumps(asdict(trained.preparation))),
        "whole": trained.reads_whole,
        "normalization": asdict(trained.normalization),
        "network": dict(load_run(str(run.path))[1]["network"]),
        "views": trained.views,
        "card": card_facts(metrics, read_optional_json(run.evaluation), tuple(m.key for m in task.shown), source)
        | {"weights": _pretrained_weights(model)},
        "weights_license": model.weights_license or "",
        "model": str(metrics.get("model")),
        "data": str(metrics.get("data")),
        "task_state": task_to_state(task),
    }


def _pretrained_weights(model: ModelConfig) -> dict[str, str] | None:
    """Name and license of the pretrained weights; of a file, its name without the folders. None without any."""
    if model.pretrained is None:
        return None
    path = Path(model.pretrained)
    return {"name": path.name if path.is_absolute() else model.pretrained, "license": model.weights_license or ""}


def checked_place(run: RunDirectory, kind: ExportFormat, out: Path | None, ending: str = "") -> Path:
    """The path of the file: `out`, or a name in the folder `exports` of the run. Raises UsageError for a path that
    exists, or has another suffix."""
    place = run.path / "exports" / f"{run.path.name}{ending}{kind.suffix}" if out is None else out
    if place.suffix != kind.suffix and kind.suffix:
        remedy = f"--out {pasted(place.with_suffix(kind.suffix))}"
        if not place.suffix:
            remedy += "; or --format hub for a folder"
        raise UsageError("--out", str(place), f"a name that ends in {kind.suffix}", remedy)
    refuse_taken(place)
    return place


def refuse_taken(place: Path) -> None:
    """Raise UsageError for a path that exists."""
    if os.path.lexists(place):
        other = next(
            free
            for number in range(2, 10_000)
            if not os.path.lexists(free := place.with_name(f"{place.stem}-{number}{place.suffix}"))
        )
        raise UsageError("--out", f"{place}, which exists already", "a new name", f"--out {pasted(other)}")
