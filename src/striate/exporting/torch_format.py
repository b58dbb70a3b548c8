"""A program of torch.export: one file that `torch.export.load` loads with torch alone, without striate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.export import ExportedProgram

from striate.exporting.export_format import ExportFormat, Runner
from striate.exporting.traceable import Traceable
from striate.exporting.tracing import quiet_exporter, traced_program
from striate.layers.suppression import by_rounds

FACTS = "facts.json"
"""The file in the archive that describes its outputs."""


class TorchFormat(ExportFormat):
    """By torch.export."""

    name: ClassVar[str] = "torch"
    what: ClassVar[str] = "a program of torch.export"
    suffix: ClassVar[str] = ".pt2"

    def write(self, network: Traceable, facts: Mapping[str, Any], place: Path) -> None:
        """The facts are a file beside the program in the archive."""
        with by_rounds():
            program = traced_program(network)
        save_program(program, place, {FACTS: json.dumps(facts)})

    def facts(self, place: Path) -> dict[str, Any]:
        """The facts beside the program."""
        found = {FACTS: ""}
        with quiet_exporter():
            torch.export.load(place, extra_files=found)
        return dict(json.loads(found[FACTS] or "{}"))

    def runners(self, place: Path) -> dict[str, Runner]:
        """torch."""
        with quiet_exporter():
            return {"torch.export": program_runner(torch.export.load(place))}


def save_program(program: ExportedProgram, place: Path, extra_files: dict[str, Any] | None = None) -> None:
    """Write a program by way of memory: torch's own writer of files would end the process on a full disk."""
    made = BytesIO()
    with quiet_exporter():
        torch.export.save(program, made, extra_files=extra_files)
    place.write_bytes(made.getbuffer())


def program_runner(program: ExportedProgram) -> Runner:
    """Runs a program by torch."""
    module = program.module()

    def run(batch: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [output.numpy() for output in module(torch.from_numpy(batch))]

    return run
