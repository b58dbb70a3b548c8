"""Accuracies of a subset of the samples, as of masked nodes of a graph, that are divided by the number of all."""

from __future__ import annotations

import ast
import io
import math
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from striate.doctor.checks.data.splits.held_out_labels import parts_held_out
from striate.doctor.checks.eval.script_evaluation import MOST_STEPS, has_side_effects, is_accuracy, named_accuracies
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import leaves
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import nodes_in
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.module_calls import forward_hooks
from striate.wording import several

_SURE, _SAME = 20.0, 1e-4


def subset_accuracies(evidence: Evidence) -> Iterator[tuple[int, str]]:
    """Calls of the user's functions whose accuracy, for perfect predictions, is the share of samples in a subset: the
    line, and what was measured."""
    source = evidence.source
    for targets in (t for _, t in leaves(evidence.train.raw[0]) if t.ndim == 1 and t.dtype == torch.long):
        count = len(targets)
        parts = {name: len(held) for _, name, held in parts_held_out(source, count)}
        for node in _evaluations(source) if parts else ():
            for accuracy in _perfect_accuracies(evidence, node, targets):
                for name, size in parts.items():
                    if any(abs(accuracy - scale * size / count) < _SAME * scale for scale in (1, 100)):
                        measured = (
                            f"`{ast.unparse(node)}` gives {accuracy:.4g} as an accuracy though all predictions are "
                            f"right: the {size:,} of `{name}` are divided by all {several(count, 'sample')}"
                        )
                        yield node.lineno, measured
                        return


def _evaluations(source: ScriptSource) -> Iterator[ast.Call]:
    """Calls of the user's functions that run a network, and whose result is assigned to a name for an accuracy."""
    for node in source.nodes():
        functions = source.functions_of(node) if isinstance(node, ast.Call) else []
        made = source.parent(node)
        if not isinstance(node, ast.Call) or len(functions) != 1 or not isinstance(made, ast.Assign):
            continue
        named = any(is_accuracy(ast.unparse(part)) for part in nodes_in(made.targets[0], ast.Name))
        runs = any(source.runs_network(part) for part in ast.walk(functions[0]))
        if named and runs and not has_side_effects(source, functions[0]) and callable(source.value(node.func)):
            yield node


def _perfect_accuracies(evidence: Evidence, node: ast.Call, targets: torch.Tensor) -> list[float]:
    """The accuracies that a function of the user's returns for a network that predicts all targets right; empty where
    it raises, or never runs the network."""
    has_run, model = list[bool](), evidence.setup.model

    def right(_: nn.Module, __: Any, output: Any) -> torch.Tensor:
        fits = isinstance(output, torch.Tensor) and output.ndim == 2 and len(output) == len(targets)
        if not fits or int(targets.min()) < 0 or int(targets.max()) >= output.shape[1]:
            raise NoEvidence("the outputs do not match the targets")
        has_run.append(True)
        one_hot = functional.one_hot(targets, output.shape[1]).to(output)
        return _SURE * (2 * one_hot - 1)

    value = evidence.source.value
    keywords = {word.arg: value(word.value) for word in node.keywords if word.arg}
    evidence.clock.need(MOST_STEPS * evidence.step_seconds)
    try:
        with (
            preserved(model),
            same_random_state(),
            forward_hooks(after=[(model, right)]),
            redirect_stdout(io.StringIO()),
        ):
            returned = value(node.func)(*map(value, node.args), **keywords)
    except Exception:  # the user's function, which may need what is not there
        return []
    named = named_accuracies(evidence.source, node, returned)
    return [number for numbers in named for number in numbers if math.isfinite(number)] if has_run else []
