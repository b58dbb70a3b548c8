"""A network as a program of torch.export, of which all formats are made."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch.export import ExportedProgram

from striate.errors import ModelError, reason_of
from striate.exporting.traceable import Traceable


def traced_program(network: Traceable) -> ExportedProgram:
    """The network as a program whose input has free axes. Raises ModelError for one that cannot be traced."""
    example = network.example()
    free = dict.fromkeys(network.dynamic_axes, torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        network(example)  # what tasks make once for all batches is made of numbers, not while tracing
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
        except Exception as error:  # whatever the code of a network makes of sizes that are not known yet
            raise ModelError(
                f"striate export of {type(network.module).__name__}",
                reason_of(error),
                "a network whose operations depend neither on values nor, in number, on sizes",
                "use striate predict, which runs the network itself",
            ) from None


def without_asserts(program: ExportedProgram) -> ExportedProgram:
    """The program for sides of any length: of the deepest maps the tracer asserts that they are longer than 1, though
    no operation depends on it."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """torch's exporters report their progress, and warn of their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.utils._sympy", "torch.fx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
