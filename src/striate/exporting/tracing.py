"""Trace a network as a program of torch.export, from which all formats are written."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.export import ExportedProgram

from striate.errors import ModelError, reason_of
from striate.exporting.traceable import Traceable


def traced_program(network: Traceable) -> ExportedProgram:
    """The network as a program whose input has axes of any length. Raises ModelError for one that cannot be traced."""
    example = network.example()
    free = dict.fromkeys(network.dynamic_axes, torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        network(example)  # tasks compute their constants in the first call, which must not be traced
        try:
            with quiet_exporter():
                program = torch.export.export(
                    network,
                    (example,),
                    dynamic_shapes=(free,),
                    strict=False,
                    prefer_deferred_runtime_asserts_over_guards=True,
                )
            return without_asserts(program) if network.any_side else program
        except Exception as error:  # code of a network raises anything for symbolic sizes
            raise ModelError(
                f"striate export of {type(network.module).__name__}",
                _reason(error),
                "a network whose operations depend neither on values nor, in number, on sizes",
                "use striate predict, which runs the network itself",
            ) from None


def _reason(error: Exception) -> str:
    """The line of the network's code that raised the error, if torch names it, and the first line of torch's message,
    which goes on with advice for programmers of torch."""
    message = str(error).strip()
    first = message.partition("\n")[0].partition(" (unhinted")[0]
    at = re.search(r'call raised this error:\s+File "(.+)", line (\d+), in .+\n\s*(.+)', message)
    return reason_of(error) if at is None else f"{at[3]} ({Path(at[1]).name}, line {at[2]}): {first}"


def without_asserts(program: ExportedProgram) -> ExportedProgram:
    """The program without the assertions that the deepest maps are longer than 1, on which no operation depends."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence torch's exporters, which print progress, warnings about their internals, and the graph up to an error."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.utils._sympy", "torch.fx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
